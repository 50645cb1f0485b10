//! Nothing lost (yardstick §3): the daemon or a shim is killed at many points, and afterwards the truth is told,
//! everything that was promised is there and nothing else is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use copepod_proto::cri;

use crate::harness::{Client, Daemon, busybox, run, wait_until};
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
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let bystander = Bystander::start(&mut client, &daemon).await;
        let with_bystander = daemon.traces();
        let span = one_cycle(&daemon).await;
        let mut hit = BTreeMap::new();
        for round in 0..ROUNDS {
            let told = Book::default();
            let mut workers = Vec::new();
            for worker in 0..3 {
                let (client, config) = (daemon.client().await, request::pod(daemon.top()));
                workers.push(tokio::spawn(churn((client, worker), config, told.clone())));
            }
            workers.push(tokio::spawn(pull_and_remove((daemon.client().await, 3), told.clone())));
            tokio::time::sleep(span * round / (ROUNDS - 4)).await;
            // What is under way now is what the kill hits, give or take the microseconds between the two.
            let under_way = told.lock().unwrap().under_way.clone();
            daemon.kill();
            for verb in under_way.into_values() {
                *hit.entry(verb).or_insert(0_u32) += 1;
            }
            for worker in workers {
                let ended: Result<(), tonic::Status> = worker.await.unwrap();
                assert!(ended.is_err());
            }
            daemon.spawn();
            let mut client = daemon.client().await;
            let told = told.lock().unwrap().told.clone();
            check(&mut client, &told).await;
            bystander.check(&mut client).await;
            if round % 8 == 7 {
                bystander.remove_others(&mut client).await;
                wait_until("what the workers made to be gone", || {
                    daemon.traces().since(&with_bystander).is_empty()
                });
            }
        }
        for verb in ["run", "create", "start", "stop", "remove", "pull"] {
            assert!(hit.contains_key(verb), "no kill fell into {verb}: {hit:?}");
        }
        bystander.finish(&mut daemon.client().await).await;
    });
    daemon.finish();
}

/// Kills of the sweep.
const ROUNDS: u32 = 40;

/// How long a pod's whole life takes here and now, under the load of the sweep: its kills are spread over that.
async fn one_cycle(daemon: &Daemon) -> Duration {
    let told = Book::default();
    let mut workers = Vec::new();
    for worker in 0..3 {
        let (client, config) = (daemon.client().await, request::pod(daemon.top()));
        workers.push(tokio::spawn(churn((client, worker), config, told.clone())));
    }
    let begun = std::time::Instant::now();
    let gone = || told.lock().unwrap().told.values().any(|what| *what == Told::Gone);
    // A container is gone some verbs before its pod: add those.
    while !gone() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let span = begun.elapsed() * 5 / 4;
    for worker in &workers {
        worker.abort();
    }
    for worker in workers {
        assert!(worker.await.is_err());
    }
    span
}

async fn pull_and_remove((mut client, worker): (Client, usize), told: Book) -> Result<(), tonic::Status> {
    let doing = |verb| {
        told.lock().unwrap().under_way.insert(worker, verb);
    };
    loop {
        let image = Some(cri::ImageSpec {
            image: crate::harness::image("copepod/web:1"),
            ..Default::default()
        });
        let request = cri::PullImageRequest {
            image: image.clone(),
            ..Default::default()
        };
        doing("pull");
        client.image.pull_image(request).await?;
        doing("remove image");
        client.image.remove_image(cri::RemoveImageRequest { image }).await?;
    }
}

/// A container that has nothing to do with any of it: it runs on, with one process, and its log has no gap.
struct Bystander {
    pod: String,
    container: String,
    pid: i64,
    log: String,
}

impl Bystander {
    async fn start(client: &mut Client, daemon: &Daemon) -> Self {
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
        let (pod, container) = client
            .running(&request::pod(daemon.top()), request::container("bystander", script))
            .await;
        let log = client.status(&container).await.unwrap().log_path;
        let pid = pid_of(client, &container).await;
        Self {
            pod,
            container,
            pid,
            log,
        }
    }

    async fn check(&self, client: &mut Client) {
        let status = client.status(&self.container).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
        assert_eq!(pid_of(client, &self.container).await, self.pid);
    }

    async fn remove_others(&self, client: &mut Client) {
        let listed = client.runtime.list_pod_sandbox(cri::ListPodSandboxRequest::default());
        for pod in listed.await.unwrap().into_inner().items {
            if pod.id != self.pod {
                client.remove_pod(&pod.id).await.unwrap();
            }
        }
    }

    async fn finish(&self, client: &mut Client) {
        client.stop(&self.container, 0).await.unwrap();
        let log = fs::read_to_string(&self.log).unwrap();
        let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        assert!(
            log.lines().map(number).eq(0..log.lines().count()),
            "the bystander's log has a gap"
        );
    }
}

async fn pid_of(client: &mut Client, container: &str) -> i64 {
    let request = cri::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: true,
    };
    let info = client
        .runtime
        .container_status(request)
        .await
        .unwrap()
        .into_inner()
        .info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    info["pid"].as_i64().unwrap()
}

/// What a client was told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Exists,
    Started,
    Gone,
}

/// What clients were told, and what each worker waits for.
#[derive(Debug, Default)]
struct Notes {
    told: BTreeMap<String, Told>,
    under_way: BTreeMap<usize, &'static str>,
}

type Book = std::sync::Arc<std::sync::Mutex<Notes>>;

/// Runs pods from beginning to end and notes every answer, until the daemon dies.
async fn churn(
    (mut client, worker): (Client, usize),
    mut config: cri::PodSandboxConfig,
    told: Book,
) -> Result<(), tonic::Status> {
    let note = |id: &str, what| {
        told.lock().unwrap().told.insert(id.to_owned(), what);
    };
    let unsettled = |id: &str| {
        told.lock().unwrap().told.remove(id);
    };
    let doing = |verb| {
        told.lock().unwrap().under_way.insert(worker, verb);
    };
    loop {
        config.metadata.as_mut().unwrap().attempt += 1;
        doing("run");
        let pod = client.run_pod(&config).await?;
        note(&pod, Told::Exists);
        doing("create");
        let container = client
            .create(&pod, &config, request::container("c", "exec sleep 1000"))
            .await?;
        note(&container, Told::Exists);
        doing("start");
        client.start(&container).await?;
        note(&container, Told::Started);
        doing("stop");
        client.stop(&container, 0).await?;
        // From the call on, the object may be gone or not; only the answer settles it.
        unsettled(&container);
        doing("remove");
        client.remove(&container).await?;
        note(&container, Told::Gone);
        doing("stop pod");
        client.stop_pod(&pod).await?;
        unsettled(&pod);
        doing("remove pod");
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
