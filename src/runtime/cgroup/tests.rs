use std::process::{Child, Command};
use std::time::Instant;

use super::*;

fn fake_v2(root: &Path) -> Cgroups {
    Cgroups {
        v1: Vec::new(),
        unified: Some(root.to_owned()),
    }
}

/// A cgroup of this test alone; removed with whatever is in it.
struct Scratch {
    cgroups: Cgroups,
    id: ContainerId,
    path: String,
}

impl Scratch {
    fn new(name: &str) -> Self {
        let cgroups = Cgroups::detect().unwrap();
        let id = ContainerId::generate();
        let path = format!("/copepod-test-{name}-{}/{id}", std::process::id());
        cgroups.make(&path).unwrap();
        Self { cgroups, id, path }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.cgroups.container(&self.id, &self.path).unwrap()
    }

    fn run(&self, script: &str) -> Child {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        for dir in self.dirs() {
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        child
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.cgroups.kill(&self.id, &self.path).unwrap();
        self.cgroups.remove(&self.id, &self.path).unwrap();
        self.cgroups.unmake(self.path.rsplit_once('/').unwrap().0).unwrap();
    }
}

#[test]
fn only_paths_that_name_the_container_are_touched() {
    let top = tempfile::tempdir().unwrap();
    let cgroups = fake_v2(top.path());
    let id = ContainerId::generate();
    for path in [
        "/".to_owned(),
        String::new(),
        "/system.slice".to_owned(),
        format!("/{id}/.."),
        format!("/{id}/child"),
        "//".to_owned(),
        format!("a/{id}"),
        format!("/a/../{id}"),
        format!("/{}", ContainerId::generate()),
    ] {
        assert!(cgroups.kill(&id, &path).is_err(), "{path}");
        assert!(cgroups.remove(&id, &path).is_err(), "{path}");
    }
    cgroups.kill(&id, &format!("/pods/{id}")).unwrap();
    cgroups.remove(&id, &format!("/pods/{id}")).unwrap();
}

#[test]
fn reads_v2_counters() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("c");
    fs::create_dir(&dir).unwrap();
    for (name, text) in [
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
        (
            "memory.stat",
            "anon 4096\nfile 100\ninactive_file 50\npgfault 7\npgmajfault 2\n",
        ),
        ("memory.current", "5000\n"),
        ("memory.max", "max\n"),
        ("pids.current", "3\n"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    let mut stats = fake_v2(top.path()).stats("/c").unwrap();
    assert!(stats.at > 0);
    stats.at = 0;
    let expected = CgroupStats {
        cpu_ns: 1_500_000,
        memory_bytes: 5000,
        working_set_bytes: 4950,
        rss_bytes: 4096,
        page_faults: 7,
        major_page_faults: 2,
        pids: 3,
        ..CgroupStats::default()
    };
    assert_eq!(stats, expected);
    fs::write(dir.join("memory.max"), "8192\n").unwrap();
    fs::write(dir.join("memory.swap.current"), "11\n").unwrap();
    let stats = fake_v2(top.path()).stats("/c").unwrap();
    assert_eq!((stats.limit_bytes, stats.swap_bytes), (Some(8192), Some(11)));
}

#[test]
fn a_cgroup_that_is_gone_is_an_error_not_a_zero() {
    let cgroups = Cgroups::detect().unwrap();
    let error = cgroups.stats("/copepod-test-never-made").unwrap_err();
    assert!(matches!(error, CgroupError::Io { .. }), "{error}");
}

#[test]
fn kills_what_forks_what_is_frozen_and_what_sits_below() {
    let scratch = Scratch::new("kill");
    let mut busy = scratch.run("trap '' TERM INT HUP; while :; do sleep 100 & sleep 0.001; done");
    for dir in scratch.dirs() {
        fs::create_dir(dir.join("below")).unwrap();
        fill_cpuset(&dir.join("below")).unwrap();
    }
    let mut below = Command::new("sleep").arg("100").spawn().unwrap();
    for dir in scratch.dirs() {
        fs::write(dir.join("below/cgroup.procs"), below.id().to_string()).unwrap();
        if dir.join("freezer.state").exists() {
            fs::write(dir.join("below/freezer.state"), "FROZEN").unwrap();
        }
    }
    let begun = Instant::now();
    scratch.cgroups.kill(&scratch.id, &scratch.path).unwrap();
    println!("killed in {:?}", begun.elapsed());
    busy.wait().unwrap();
    below.wait().unwrap();
    assert!(scratch.cgroups.processes(&scratch.path).unwrap().is_empty());
    scratch.cgroups.remove(&scratch.id, &scratch.path).unwrap();
    assert!(scratch.dirs().iter().all(|dir| !dir.exists()));
}

#[test]
fn counts_what_a_process_uses() {
    let scratch = Scratch::new("stats");
    let mut child = scratch.run("x=$(head -c 3000000 /dev/zero | tr '\\0' x); sleep 100; echo $x");
    let until = Instant::now() + std::time::Duration::from_secs(5);
    let stats = loop {
        let stats = scratch.cgroups.stats(&scratch.path).unwrap();
        if stats.rss_bytes > 1_000_000 || Instant::now() > until {
            break stats;
        }
    };
    assert!(
        stats.rss_bytes > 1_000_000 && stats.memory_bytes >= stats.working_set_bytes,
        "{stats:?}"
    );
    assert!(
        stats.cpu_ns > 0 && stats.pids >= 1 && stats.page_faults > 0,
        "{stats:?}"
    );
    assert_eq!(stats.limit_bytes, None);
    let begun = Instant::now();
    for _ in 0..100 {
        scratch.cgroups.stats(&scratch.path).unwrap();
    }
    println!("one reading takes {:?}", begun.elapsed() / 100);
    scratch.cgroups.kill(&scratch.id, &scratch.path).unwrap();
    child.wait().unwrap();
}
