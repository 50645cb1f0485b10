//! What shims outlive: a pod's memory, the daemon's service, the daemon itself; and what is left when a shim dies in
//! the middle of a verb.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use copepod_proto::cri;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Daemon, SOON, busybox, run, setting, wait_until};
use crate::request;
use crate::traces::cgroup_parent;

/// A cgroup in every hierarchy that takes processes. Removed on drop, when it is empty.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// `name` below each root: of v1's controllers, or of v2.
    fn make(name: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let roots: Vec<PathBuf> = if top.join("cgroup.procs").exists() {
            vec![top.to_owned()]
        } else {
            let entries = fs::read_dir(top).unwrap().flatten();
            let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
            directories.map(|entry| entry.path()).collect()
        };
        let paths: Vec<PathBuf> = roots.into_iter().map(|root| root.join(name)).collect();
        for path in &paths {
            fs::create_dir_all(path).unwrap();
            // A new cpuset of v1 has neither processors nor memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(above) = fs::read_to_string(path.parent().unwrap().join(file)) {
                    fs::write(path.join(file), above.trim()).unwrap();
                }
            }
        }
        Self(paths)
    }

    fn enter(&self, pid: u32) {
        for path in &self.0 {
            fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    fn processes(&self) -> Vec<Pid> {
        let mut found: Vec<i32> = Vec::new();
        for path in &self.0 {
            let text = fs::read_to_string(path.join("cgroup.procs")).unwrap();
            found.extend(text.lines().map(|line| line.parse::<i32>().unwrap()));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// Whichever file the layout has.
    fn limit_memory(&self, bytes: u64) {
        let files = ["memory.limit_in_bytes", "memory.max"];
        let file = self.0.iter().flat_map(|path| files.map(|file| path.join(file)));
        let file = file.into_iter().find(|file| file.exists());
        fs::write(file.expect("memory is controlled"), bytes.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in &self.0 {
            let _busy_after_a_failure = fs::remove_dir(path);
        }
    }
}

fn cgroups_of(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default()
}

#[test]
fn cve_2019_14891_a_pods_oom_kills_no_shim() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        // As kubelet does it: the pod's cgroup and its limit are the client's, the container itself has none.
        let parent = cgroup_parent(daemon.top());
        let cgroup = Cgroup::make(parent.trim_start_matches('/'));
        cgroup.limit_memory(48 << 20);
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let script = "sleep 0.3; exec tail /dev/zero";
        let hungry = client
            .create(&pod, &config, request::container("hungry", script))
            .await
            .unwrap();
        client.start(&hungry).await.unwrap();
        let shims = daemon.shims_of(&hungry);
        for shim in &shims {
            let cgroups = cgroups_of(*shim);
            assert!(
                !cgroups.contains(&parent),
                "shim {shim:?} is in its pod's cgroup: {cgroups}"
            );
        }
        let status = client.ended(&hungry).await;
        assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137));
        // The log writer has nothing more to write and may have gone; the one that serves has not.
        assert!(daemon.shims_of(&hungry).iter().any(|shim| shims.contains(shim)));
        client.remove(&hungry).await.unwrap();

        let next = client
            .create(&pod, &config, request::container("next", "exec sleep 1000"))
            .await
            .unwrap();
        client.start(&next).await.unwrap();
        assert_eq!(client.output(&next, "echo alive").await, "alive");
        client.remove_pod(&pod).await.unwrap();
    });
    daemon.finish();
}

/// A service manager that stops a service ends everything in its cgroup.
#[test]
fn killing_everything_in_the_daemons_own_cgroup_ends_no_container() {
    // Dropped after the daemon, which lives in it.
    let service = Cgroup::make(&format!("copepod-test-service-{}", std::process::id()));
    let mut daemon = Daemon::start();
    service.enter(daemon.pid());
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let mut config = request::pod(daemon.top());
        let namespaces = cri::NamespaceOption::default();
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        // A shared PID namespace: the pod's own first process has to survive as well.
        security.namespace_options = Some(namespaces.clone());
        let mut spec = request::container("c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
        spec.linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
            .namespace_options = Some(namespaces);
        let (_, container) = client.running(&config, spec).await;
        let before = daemon.shims_of(&container);

        let members = service.processes();
        assert_eq!(
            members,
            [Pid::from_raw(daemon.pid().cast_signed()).unwrap()],
            "only the daemon is in its service"
        );
        for member in members {
            kill_process(member, Signal::KILL).unwrap();
        }
        daemon.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(service.processes().is_empty());
        assert_eq!(daemon.shims_of(&container), before);

        daemon.spawn();
        let mut client = daemon.client().await;
        let status = client.status(&container).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
        assert_eq!(client.output(&container, "echo alive").await, "alive");
        client.stop(&container, 0).await.unwrap();
        let log = fs::read_to_string(&status.log_path).unwrap();
        let numbers = log
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        assert!(
            numbers.enumerate().all(|(nth, number)| nth == number),
            "the log has a gap"
        );
    });
    daemon.finish();
}

