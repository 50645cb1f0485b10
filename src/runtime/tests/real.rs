//! The driver against the real shim, with a busybox for a container. Needs root, /bin/busybox and a built shim:
//! `cargo build -p copepod-shim`, or the environment's COPEPOD_SHIM.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;

/// The shim of COPEPOD_SHIM, or the one beside the test's own binary (target/debug/deps/..). A test that cannot run fails:
/// one that passed without having run would lie.
fn shim() -> PathBuf {
    let built = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("containerd-shim-copepod-v1");
    let shim = std::env::var_os("COPEPOD_SHIM").map_or(built, PathBuf::from);
    assert!(rustix::process::geteuid().is_root(), "cannot run without root");
    assert!(
        Path::new("/bin/busybox").exists(),
        "cannot run without /bin/busybox: install the package busybox-static"
    );
    assert!(
        shim.exists(),
        "cannot run without the shim {}: cargo build -p copepod-shim, or set COPEPOD_SHIM",
        shim.display()
    );
    shim
}

struct Host {
    top: tempfile::TempDir,
    config: Config,
    runtime: Runtime,
    exits: UnboundedReceiver<TaskExit>,
}

impl Host {
    async fn new(name: &str) -> Self {
        let shim = shim();
        let top = tempfile::tempdir_in("/tmp").unwrap();
        let bin = top.path().join("lower/bin");
        for dir in ["lower/bin", "lower/proc", "lower/dev", "upper", "work", "log"] {
            fs::create_dir_all(top.path().join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "echo", "true", "cat"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let config = Config {
            shim,
            state: top.path().join("s"),
            instance: format!("test-{name}-{}", std::process::id()),
            force_fallbacks: Vec::new(),
        };
        let (runtime, exits) = Runtime::open(config.clone()).await.unwrap();
        Self {
            top,
            config,
            runtime,
            exits,
        }
    }

    /// As after a restart of the daemon: nothing is known but what lies on disk.
    async fn restart(&mut self) {
        let (runtime, exits) = Runtime::open(self.config.clone()).await.unwrap();
        self.runtime = runtime;
        self.exits = exits;
    }

    fn build(&self, id: &ContainerId, args: &[&str]) -> Build {
        let process = process(args);
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": process,
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
                "cgroupsPath": format!("/copepod-{}/{id}", self.config.instance),
            },
        });
        let option = |name: &str, dir: &str| format!("{name}={}", self.top.path().join(dir).display());
        Build {
            id: id.clone(),
            spec: spec.to_string().into_bytes(),
            rootfs: FsMount {
                fstype: "overlay".into(),
                source: "overlay".into(),
                options: vec![
                    option("lowerdir", "lower"),
                    option("upperdir", "upper"),
                    option("workdir", "work"),
                ],
            },
            stdio: Stdio {
                log: Some((self.top.path().join("log"), "c/0.log".into())),
                ..Stdio::default()
            },
        }
    }

    async fn run(&self, script: &str) -> (ContainerId, Arc<Task>) {
        let id = ContainerId::generate();
        let task = self
            .runtime
            .create(self.build(&id, &["/bin/sh", "-c", script]))
            .await
            .unwrap();
        task.start().await.unwrap();
        (id, task)
    }

    async fn exit(&mut self) -> TaskExit {
        timeout(SOON, self.exits.recv()).await.unwrap().unwrap()
    }

    fn cgroup(&self, id: &ContainerId) -> String {
        self.runtime.bundle_cgroup(id).unwrap()
    }

    /// Everything is given back: directories, mounts, cgroups.
    async fn finish(&self) {
        let until = Instant::now() + SOON;
        // Shims that were told to end take some milliseconds.
        while !self
            .runtime
            .cgroups
            .processes(&self.runtime.shims_cgroup())
            .unwrap()
            .is_empty()
        {
            assert!(Instant::now() < until, "a shim is left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(self.runtime.bundles().unwrap().is_empty());
        self.runtime.close().unwrap();
        let top = self.top.path().to_str().unwrap().to_owned();
        assert!(
            !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&top),
            "a mount is left"
        );
        let ours = format!("/sys/fs/cgroup/memory/copepod-{}", self.config.instance);
        assert!(!Path::new(&ours).exists(), "a cgroup is left");
    }
}

