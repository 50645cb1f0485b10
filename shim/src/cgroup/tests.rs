//! On the host's real hierarchies (root needed), in cgroups of our own below `/copepod-test-PID-N`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Cgroup;
use super::error::CgroupError;
use super::exec::ExecCgroup;
use super::file::{read, write};
use super::join::Birth;
use super::layout::Layout;
use super::remove::Removal;
use crate::oom::{Baseline, Verdict};
use crate::plan::resources::{Cpu, Memory, Pids, Resources};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A parent cgroup that goes away with everything in it, also when a test fails.
struct Scratch {
    layout: Layout,
    name: String,
}

impl Scratch {
    fn new(layout: Layout) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            layout,
            name: format!("/copepod-test-{}-{number}", std::process::id()),
        }
    }

    fn host() -> Self {
        Self::new(Layout::detect().unwrap())
    }

    fn path(&self) -> String {
        format!("{}/pod/one", self.name)
    }

    fn create(&self, resources: &Resources) -> Cgroup {
        Cgroup::create(&self.layout, &self.path(), resources).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = Cgroup::open(&self.layout, &self.name).unwrap();
        parent.kill_all().unwrap();
        parent.remove().unwrap();
        assert_eq!(
            Cgroup::open(&self.layout, &self.name).unwrap().directories().count(),
            0,
            "left behind"
        );
    }
}

/// The host's layout; the same without the v2 hierarchy that may stand beside v1; then that hierarchy alone, below `root`
/// as if it were all of it.
fn layouts(root: &V2Root) -> Vec<Layout> {
    let host = Layout::detect().unwrap();
    let mut layouts = vec![host.clone()];
    if !host.is_v2() {
        layouts.push(Layout { unified: None, ..host });
    }
    layouts.extend(root.0.as_ref().map(Layout::v2));
    layouts
}

/// A part of the real v2 hierarchy: what is above it is not ours to change. `None` where there is none.
struct V2Root(Option<PathBuf>);

impl V2Root {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside_v1 = Path::new("/sys/fs/cgroup/unified");
        let root = beside_v1.join(format!("copepod-test-{}-v2-{number}", std::process::id()));
        Self(fs::create_dir(&root).is_ok().then_some(root))
    }
}

impl Drop for V2Root {
    fn drop(&mut self) {
        if let Some(root) = &self.0 {
            fs::remove_dir(root).unwrap();
        }
    }
}

/// A shell that moves into the directories and then runs `script`.
fn shell<'d>(dirs: impl Iterator<Item = &'d Path>, script: &str) -> Child {
    let script = format!("for d; do echo 0 > $d/cgroup.procs || exit 99; done; {script}");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .args(dirs)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn pause() {
    let pause = rustix::thread::Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    drop(rustix::thread::nanosleep(&pause));
}

/// Kills until nothing is left, for at most 2 s.
fn kill_all(pass: impl Fn() -> Result<usize, CgroupError>) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while pass().unwrap() > 0 {
        assert!(Instant::now() < deadline, "still alive");
        pause();
    }
}

/// Removes once the dead have left, for at most 5 s.
fn remove(attempt: impl Fn() -> Result<Removal, CgroupError>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while attempt().unwrap() == Removal::Busy {
        assert!(Instant::now() < deadline, "still busy");
        pause();
    }
}

/// The blocking forms, for tests here and elsewhere; the product waits without blocking (`ops/cleanup.rs`).
impl Cgroup {
    pub(crate) fn kill_all(&self) -> Result<(), CgroupError> {
        kill_all(|| self.kill_pass());
        Ok(())
    }

    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        remove(|| self.try_remove());
        Ok(())
    }
}

/// Waits until so many processes are in the cgroup.
fn await_pids(count: usize, pids: impl Fn() -> usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids() < count {
        assert!(Instant::now() < deadline, "{} of {count} processes", pids());
        pause();
    }
}

fn v1_dir(cgroup: &Cgroup, controller: &str) -> PathBuf {
    cgroup
        .v1
        .iter()
        .find(|directory| directory.has(controller))
        .unwrap()
        .path
        .clone()
}

