//! What is whose: two daemons that are given the same directory, socket or bridge, and directories of somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

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

#[test]
fn sigterm_does_not_wait_for_a_patient_stop() {
    let mut daemon = Daemon::start();
    let container = run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let spec = request::container("c", "trap '' TERM; echo up; while :; do sleep 1; done");
        let container = client.running(&request::pod(daemon.top()), spec).await.1;
        // The trap is set some milliseconds after the start.
        let log = daemon.top().join("logs/c.log");
        for _ in 0..500 {
            if fs::read_to_string(&log).is_ok_and(|text| text.contains("up")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        container
    });
    let stop = {
        let (socket, container) = (daemon.socket(), container.clone());
        std::thread::spawn(move || {
            Command::new(setting("CRICTL"))
                .args(["--runtime-endpoint", &format!("unix://{}", socket.display())])
                .args(["--timeout", "90s", "stop", "--timeout", "60", &container])
                .output()
                .unwrap()
        })
    };
    std::thread::sleep(Duration::from_millis(500));
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let out = stop.join().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("shutting down"), "{text}");
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        assert_eq!(client.output(&container, "echo alive").await, "alive");
    });
    daemon.finish();
}

#[test]
fn a_bridge_of_another_daemon_is_neither_used_nor_removed() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.run_pod(&request::pod(daemon.top())).await.unwrap();
    });
    let before = daemon.traces();
    let mut other = Daemon::start_with("");
    other.terminate();
    let name = |daemon: &Daemon| {
        let text = fs::read_to_string(daemon.top().join("config.toml")).unwrap();
        text.lines()
            .find(|line| line.starts_with("bridge = "))
            .unwrap()
            .to_owned()
    };
    let file = other.top().join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&name(&other), &name(&daemon))).unwrap();
    other.spawn();
    let info = other.crictl(&["info"]);
    assert!(
        info.contains("network.builtin.bridge") && info.contains("BuiltinNetworkNotReady"),
        "{info}"
    );
    run(async {
        let refused = other.client().await.run_pod(&request::pod(other.top())).await;
        assert!(refused.unwrap_err().message().contains("not this daemon's"));
    });
    other.terminate();
    assert_eq!(daemon.traces(), before);
    assert_eq!(daemon.crictl(&["pods", "-q"]).lines().count(), 1);
    daemon.terminate();
    daemon.spawn();
    daemon.finish();
}
