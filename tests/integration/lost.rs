//! Nothing lost (yardstick §3): the daemon or a shim is killed at many points, and afterwards the truth is told,
//! everything that was promised is there and nothing else is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use copepod_proto::cri;

use crate::harness::{Client, Daemon, busybox, run};
use crate::request;

#[test]
fn x1_a_killed_daemon_comes_back_to_running_containers_without_a_gap_in_their_logs() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
        let (pod, container) = client
            .running(&request::pod(daemon.top()), request::container("c", script))
            .await;
        let path = client.status(&container).await.unwrap().log_path;
        for _ in 0..5 {
            daemon.kill();
            tokio::time::sleep(Duration::from_millis(100)).await;
            daemon.spawn();
            let mut client = daemon.client().await;
            let status = client.status(&container).await.unwrap();
            assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
            assert_eq!(
                client.pod_status(&pod).await.unwrap().state(),
                cri::PodSandboxState::SandboxReady
            );
            assert_eq!(client.output(&container, "echo alive").await, "alive");
        }
        let mut client = daemon.client().await;
        client.stop(&container, 0).await.unwrap();
        let log = fs::read_to_string(path).unwrap();
        let numbers: Vec<u32> = log
            .lines()
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(numbers.len() > 20 && numbers.iter().copied().eq(0..u32::try_from(numbers.len()).unwrap()));
    });
    daemon.finish();
}

#[test]
fn x2_what_ends_while_the_daemon_is_dead_keeps_its_exit_code() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let mut ids = Vec::new();
        for code in 0..8 {
            let spec = request::container(&format!("c{code}"), &format!("sleep 0.5; echo bye; exit {code}"));
            let id = client.create(&pod, &config, spec).await.unwrap();
            client.start(&id).await.unwrap();
            ids.push((id, code));
        }
        daemon.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        daemon.spawn();
        let mut client = daemon.client().await;
        for (id, code) in ids {
            let status = client.status(&id).await.unwrap();
            assert_eq!(
                (status.state(), status.exit_code),
                (cri::ContainerState::ContainerExited, code)
            );
            assert!(fs::read_to_string(&status.log_path).unwrap().contains("bye"));
            let ran = Duration::from_nanos(u64::try_from(status.finished_at - status.started_at).unwrap());
            assert!(
                ran < Duration::from_millis(950),
                "the end is when it happened, not when it was found: {ran:?}"
            );
        }
    });
    daemon.finish();
}

#[test]
fn x3_a_killed_shim_leaves_a_removable_container_and_no_process() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (pod, victim) = client
            .running(&config, request::container("victim", "sleep 1000 & exec sleep 1000"))
            .await;
        let other = client
            .create(&pod, &config, request::container("other", "exec sleep 1000"))
            .await
            .unwrap();
        client.start(&other).await.unwrap();
        kill_shims_of(&daemon, &victim);
        let status = client.ended(&victim).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
        assert_eq!(client.output(&other, "echo alive").await, "alive");
        client.remove(&victim).await.unwrap();
        assert!(!daemon.traces().mention(&victim), "{:?}", daemon.traces());
    });
    daemon.finish();
}

#[test]
fn x4_daemon_and_shims_killed_together_are_told_and_cleaned() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let (pod, victim) = client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
        daemon.kill();
        kill_shims_of(&daemon, &victim);
        daemon.spawn();
        let mut client = daemon.client().await;
        let status = client.ended(&victim).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
        client.remove_pod(&pod).await.unwrap();
        daemon.assert_nothing_left();
    });
    daemon.finish();
}

#[test]
fn x5_a_stopped_shim_delays_neither_others_nor_its_own_end_for_ever() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (_, victim) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        for pid in daemon.shims_of(&victim) {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        }
        let (_, other) = client
            .running(&request::pod(daemon.top()), request::container("o", "exec sleep 1000"))
            .await;
        assert_eq!(client.output(&other, "echo alive").await, "alive");
        client.stop(&victim, 0).await.unwrap();
        assert_eq!(
            client.status(&victim).await.unwrap().state(),
            cri::ContainerState::ContainerExited
        );
        client.remove(&victim).await.unwrap();
        assert!(!daemon.traces().mention(&victim), "{:?}", daemon.traces());
    });
    daemon.finish();
}

