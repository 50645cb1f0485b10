//! What a careless operator or an attacker does from outside: files of ours deleted, disks full, processes stopped.

use std::fs;
use std::time::Instant;

use crate::harness::{Daemon, SOON, busybox, run, wait_until};
use crate::request::{container, pod};

/// Yardstick X24: nobody can talk to such a shim any more, and nothing but the start looks for it.
#[test]
fn x24_a_shim_whose_bundle_was_deleted_is_ended_at_the_next_start() {
    let mut daemon = Daemon::start();
    let (pod_id, container_id) = run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = pod(daemon.top());
        client.running(&config, container("c", "sleep 1000")).await
    });
    daemon.kill();
    fs::remove_dir_all(daemon.top().join("state/c").join(&container_id)).unwrap();
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        let status = client.status(&container_id).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    });
    wait_until("the shim's end", || {
        !daemon.traces().mention(&format!("--id {container_id}"))
    });
    run(async { daemon.client().await.remove_pod(&pod_id).await.unwrap() });
    daemon.finish();
}

#[test]
fn x24_a_layer_whose_files_were_deleted_is_fetched_again() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        for layer in fs::read_dir(daemon.top().join("root/layers")).unwrap() {
            fs::remove_dir_all(layer.unwrap().path()).unwrap();
        }
        let config = pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        client.create(&pod, &config, container("c", "true")).await.unwrap_err();
        client.pull(&busybox()).await;
        let container = client.create(&pod, &config, container("c", "exit 7")).await.unwrap();
        client.start(&container).await.unwrap();
        assert_eq!(client.ended(&container).await.exit_code, 7);
    });
    daemon.finish();
}

/// Nobody else ends a probe whose daemon was killed: its time limit was the daemon's to keep.
#[test]
fn a_command_ends_with_its_time_limit_although_the_daemon_was_killed() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = pod(daemon.top());
        let (_, container) = client.running(&config, container("c", "exec sleep 1000")).await;
        let (mut caller, target) = (client.clone(), container.clone());
        let call = tokio::spawn(async move { caller.exec_within(&target, "sleep 777 & sleep 778", 1).await });
        let sleepers = "ps | grep -c '[s]leep 77'; true";
        while client.output(&container, sleepers).await != "2" {}
        daemon.kill();
        call.await.unwrap().unwrap_err();
        daemon.spawn();
        let mut client = daemon.client().await;
        let begun = Instant::now();
        while client.output(&container, sleepers).await != "0" {
            assert!(begun.elapsed() < SOON, "the command and what it started live on");
        }
    });
    daemon.finish();
}

/// kubelet tries again every few seconds until somebody mends the file.
#[test]
fn x17_a_broken_cni_configuration_leaves_no_pods_behind() {
    let conf = tempfile::tempdir().unwrap();
    fs::write(conf.path().join("10.conflist"), "{").unwrap();
    let more = format!("[network.cni]\nconf_dir = {:?}", conf.path());
    let mut daemon = Daemon::start_with(&more);
    let file = daemon.top().join("config.toml");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("mode = \"builtin\"", "mode = \"cni\"");
    fs::write(&file, text).unwrap();
    daemon.terminate();
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        let config = pod(daemon.top());
        for _ in 0..2 {
            let error = client.run_pod(&config).await.unwrap_err();
            assert!(error.message().contains("10.conflist"), "{error}");
        }
    });
    assert_eq!(daemon.crictl(&["pods", "-q"]), "");
    daemon.assert_nothing_left();
    daemon.finish();
}