/// The delays put the kill into every part of a create: before the shim serves, while it builds, after its answer.
#[test]
fn x3_a_shim_killed_in_the_middle_of_a_create_leaves_nothing() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let before = daemon.traces();
        let mut cut_off = 0;
        for round in 0..16_u64 {
            let name = format!("c{round}");
            let (mut creator, pod, config) = (client.clone(), pod.clone(), config.clone());
            let spec = request::container(&name, "exec sleep 1000");
            let creating = tokio::spawn(async move { creator.create(&pod, &config, spec).await });
            let begun = Instant::now();
            let mut shims = daemon.shims();
            while shims.is_empty() && !creating.is_finished() {
                assert!(begun.elapsed() < SOON, "no shim comes");
                tokio::time::sleep(Duration::from_micros(200)).await;
                shims = daemon.shims();
            }
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            daemon.shims().into_iter().for_each(kill);
            match creating.await.unwrap() {
                Ok(id) => {
                    let status = client.ended(&id).await;
                    let how = (status.exit_code, status.reason.as_str());
                    assert_eq!(how, (255, "Unknown"), "round {round}");
                    client.remove(&id).await.unwrap();
                }
                Err(_reason) => cut_off += 1,
            }
            wait_until("every trace of the create to go", || {
                daemon.traces().since(&before).is_empty()
            });
        }
        assert!(cut_off > 0, "no create was cut off");
        let whole = client
            .create(&pod, &config, request::container("c0", "exec sleep 1000"))
            .await
            .unwrap();
        client.start(&whole).await.unwrap();
        assert_eq!(client.output(&whole, "echo alive").await, "alive");
    });
    daemon.finish();
}

#[test]
fn x3_a_shim_killed_in_the_middle_of_an_exec_ends_the_exec_and_its_processes() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (_, container) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        let mut executor = client.clone();
        let id = container.clone();
        let exec = tokio::spawn(async move { executor.exec_within(&id, "sleep 1001 & exec sleep 1002", 0).await });
        let inside = |what: &str| client_sees(&daemon, what);
        let begun = Instant::now();
        while !(inside("1001") && inside("1002")) {
            assert!(begun.elapsed() < SOON, "the exec does not begin");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        daemon.shims_of(&container).into_iter().for_each(kill);
        let status = exec.await.unwrap().expect_err("nobody knows how the exec ended");
        assert!(begun.elapsed() < SOON, "{status}");
        let ended = client.ended(&container).await;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (255, "Unknown"));
        wait_until("its processes to end", || !inside("1001") && !inside("1002"));
        client.remove(&container).await.unwrap();
        assert!(!daemon.traces().mention(&container), "{:?}", daemon.traces());
    });
    daemon.finish();
}

/// Whether a `sleep` for so many seconds runs in a cgroup of this daemon's pods.
fn client_sees(daemon: &Daemon, seconds: &str) -> bool {
    let parent = cgroup_parent(daemon.top());
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        read("cmdline") == format!("sleep\0{seconds}\0").as_bytes()
            && String::from_utf8_lossy(&read("cgroup")).contains(&parent)
    })
}

fn kill(pid: Pid) {
    // One may end with the other.
    let _gone = kill_process(pid, Signal::KILL);
}

/// A daemon started by hand on the files of one that was killed.
fn serve(daemon: &Daemon, environment: &[(&str, &OsStr)]) -> Child {
    let mut command = Command::new(setting("COPEPOD_BIN"));
    command
        .args(["serve", "--config"])
        .arg(daemon.top().join("config.toml"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.envs(environment.iter().copied());
    command.spawn().unwrap()
}

fn terminate(mut child: Child) -> String {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "SIGTERM is an orderly end: {said}");
    said
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_stops() {
    let mut daemon = Daemon::start();
    daemon.kill();
    let path = daemon.top().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let child = serve(&daemon, &[("NOTIFY_SOCKET", path.as_os_str())]);
    let hear = || {
        let mut message = [0_u8; 256];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert!(hear().lines().any(|line| line == "READY=1"));
    // Ready means that a client that comes now is served.
    daemon.crictl(&["version"]);
    terminate(child);
    assert!(hear().lines().any(|line| line == "STOPPING=1"));
    daemon.finish();
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let mut daemon = Daemon::start();
    daemon.kill();
    let file = daemon.top().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let json = text.replace("[log]\n", "[log]\nformat = \"json\"\n");
    assert_ne!(json, text);
    fs::write(&file, json).unwrap();
    let child = serve(&daemon, &[]);
    wait_until("the socket", || {
        std::os::unix::net::UnixStream::connect(daemon.socket()).is_ok()
    });
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let spec = request::container("c", "exec sleep 1000");
        let (pod, container) = client.running(&request::pod(daemon.top()), spec).await;
        client.status("ffff\n\"quoted\"").await.unwrap_err();
        client.stop(&container, 0).await.unwrap();
        client.remove_pod(&pod).await.unwrap();
    });
    let said = terminate(child);
    assert!(said.lines().count() > 5, "{said}");
    for line in said.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target"] {
            assert!(
                record.get(key).is_some_and(serde_json::Value::is_string),
                "no {key} in {line}"
            );
        }
    }
    fs::write(&file, text).unwrap();
    daemon.finish();
}