/// The whole cycle under load, the daemon killed after a different delay each round. Whatever a client was told holds
/// afterwards, and in the end nothing is left.
#[test]
fn x1_sigkill_at_many_points_under_load() {
    let mut daemon = Daemon::start();
    run(async {
        daemon.client().await.pull(&busybox()).await;
        for round in 0..40_u64 {
            let told = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::new()));
            let mut workers = Vec::new();
            for _ in 0..3 {
                let (client, config) = (daemon.client().await, request::pod(daemon.top()));
                workers.push(tokio::spawn(churn(client, config, told.clone())));
            }
            let mut pulling = daemon.client().await;
            workers.push(tokio::spawn(async move {
                loop {
                    let image = Some(cri::ImageSpec {
                        image: crate::harness::image("copepod/web:1"),
                        ..Default::default()
                    });
                    let request = cri::PullImageRequest {
                        image: image.clone(),
                        ..Default::default()
                    };
                    pulling.image.pull_image(request).await?;
                    pulling.image.remove_image(cri::RemoveImageRequest { image }).await?;
                }
            }));
            tokio::time::sleep(Duration::from_micros(1_000 + round * 1_700)).await;
            daemon.kill();
            for worker in workers {
                let ended: Result<(), tonic::Status> = worker.await.unwrap();
                assert!(ended.is_err());
            }
            daemon.spawn();
            let mut client = daemon.client().await;
            let told = told.lock().unwrap().clone();
            check(&mut client, &told).await;
            if round % 8 == 7 {
                daemon.crictl(&["rmp", "--all", "--force"]);
                daemon.assert_nothing_left();
            }
        }
    });
    daemon.finish();
}

/// What a client was told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Exists,
    Started,
    Gone,
}

type Book = std::sync::Arc<std::sync::Mutex<BTreeMap<String, Told>>>;

/// Runs pods from beginning to end and notes every answer, until the daemon dies.
async fn churn(mut client: Client, mut config: cri::PodSandboxConfig, told: Book) -> Result<(), tonic::Status> {
    let note = |id: &str, what| {
        told.lock().unwrap().insert(id.to_owned(), what);
    };
    loop {
        config.metadata.as_mut().unwrap().attempt += 1;
        let pod = client.run_pod(&config).await?;
        note(&pod, Told::Exists);
        let container = client
            .create(&pod, &config, request::container("c", "exec sleep 1000"))
            .await?;
        note(&container, Told::Exists);
        client.start(&container).await?;
        note(&container, Told::Started);
        client.stop(&container, 0).await?;
        // From the call on, the object may be gone or not; only the answer settles it.
        told.lock().unwrap().remove(&container);
        client.remove(&container).await?;
        note(&container, Told::Gone);
        client.stop_pod(&pod).await?;
        told.lock().unwrap().remove(&pod);
        client.remove_pod(&pod).await?;
        note(&pod, Told::Gone);
    }
}

async fn check(client: &mut Client, told: &BTreeMap<String, Told>) {
    let pods = client
        .runtime
        .list_pod_sandbox(cri::ListPodSandboxRequest::default())
        .await
        .unwrap()
        .into_inner()
        .items;
    let containers = client
        .runtime
        .list_containers(cri::ListContainersRequest::default())
        .await
        .unwrap()
        .into_inner();
    let listed: Vec<String> = pods
        .into_iter()
        .map(|pod| pod.id)
        .chain(containers.containers.into_iter().map(|container| container.id))
        .collect();
    let unique: HashSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "something is listed twice");
    for (id, what) in told {
        match what {
            Told::Exists => assert!(unique.contains(id), "{id} is lost"),
            Told::Gone => assert!(!unique.contains(id), "{id} is back"),
            Told::Started => {
                assert!(unique.contains(id), "{id} is lost");
                // A stop may have been under way; otherwise it runs still.
                let status = client.status(id).await.unwrap();
                assert_ne!(
                    status.state(),
                    cri::ContainerState::ContainerCreated,
                    "a started container is started"
                );
            }
        }
    }
}

fn kill_shims_of(daemon: &Daemon, container: &str) {
    for pid in daemon.shims_of(container) {
        // One may end with the other.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
