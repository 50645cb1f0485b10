//! The daemon itself: start, stop, its configuration, its neighbours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Daemon, busybox, run, setting};
use crate::request;

#[test]
fn sigterm_leaves_containers_alone() {
    let mut daemon = Daemon::start();
    let container = run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let spec = request::container("c", "exec sleep 1000");
        client.running(&request::pod(daemon.top()), spec).await.1
    });
    let before = daemon.traces();
    assert!(daemon.terminate() < Duration::from_secs(5));
    assert_eq!(daemon.traces(), before);
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        assert_eq!(client.output(&container, "echo alive").await, "alive");
    });
    daemon.finish();
}

#[test]
fn sigterm_leaves_a_pod_without_containers_ready() {
    let mut daemon = Daemon::start();
    let pod = run(async {
        let mut client = daemon.client().await;
        client.run_pod(&request::pod(daemon.top())).await.unwrap()
    });
    let before = daemon.traces();
    daemon.terminate();
    assert_eq!(daemon.traces(), before);
    daemon.spawn();
    run(async {
        let status = daemon.client().await.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), copepod_proto::cri::PodSandboxState::SandboxReady);
    });
    daemon.finish();
}

#[test]
fn a_bad_configuration_stops_the_start_with_every_mistake() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("bad.toml");
    fs::write(&file, "rot = \"/x\"\n[network]\nmode = \"magic\"\n").unwrap();
    let out = Command::new(setting("COPEPOD_BIN"))
        .args(["serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success());
    assert!(
        text.contains("bad.toml:1: rot: no such key") && text.contains("bad.toml:3: network.mode"),
        "{text}"
    );
}

#[test]
fn the_printed_default_is_a_configuration() {
    let out = Command::new(setting("COPEPOD_BIN"))
        .args(["config", "default"])
        .output()
        .unwrap();
    assert!(out.status.success());
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("default.toml");
    fs::write(&file, out.stdout).unwrap();
    assert!(
        Command::new(setting("COPEPOD_BIN"))
            .args(["config", "check", "--config"])
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_second_daemon_on_one_root_says_who_holds_it() {
    let daemon = Daemon::start();
    let out = Command::new(setting("COPEPOD_BIN"))
        .args(["serve", "--config"])
        .arg(daemon.top().join("config.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(
        !out.status.success() && text.contains(&daemon.pid().to_string()),
        "{text}"
    );
    daemon.crictl(&["version"]);
    daemon.finish();
}

#[test]
fn directories_and_sockets_are_closed_to_others() {
    let daemon = Daemon::start();
    let mode = |path: &str| fs::metadata(daemon.top().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("root"), mode("state"), mode("cri.sock")), (0o700, 0o711, 0o660));
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
    });
    // CVE-2021-41103: nothing below may be entered by others.
    for entry in fs::read_dir(daemon.top().join("state")).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
    }
    // CVE-2020-15257: no abstract socket of ours.
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let ours = daemon.top().to_str().unwrap();
    assert!(
        sockets
            .lines()
            .filter(|line| line.contains(ours))
            .all(|line| !line.contains('@'))
    );
    daemon.finish();
}

#[test]
fn two_daemons_never_touch_each_others_things() {
    let mut first = Daemon::start();
    let second = Daemon::start();
    run(async {
        let mut other = second.client().await;
        other.pull(&busybox()).await;
        let (_, theirs) = other
            .running(&request::pod(second.top()), request::container("c", "exec sleep 1000"))
            .await;
        let before = second.traces();
        first.kill();
        first.spawn();
        first.crictl(&["rmp", "--all", "--force"]);
        assert_eq!(second.traces().since(&before), Vec::<String>::new());
        assert_eq!(other.output(&theirs, "echo alive").await, "alive");
    });
    second.finish();
    first.finish();
}
