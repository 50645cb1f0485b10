//! What is whose: two daemons that are given the same directory, socket or bridge, and directories of somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Daemon, busybox, run, setting};
use crate::request;

/// A daemon's configuration with some of its values replaced, tried; it must not get to serve.
fn refused(daemon: &Daemon, changes: &[(&str, &Path)]) -> String {
    let text = fs::read_to_string(daemon.top().join("config.toml")).unwrap();
    let changed = text.lines().map(|line| {
        let change = changes.iter().find(|(key, _)| line.starts_with(&format!("{key} = ")));
        change.map_or_else(|| format!("{line}\n"), |(key, value)| format!("{key} = {value:?}\n"))
    });
    let file = daemon.top().join("other.toml");
    fs::write(&file, changed.collect::<String>()).unwrap();
    let out = serve(&file);
    assert!(!out.status.success());
    String::from_utf8(out.stderr).unwrap()
}

/// Serves for some seconds at most: a daemon that should have refused must not hang the test.
fn serve(config: &Path) -> Output {
    Command::new("timeout")
        .args(["10", &setting("COPEPOD_BIN"), "serve", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn a_daemon_with_another_root_leaves_a_state_alone() {
    let mut daemon = Daemon::start();
    let container = run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let spec = request::container("c", "exec sleep 1000");
        client.running(&request::pod(daemon.top()), spec).await.1
    });
    let before = daemon.traces();
    let (root, socket) = (daemon.top().join("root2"), daemon.top().join("cri2.sock"));
    let text = refused(&daemon, &[("root", &root), ("socket", &socket)]);
    assert!(
        text.contains(&format!("(pid {})", daemon.pid())) && text.contains("another `state`"),
        "{text}"
    );
    daemon.terminate();
    let text = refused(&daemon, &[("root", &root), ("socket", &socket)]);
    assert!(text.contains(daemon.top().join("root").to_str().unwrap()), "{text}");
    assert_eq!(daemon.traces(), before);
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        assert_eq!(client.output(&container, "echo alive").await, "alive");
    });
    daemon.finish();
}

#[test]
fn a_socket_that_somebody_serves_is_not_taken() {
    let daemon = Daemon::start();
    let (root, state) = (daemon.top().join("root2"), daemon.top().join("state2"));
    let text = refused(&daemon, &[("root", &root), ("state", &state)]);
    assert!(
        text.contains(&format!("(pid {})", daemon.pid())) && text.contains("`cri.socket`"),
        "{text}"
    );
    daemon.crictl(&["version"]);
    daemon.finish();
}

#[test]
fn at_its_end_a_daemon_removes_its_own_socket_only() {
    let mut daemon = Daemon::start();
    fs::rename(daemon.socket(), daemon.top().join("aside.sock")).unwrap();
    let _foreign = UnixListener::bind(daemon.socket()).unwrap();
    daemon.terminate();
    assert!(daemon.socket().exists());
    fs::remove_file(daemon.socket()).unwrap();
    daemon.finish();
}

#[test]
fn a_directory_of_somebody_else_is_refused_as_it_is() {
    let daemon = Daemon::start();
    let foreign = daemon.top().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(foreign.join("letters"), "dear").unwrap();
    let free = daemon.top().join("free");
    for (key, other) in [("root", "state"), ("state", "root")] {
        let text = refused(&daemon, &[(key, &foreign), (other, &free)]);
        assert!(text.contains(&format!("`{key}`")) && text.contains("letters"), "{text}");
        assert_eq!(fs::metadata(&foreign).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!free.exists());
    }
    daemon.finish();
}
