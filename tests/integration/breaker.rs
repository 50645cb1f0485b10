//! What a careless operator or an attacker does from outside: files of ours deleted, disks full, processes stopped.

use std::fs;

use crate::harness::{Daemon, busybox, run, wait_until};
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