/// A test that failed half-way leaves nothing either.
impl Drop for Host {
    fn drop(&mut self) {
        for id in self.runtime.bundles().unwrap_or_default() {
            let cgroup = self.runtime.bundle_cgroup(&id).unwrap_or_default();
            self.runtime.cgroups.kill(&id, &cgroup).ok();
            self.runtime.cgroups.remove(&id, &cgroup).ok();
            fs::remove_dir_all(self.runtime.bundle(&id)).ok();
        }
        let shims = self.runtime.shims_cgroup();
        for pid in self.runtime.cgroups.processes(&shims).unwrap_or_default() {
            rustix::process::Pid::from_raw(pid)
                .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok());
        }
        let until = Instant::now() + SOON;
        while Instant::now() < until && !self.runtime.cgroups.processes(&shims).unwrap_or_default().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.runtime.close().ok();
    }
}

fn process(args: &[&str]) -> serde_json::Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {"bounding": [], "effective": [], "permitted": []},
    })
}

fn command(args: &[&str]) -> ExecSpec {
    ExecSpec {
        process: process(args).to_string().into_bytes(),
        stdin: false,
    }
}

#[tokio::test]
async fn a_container_lives_from_create_to_cleanup() {
    let mut host = Host::new("life").await;
    let id = ContainerId::generate();
    let begun = Instant::now();
    let task = host
        .runtime
        .create(host.build(&id, &["/bin/sh", "-c", "echo hello; exit 7"]))
        .await
        .unwrap();
    let created = begun.elapsed();
    let (pid, started_at) = task.start().await.unwrap();
    println!("create {created:?}, start {:?}", begun.elapsed() - created);
    assert!(pid > 1 && started_at > Timestamp(1));
    let end = host.exit().await;
    let ended = end.exit.unwrap();
    assert_eq!(
        (end.id, ended.code, ended.started_at, ended.start_error),
        (id.clone(), 7, started_at, None)
    );
    let log = fs::read_to_string(host.top.path().join("log/c/0.log")).unwrap();
    assert!(log.ends_with("stdout F hello\n"), "{log}");
    let begun = Instant::now();
    task.delete().await.unwrap();
    let cgroup = host.cgroup(&id);
    host.runtime.cleanup(&id, &cgroup).await.unwrap();
    println!("delete and cleanup {:?}", begun.elapsed());
    host.finish().await;
}

#[tokio::test]
async fn execs_run_inside_and_leave_nothing() {
    let host = Host::new("exec").await;
    let (id, task) = host.run("sleep 1000").await;
    let script = "echo out; echo err >&2; cat /proc/1/comm; exit 5";
    let output = task
        .exec_collect(command(&["/bin/sh", "-c", script]), Some(SOON), 1000)
        .await
        .unwrap();
    assert_eq!(
        (output.code, output.stdout.as_slice(), output.stderr.as_slice()),
        (5, &b"out\nsleep\n"[..], &b"err\n"[..])
    );
    let missing = task
        .exec_collect(command(&["/bin/nope"]), Some(SOON), 1000)
        .await
        .unwrap_err();
    assert!(
        matches!(missing, RuntimeError::Refused { .. }) && missing.to_string().contains("nope"),
        "{missing}"
    );
    let hung = command(&["/bin/sh", "-c", "sleep 4321 & sleep 4322"]);
    let error = task
        .exec_collect(hung, Some(Duration::from_millis(300)), 1000)
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        task.exec_collect(command(&["/bin/true"]), Some(SOON), 1000)
            .await
            .unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("exec: median {:?}, p90 {:?}", times[25], times[45]);
    let stats = host.runtime.stats(&host.cgroup(&id)).unwrap();
    // The shell and its sleep: what the time-out killed is gone, in the background too.
    assert!(stats.pids <= 2 && stats.memory_bytes > 0, "{stats:?}");
    host.runtime.cleanup(&id, &host.cgroup(&id)).await.unwrap();
    host.finish().await;
}