fn limits() -> Resources {
    Resources {
        cpu: Some(Cpu {
            shares: Some(256),
            quota: Some(20_000),
            period: Some(100_000),
            ..Cpu::default()
        }),
        memory: Some(Memory {
            limit: Some(64 << 20),
            ..Memory::default()
        }),
        pids: Some(Pids { limit: 40 }),
        ..Resources::default()
    }
}

#[test]
fn create_limits_and_remove_leave_nothing() {
    let scratch = Scratch::host();
    let cgroup = scratch.create(&limits());
    if !scratch.layout.is_v2() {
        assert_eq!(read(&v1_dir(&cgroup, "cpu").join("cpu.shares")).unwrap(), "256");
        assert_eq!(read(&v1_dir(&cgroup, "cpu").join("cpu.cfs_quota_us")).unwrap(), "20000");
        assert_eq!(
            read(&v1_dir(&cgroup, "memory").join("memory.limit_in_bytes")).unwrap(),
            "67108864"
        );
        assert_eq!(
            read(&v1_dir(&cgroup, "memory").join("memory.memsw.limit_in_bytes")).unwrap(),
            "67108864"
        );
        assert_eq!(read(&v1_dir(&cgroup, "pids").join("pids.max")).unwrap(), "40");
        assert_ne!(
            read(&v1_dir(&cgroup, "cpuset").join("cpuset.cpus")).unwrap(),
            "",
            "seeded from the parents"
        );
    }
    assert_eq!(cgroup.try_remove().unwrap(), Removal::Gone);
    assert_eq!(cgroup.try_remove().unwrap(), Removal::Gone, "again");
    assert_eq!(cgroup.oom_kills().unwrap(), 0, "after removal");
    assert_eq!(cgroup.kill_pass().unwrap(), 0, "after removal");
}

#[test]
fn limits_can_be_raised_and_lowered_in_any_order() {
    let scratch = Scratch::host();
    let mut cgroup = scratch.create(&Resources::default());
    for limit in [64 << 20, 16 << 20, 256 << 20, -1, 32 << 20] {
        let memory = Memory {
            limit: Some(limit),
            ..Memory::default()
        };
        cgroup = cgroup
            .limit(&Resources {
                memory: Some(memory),
                ..Resources::default()
            })
            .unwrap();
    }
}

#[test]
fn devices_are_denied_unless_listed() {
    let root = V2Root::new();
    for layout in layouts(&root) {
        let scratch = Scratch::new(layout);
        let rules = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}"#;
        let resources: Resources = serde_json::from_str(rules).unwrap();
        let cgroup = scratch.create(&resources);
        if !scratch.layout.is_v2() {
            assert_eq!(
                read(&v1_dir(&cgroup, "devices").join("devices.list")).unwrap(),
                "c 1:3 rw"
            );
        }
        let node = env::temp_dir().join(format!("copepod-test-node-{}", std::process::id()));
        let script = format!(
            "cat /dev/null > /dev/null && ! head -c1 /dev/zero && ! mknod {0} c 1 3 && ! rm {0}",
            node.display()
        );
        let tried = shell(cgroup.directories(), &script).wait().unwrap();
        assert!(tried.success(), "{tried}");
    }
}

#[test]
fn a_privileged_containers_devices_are_open() {
    let root = V2Root::new();
    for layout in layouts(&root) {
        let scratch = Scratch::new(layout);
        let resources: Resources = serde_json::from_str(r#"{"devices": [{"allow": true}]}"#).unwrap();
        let tried = shell(scratch.create(&resources).directories(), "head -c1 /dev/zero")
            .wait()
            .unwrap();
        assert!(tried.success(), "{tried}");
    }
}

#[test]
fn a_failed_create_leaves_nothing_not_even_parents() {
    let scratch = Scratch::host();
    // The kernel refuses a period above a second.
    let cpu = Cpu {
        quota: Some(1000),
        period: Some(9_000_000),
        ..Cpu::default()
    };
    let error = Cgroup::create(
        &scratch.layout,
        &scratch.path(),
        &Resources {
            cpu: Some(cpu),
            ..Resources::default()
        },
    );
    let error = error.unwrap_err();
    assert!(matches!(error, CgroupError::Write { .. }), "{error}");
    assert_eq!(
        Cgroup::open(&scratch.layout, &scratch.name)
            .unwrap()
            .directories()
            .count(),
        0
    );
    let swappiness: Resources = serde_json::from_str(r#"{"memory": {"swappiness": 5}}"#).unwrap();
    let error = Cgroup::create(&scratch.layout, &scratch.path(), &swappiness).unwrap_err();
    assert!(
        matches!(
            error,
            CgroupError::NotBuilt {
                what: "linux.resources.memory.swappiness"
            }
        ),
        "{error}"
    );
}

#[test]
fn a_used_name_is_refused_and_an_empty_leftover_replaced() {
    let scratch = Scratch::host();
    let cgroup = scratch.create(&limits());
    let replaced = scratch.create(&Resources::default());
    if !scratch.layout.is_v2() {
        assert_eq!(
            read(&v1_dir(&replaced, "pids").join("pids.max")).unwrap(),
            "max",
            "a new one"
        );
    }
    let mut child = shell(cgroup.directories(), "exec sleep 60");
    await_pids(1, || cgroup.pids().unwrap().len());
    let error = Cgroup::create(&scratch.layout, &scratch.path(), &Resources::default()).unwrap_err();
    assert!(matches!(error, CgroupError::Occupied { .. }), "{error}");
    assert_eq!(cgroup.try_remove().unwrap(), Removal::Busy);
    cgroup.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn kill_all_ends_what_forks_daemonises_hides_below_or_is_frozen() {
    let root = V2Root::new();
    for layout in layouts(&root) {
        let scratch = Scratch::new(layout);
        let pids = (!scratch.layout.is_v2()).then_some(Pids { limit: 60 });
        let cgroup = scratch.create(&Resources {
            pids,
            ..Resources::default()
        });
        // Bounded without a limit too.
        let script = "i=0; while [ $i -lt 200 ]; do i=$((i + 1)); (setsid sleep 60 &); done; exec sleep 60";
        let mut bomb = shell(cgroup.directories(), script);
        await_pids(20, || cgroup.pids().unwrap().len());
        let below: Vec<PathBuf> = cgroup.directories().map(|dir| dir.join("made/by/workload")).collect();
        for dir in &below {
            fs::create_dir_all(dir).unwrap();
        }
        let cpuset = cgroup.v1.iter().find(|directory| directory.has("cpuset"));
        if let Some(cpuset) = cpuset {
            super::v1::seed_cpuset(&cpuset.hierarchy.root, &cpuset.path.join("made/by/workload")).unwrap();
        }
        let mut hidden = shell(below.iter().map(PathBuf::as_path), "exec sleep 60");
        await_pids(1, || {
            cgroup
                .pids()
                .unwrap()
                .iter()
                .filter(|pid| pid.cast_unsigned() == hidden.id())
                .count()
        });
        if cgroup.v1.iter().any(|directory| directory.has("freezer")) {
            write(&v1_dir(&cgroup, "freezer").join("freezer.state"), "FROZEN").unwrap();
        }
        cgroup.kill_all().unwrap();
        bomb.wait().unwrap();
        hidden.wait().unwrap();
        cgroup.remove().unwrap();
    }
}

#[test]
fn an_execs_processes_are_killed_and_the_containers_are_not() {
    let root = V2Root::new();
    for layout in layouts(&root) {
        let scratch = Scratch::new(layout);
        let cgroup = scratch.create(&Resources::default());
        let mut main = shell(cgroup.directories(), "exec sleep 60");
        await_pids(1, || cgroup.pids().unwrap().len());
        let exec = cgroup.exec_child(7).unwrap();
        let again = cgroup.exec_child(7).unwrap_err();
        assert!(matches!(again, CgroupError::Create { .. }), "{again}");
        let mut probe = shell(exec_directories(&exec), "sleep 60 & (setsid sleep 60 &); exec sleep 60");
        // Shells come and go until three are left; the container counts them and its own.
        await_pids(1, || {
            usize::from(exec.target().pids().unwrap().len() == 3 && cgroup.pids().unwrap().len() == 4)
        });
        assert_eq!(exec.try_remove().unwrap(), Removal::Busy);
        kill_all(|| exec.kill_pass());
        probe.wait().unwrap();
        remove(|| exec.try_remove());
        assert_eq!(main.try_wait().unwrap(), None, "the container lives");
        cgroup.kill_all().unwrap();
        main.wait().unwrap();
    }
}

fn exec_directories(exec: &ExecCgroup) -> impl Iterator<Item = &Path> {
    exec.v1
        .iter()
        .map(|directory| directory.path.as_path())
        .chain(exec.unified.as_deref())
}

#[test]
fn out_of_memory_is_told_from_other_kills() {
    let scratch = Scratch::host();
    let memory = Memory {
        limit: Some(16 << 20),
        ..Memory::default()
    };
    let cgroup = scratch.create(&Resources {
        memory: Some(memory),
        ..Resources::default()
    });
    let before = Baseline::take(&cgroup).unwrap();
    let mut killed = shell(cgroup.directories(), "kill -9 $$");
    killed.wait().unwrap();
    assert_eq!(before.verdict(&cgroup, 137).unwrap(), Verdict::NotOom);
    let mut hungry = shell(cgroup.directories(), "exec tail /dev/zero");
    assert!(!hungry.wait().unwrap().success());
    assert_eq!(before.verdict(&cgroup, 137).unwrap(), Verdict::OomKilled);
    assert_eq!(
        before.verdict(&cgroup, 1).unwrap(),
        Verdict::NotOom,
        "it ended by itself"
    );
    let later = Baseline::take(&cgroup).unwrap();
    assert_eq!(later.verdict(&cgroup, 137).unwrap(), Verdict::NotOom);
}

const CHILD: &str = "COPEPOD_TEST_JOIN";

/// Moves itself, so it needs a process of its own: run by the test below.
#[test]
#[ignore = "run in a process of its own by joining_moves_the_process"]
fn joins_and_says_where_it_is() {
    let Ok(path) = env::var(CHILD) else { return };
    let cgroup = Cgroup::open(&Layout::detect().unwrap(), &path).unwrap();
    cgroup.join_handles().unwrap().join_self(Birth::Outside).unwrap();
    println!("{}", fs::read_to_string("/proc/thread-self/cgroup").unwrap());
}

#[test]
fn joining_moves_the_process() {
    let scratch = Scratch::host();
    let cgroup = scratch.create(&limits());
    let handles = cgroup.join_handles().unwrap();
    assert_eq!(handles.clone_into().is_some(), scratch.layout.unified.is_some());
    let this = [
        "--exact",
        "cgroup::tests::joins_and_says_where_it_is",
        "--ignored",
        "--nocapture",
    ];
    let out = Command::new(env::current_exe().unwrap())
        .args(this)
        .env(CHILD, scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let joined = text
        .lines()
        .filter(|line| line.ends_with(&format!(":{}", scratch.path())))
        .count();
    assert_eq!(joined, cgroup.directories().count(), "{text}");
}

#[test]
fn joining_a_removed_cgroup_is_an_error_that_names_the_hierarchy() {
    let scratch = Scratch::host();
    let cgroup = scratch.create(&Resources::default());
    let handles = cgroup.join_handles().unwrap();
    cgroup.remove().unwrap();
    let error = handles.join_self(Birth::Inside).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(libc::ENODEV), "{error}");
    assert!(!error.hierarchy.is_empty(), "{error}");
    assert!(matches!(cgroup.join_handles().unwrap_err(), CgroupError::Open { .. }));
}