#[tokio::test]
async fn what_runs_and_what_ended_is_found_again_after_a_restart() {
    let mut host = Host::new("adopt").await;
    let (running, _task) = host.run("sleep 1000").await;
    let (short, _task) = host.run("exit 9").await;
    let created = ContainerId::generate();
    host.runtime.create(host.build(&created, &["/bin/true"])).await.unwrap();
    assert_eq!(host.exit().await.exit.unwrap().code, 9);
    host.restart().await;
    let mut found = host.runtime.bundles().unwrap();
    found.sort();
    let mut expected = vec![running.clone(), short.clone(), created.clone()];
    expected.sort();
    assert_eq!(found, expected);
    let Adopted::Running(task, pid, _) = host.runtime.adopt(&running).await.unwrap() else {
        panic!("not running")
    };
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(matches!(
        host.runtime.adopt(&created).await.unwrap(),
        Adopted::Created(_)
    ));
    assert!(matches!(
        host.runtime.adopt(&short).await.unwrap(),
        Adopted::Ended(TaskEnd { code: 9, .. })
    ));
    task.kill().await.unwrap();
    let end = host.exit().await;
    assert_eq!((end.id, end.exit.unwrap().code), (running.clone(), 137));
    for id in [running, short, created] {
        host.runtime.cleanup(&id, &host.cgroup(&id)).await.unwrap();
    }
    host.finish().await;
}

#[tokio::test]
async fn a_killed_shim_loses_its_container_and_a_hung_one_does_not_stop_the_cleanup() {
    let mut host = Host::new("dead").await;
    let (id, _task) = host.run("sleep 1000").await;
    let shim = read_shim(&host.runtime.bundle(&id)).unwrap();
    let pid = rustix::process::Pid::from_raw(shim.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(
        host.exit().await,
        TaskExit {
            id: id.clone(),
            exit: None
        }
    );
    let cgroup = host.cgroup(&id);
    assert_eq!(host.runtime.cgroups.processes(&cgroup).unwrap(), Vec::<i32>::new());
    host.restart().await;
    assert!(matches!(host.runtime.adopt(&id).await.unwrap(), Adopted::Lost));
    host.runtime.cleanup(&id, &cgroup).await.unwrap();

    let (id, task) = host.run("trap '' TERM; while :; do sleep 1; done").await;
    let shim = read_shim(&host.runtime.bundle(&id)).unwrap();
    let pid = rustix::process::Pid::from_raw(shim.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // The pid file is gone too: the shim is found by its cgroup and arguments.
    fs::remove_file(host.runtime.bundle(&id).join("shim.pid")).unwrap();
    let begun = Instant::now();
    task.kill().await.unwrap();
    let cgroup = host.cgroup(&id);
    host.runtime.cleanup(&id, &cgroup).await.unwrap();
    println!("kill and cleanup beside a stopped shim {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert_eq!(host.exit().await.id, id);
    host.finish().await;
}

#[tokio::test]
async fn what_cannot_be_built_or_started_leaves_nothing() {
    let mut host = Host::new("fail").await;
    let id = ContainerId::generate();
    let mut build = host.build(&id, &["/bin/true"]);
    build.rootfs.options = vec!["lowerdir=/nonexistent".into()];
    let error = host.runtime.create(build).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Refused { .. }), "{error}");
    assert!(host.runtime.bundles().unwrap().is_empty());
    let task = host.runtime.create(host.build(&id, &["/bin/nope"])).await.unwrap();
    let error = task.start().await.unwrap_err();
    assert!(error.start_error().is_some_and(|text| text.contains("nope")), "{error}");
    let end = host.exit().await.exit.unwrap();
    assert!(end.code == 128 && end.start_error.is_some());
    host.runtime.cleanup(&id, &host.cgroup(&id)).await.unwrap();
    host.finish().await;
}

#[tokio::test]
async fn namespaces_are_pinned_and_unpinned() {
    let host = Host::new("pin").await;
    let dir = host.top.path().join("s/ns");
    let pin = Pin {
        net: Some(dir.join("net")),
        ipc: Some(dir.join("ipc")),
        uts: Some((dir.join("uts"), "pod-name".into())),
        sysctls: BTreeMap::from([("kernel.shm_rmid_forced".into(), "1".into())]),
    };
    let begun = Instant::now();
    host.runtime.pin(&pin).await.unwrap();
    println!("pin {:?}", begun.elapsed());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let pinned = table
        .lines()
        .filter(|line| line.contains(dir.to_str().unwrap()) && line.contains("nsfs"));
    assert_eq!(pinned.count(), 3);
    for path in ["net", "ipc", "uts"] {
        host.runtime.unpin(&dir.join(path)).await.unwrap();
        host.runtime.unpin(&dir.join(path)).await.unwrap();
    }
    let bad = Pin {
        sysctls: BTreeMap::from([("kernel.no_such_thing".into(), "1".into())]),
        ..pin
    };
    let error = host.runtime.pin(&bad).await.unwrap_err();
    assert!(error.to_string().contains("no_such_thing"), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    host.finish().await;
}
