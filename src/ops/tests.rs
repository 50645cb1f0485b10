//! The verbs against the real drivers and the real shim, without a registry: the image is written into the stores by
//! hand. Needs root, a shim binary (COPEPOD_SHIM) and busybox; without them the tests fail and say so.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::base::clock::Timestamp;
use crate::domain::container::{ContainerState, ExitReason};
use crate::domain::image::{ImageConfig, Layer};
use crate::domain::pod::{NamespaceMode, PodState};
use crate::ops::table::tests as fixtures;
use crate::state::Change;
use crate::{image, network, runtime};

/// A daemon of its own in a directory of its own.
struct World {
    top: tempfile::TempDir,
    shim: PathBuf,
    image: Image,
    layer: Layer,
}

impl World {
    /// Fails where the tests cannot run: one that passed without having run would lie.
    fn new() -> Self {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debug/containerd-shim-copepod-v1");
        let shim = std::env::var_os("COPEPOD_SHIM").map_or(built, PathBuf::from);
        assert!(rustix::process::geteuid().is_root(), "cannot run without root");
        assert!(
            shim.exists(),
            "cannot run without the shim {}: cargo build -p copepod-shim, or set COPEPOD_SHIM",
            shim.display()
        );
        let busybox = Path::new("/usr/bin/busybox");
        assert!(
            busybox.exists(),
            "cannot run without {}: install the package busybox-static",
            busybox.display()
        );
        let top = tempfile::Builder::new().prefix("cpo").tempdir_in("/tmp").unwrap();
        let digest = |digit: char| format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap();
        let layer = Layer {
            diff_id: digest('1'),
            dir: "l1".into(),
            bytes: 1,
            inodes: 1,
        };
        let root = top.path().join("root/layers/l1");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "true", "ps"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let image = Image {
            id: digest('2'),
            tags: ["docker.io/library/test:latest".to_owned()].into(),
            digests: [].into(),
            layers: vec![digest('1')],
            descriptors: vec![],
            config: ImageConfig::default(),
            size: 1,
            config_json: b"{}".to_vec(),
            manifest_json: b"{}".to_vec(),
            index_json: None,
            pulled_at: Timestamp(1),
        };
        Self {
            top,
            shim,
            image,
            layer,
        }
    }

    /// Of this world alone.
    fn name(&self) -> String {
        self.top.path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Parent of its pods' cgroups.
    fn cgroup(&self) -> String {
        format!("/test-{}", self.name())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.top.path().join(below)
    }

    /// A daemon's boot; the same again after the one before was dropped.
    async fn boot(&self, boot_id: &str) -> Ops {
        let state_dir = self.path("s");
        std::fs::create_dir_all(&state_dir).unwrap();
        std::fs::set_permissions(&state_dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        let (state, recorded) = self.records().await;
        let (runtime, exits) = Runtime::open(runtime::Config {
            shim: self.shim.clone(),
            state: state_dir.clone(),
            instance: self.name(),
            force_fallbacks: vec![],
        })
        .await
        .unwrap();
        let drivers = Drivers {
            image: Puller::open(image::Config {
                config_dir: self.path("certs.d"),
                layers: self.path("root/layers"),
                ingest: self.path("root/ingest"),
                max_concurrent_layers: 2,
            })
            .unwrap(),
            snapshot: Snapshots::open(self.path("root/snapshots")).unwrap(),
            network: Network::open(
                network::Config::Cni {
                    conf_dir: self.path("cni"),
                    bin_dirs: vec![],
                },
                vec![],
            )
            .await
            .unwrap(),
            runtime,
            state,
            recorded,
            exits,
        };
        let config = Config {
            root: self.path("root"),
            state: state_dir,
            netns: self.path("netns"),
            instance: "test".into(),
            host: Host {
                cgroup_v2: false,
                apparmor: false,
                selinux: false,
                last_cap: 40,
                own_caps: 0x1ff_ffff_ffff,
                host_devices: vec![],
            },
            boot_id: boot_id.to_owned(),
            node_name: "node".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
        };
        Ops::open(config, drivers).await.unwrap()
    }

    async fn records(&self) -> (State, Recorded) {
        let path = self.path("root/copepod.redb");
        let until = Instant::now() + Duration::from_secs(5);
        // The store of the boot before lets go of its lock when its thread has ended.
        let (state, mut recorded) = loop {
            match State::open(&path).await {
                Ok(opened) => break opened,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        if recorded.images.is_empty() {
            let image = Change::PutImage(Box::new(self.image.clone()));
            state
                .commit(vec![image, Change::PutLayer(self.layer.clone())])
                .await
                .unwrap();
            recorded.images.push(self.image.clone());
            recorded.layers.push(self.layer.clone());
        }
        (state, recorded)
    }

    /// What of pods and containers is on disk.
    fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        for dir in ["s/p", "s/c", "s/ns", "netns", "root/snapshots"] {
            for entry in std::fs::read_dir(self.path(dir)).into_iter().flatten() {
                traces.push(entry.unwrap().path().display().to_string());
            }
        }
        traces
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in ours.filter(|path| Path::new(path).starts_with(self.top.path())) {
            rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).ok();
        }
        // What kubelet makes and removes elsewhere, and the shims' own.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for name in [self.cgroup()[1..].to_owned(), format!("copepod-{}", self.name())] {
                remove_cgroup(&hierarchy.path().join(name));
            }
        }
    }
}

/// Removes an empty cgroup and those below it.
fn remove_cgroup(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    std::fs::remove_dir(dir).ok();
}

fn pod_spec(world: &World, pid: NamespaceMode) -> PodSpec {
    let mut spec = fixtures::pod(&fixtures::id("a"), "u1").spec;
    spec.namespaces.network = NamespaceMode::Node;
    spec.namespaces.pid = pid;
    spec.cgroup_parent = world.cgroup();
    spec
}

fn sleeper(pod: &PodId, pid: NamespaceMode, args: &[&str]) -> CreateContainer {
    let mut spec = fixtures::container(&fixtures::id("c"), pod.as_str(), "u1").spec;
    spec.namespaces.network = NamespaceMode::Node;
    spec.namespaces.pid = pid;
    spec.image.image = "test".into();
    spec.command = args.iter().map(|&arg| arg.to_owned()).collect();
    CreateContainer {
        pod: pod.to_string(),
        spec,
    }
}

fn exec(container: &ContainerId, args: &[&str], timeout: Option<Duration>) -> ExecSync {
    ExecSync {
        container: container.to_string(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        timeout,
    }
}

async fn until_exited(ops: &Ops, id: &ContainerId) -> Arc<Container> {
    for _ in 0..500 {
        let container = ops.container(id.as_str()).await.unwrap();
        if matches!(container.state, ContainerState::Exited(_)) {
            return container;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not exited")
}

fn exit_of(container: &Arc<Container>) -> (i32, ExitReason) {
    let ContainerState::Exited(exit) = &container.state else {
        panic!("{:?}", container.state)
    };
    (exit.code, exit.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_lives_and_leaves_nothing() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let before = world.traces();
    let pod = ops.run_pod(pod_spec(&world, NamespaceMode::Pod)).await.unwrap();
    assert_eq!(ops.pod(pod.as_str()).await.unwrap().state, PodState::Ready);
    assert!(ops.pod_details(pod.as_str()).await.unwrap().init_pid > 0);
    let again = ops.run_pod(pod_spec(&world, NamespaceMode::Pod)).await.unwrap_err();
    assert_eq!(again.kind(), Kind::AlreadyExists);
    assert!(again.to_string().contains(pod.as_str()));

    let request = sleeper(&pod, NamespaceMode::Pod, &["sleep", "1000"]);
    let id = ops.create_container(request).await.unwrap();
    let early = ops.exec_sync(exec(&id, &["true"], None)).await.unwrap_err();
    assert_eq!(early.kind(), Kind::FailedPrecondition);
    ops.start_container(id.as_str()).await.unwrap();
    let twice = ops.start_container(id.as_str()).await.unwrap_err();
    assert_eq!(twice.kind(), Kind::FailedPrecondition);

    let output = ops
        .exec_sync(exec(&id, &["sh", "-c", "echo hi; exit 3"], None))
        .await
        .unwrap();
    assert_eq!((output.code, output.stdout.as_slice()), (3, &b"hi\n"[..]));
    let patience = Some(Duration::from_millis(200));
    let slow = ops.exec_sync(exec(&id, &["sleep", "777"], patience)).await.unwrap_err();
    assert_eq!(slow.kind(), Kind::DeadlineExceeded);

    // sleep is no PID 1 here, so SIGTERM ends it.
    let begun = Instant::now();
    ops.stop_container(id.as_str(), StopMode::After(Duration::from_secs(60)))
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(
        exit_of(&ops.container(id.as_str()).await.unwrap()),
        (143, ExitReason::Error)
    );
    ops.remove_container(id.as_str()).await.unwrap();
    assert_eq!(ops.container(id.as_str()).await.unwrap_err().kind(), Kind::NotFound);

    let request = sleeper(&pod, NamespaceMode::Pod, &["sleep", "1000"]);
    let second = ops.create_container(request).await.unwrap();
    ops.start_container(second.as_str()).await.unwrap();
    ops.stop_pod(pod.as_str()).await.unwrap();
    ops.stop_pod(pod.as_str()).await.unwrap();
    assert_eq!(
        exit_of(&ops.container(second.as_str()).await.unwrap()),
        (137, ExitReason::Error)
    );
    assert_eq!(ops.pod(pod.as_str()).await.unwrap().state, PodState::NotReady);
    let mut request = sleeper(&pod, NamespaceMode::Pod, &["true"]);
    request.spec.metadata.name = "late".into();
    let late = ops.create_container(request).await;
    assert_eq!(late.unwrap_err().kind(), Kind::FailedPrecondition);
    ops.remove_pod(pod.as_str()).await.unwrap();
    ops.remove_pod(pod.as_str()).await.unwrap();
    assert!(ops.pods(&PodFilter::default()).await.unwrap().is_empty());
    assert!(ops.containers(&ContainerFilter::default()).await.unwrap().is_empty());
    assert_eq!(world.traces(), before);
    let parent = format!("/sys/fs/cgroup/memory{}", world.cgroup());
    let left = std::fs::read_dir(parent).into_iter().flatten().flatten();
    assert_eq!(left.filter(|entry| entry.path().is_dir()).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_daemon_and_their_ends_are_not_lost() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let pod = ops.run_pod(pod_spec(&world, NamespaceMode::Container)).await.unwrap();
    let mut ids = Vec::new();
    for (name, script) in [("stays", "sleep 1000"), ("ends", "sleep 1; exit 7"), ("waits", "true")] {
        let mut request = sleeper(&pod, NamespaceMode::Container, &["sh", "-c", script]);
        request.spec.metadata.name = name.into();
        ids.push(ops.create_container(request).await.unwrap());
    }
    ops.start_container(ids[0].as_str()).await.unwrap();
    ops.start_container(ids[1].as_str()).await.unwrap();
    let pid = ops.container_details(ids[0].as_str()).await.unwrap().pid;
    drop(ops);
    tokio::time::sleep(Duration::from_millis(1500)).await;

    let ops = world.boot("boot1").await;
    assert_eq!(ops.container_details(ids[0].as_str()).await.unwrap().pid, pid);
    assert_eq!(exit_of(&until_exited(&ops, &ids[1]).await), (7, ExitReason::Error));
    assert_eq!(
        ops.container(ids[2].as_str()).await.unwrap().state,
        ContainerState::Created
    );
    assert_eq!(ops.pod(pod.as_str()).await.unwrap().state, PodState::Ready);
    ops.start_container(ids[2].as_str()).await.unwrap();
    assert_eq!(exit_of(&until_exited(&ops, &ids[2]).await), (0, ExitReason::Completed));
    let output = ops.exec_sync(exec(&ids[0], &["true"], None)).await.unwrap();
    assert_eq!(output.code, 0);
    drop(ops);

    // As after a reboot: nothing of the other boot is believed to run.
    let ops = world.boot("boot2").await;
    assert_eq!(ops.pod(pod.as_str()).await.unwrap().state, PodState::NotReady);
    assert_eq!(exit_of(&until_exited(&ops, &ids[0]).await), (255, ExitReason::Unknown));
    ops.remove_pod(pod.as_str()).await.unwrap();
    drop(ops);
    let ops = world.boot("boot2").await;
    assert!(ops.pods(&PodFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_cannot_be_executed_leaves_an_exited_container() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let pod = ops.run_pod(pod_spec(&world, NamespaceMode::Container)).await.unwrap();
    let request = sleeper(&pod, NamespaceMode::Container, &["no-such-program"]);
    let id = ops.create_container(request).await.unwrap();
    ops.start_container(id.as_str()).await.unwrap_err();
    let container = ops.container(id.as_str()).await.unwrap();
    assert_eq!(exit_of(&container), (128, ExitReason::StartError));
    ops.stop_container(id.as_str(), StopMode::Now).await.unwrap();
    ops.remove_pod(pod.as_str()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_leaves_nothing_and_no_name() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let before = world.traces();
    // There is no CNI configuration, so a pod with its own network cannot be.
    let mut spec = pod_spec(&world, NamespaceMode::Pod);
    spec.namespaces.network = NamespaceMode::Pod;
    for _ in 0..2 {
        let failure = ops.run_pod(spec.clone()).await.unwrap_err();
        assert_ne!(failure.kind(), Kind::AlreadyExists, "{}", failure.chain());
        assert_eq!(world.traces(), before, "{}", failure.chain());
    }
    assert!(ops.pods(&PodFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_leaves_a_container_that_is_unknown_dead_and_removable() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let pod = ops.run_pod(pod_spec(&world, NamespaceMode::Container)).await.unwrap();
    let request = sleeper(&pod, NamespaceMode::Container, &["sleep", "1000"]);
    let id = ops.create_container(request).await.unwrap();
    ops.start_container(id.as_str()).await.unwrap();
    let pid = ops.container_details(id.as_str()).await.unwrap().pid;
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(shim) = number.and_then(rustix::process::Pid::from_raw)
            && command.split('\0').any(|argument| argument == id.as_str())
        {
            rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
            killed += 1;
        }
    }
    assert!(killed > 0);
    assert_eq!(exit_of(&until_exited(&ops, &id).await), (255, ExitReason::Unknown));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    assert!(status.is_empty() || status.contains("Z (zombie)"), "{status}");
    ops.remove_container(id.as_str()).await.unwrap();
    ops.remove_pod(pod.as_str()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_crash_cut_off_is_rolled_back() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let before = world.traces();
    let pod = ops.run_pod(pod_spec(&world, NamespaceMode::Pod)).await.unwrap();
    let record = ops.pod(pod.as_str()).await.unwrap();
    drop(ops);
    // As if the daemon had died just before the last commit.
    let (state, _) = world.records().await;
    let intent = crate::state::Intent::RunPod {
        id: pod.clone(),
        spec: Box::new(record.spec.clone()),
        pins: record.pins.clone(),
    };
    let changes = vec![Change::DeletePod(pod.clone()), Change::Begin(Box::new(intent))];
    state.commit(changes).await.unwrap();
    drop(state);

    let ops = world.boot("boot1").await;
    assert!(ops.pods(&PodFilter::default()).await.unwrap().is_empty());
    assert_eq!(world.traces(), before);
    let again = ops.run_pod(pod_spec(&world, NamespaceMode::Pod)).await.unwrap();
    ops.remove_pod(again.as_str()).await.unwrap();
    assert_eq!(world.traces(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_name_make_one_pod_and_cancelling_them_changes_nothing() {
    let world = World::new();
    let ops = world.boot("boot1").await;
    let spec = pod_spec(&world, NamespaceMode::Pod);
    let cancelled = tokio::time::timeout(Duration::from_micros(300), ops.run_pod(spec.clone())).await;
    assert!(cancelled.is_err());
    let joined = ops.run_pod(spec.clone()).await;
    // It joined the one in flight, or came after it.
    let pods = ops.pods(&PodFilter::default()).await.unwrap();
    assert_eq!(pods.len(), 1);
    match joined {
        Ok(id) => assert_eq!(id, pods[0].id),
        Err(failure) => assert_eq!(failure.kind(), Kind::AlreadyExists),
    }
    ops.remove_pod(pods[0].id.as_str()).await.unwrap();
    let both = tokio::join!(ops.run_pod(spec.clone()), ops.run_pod(spec));
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    let id = ops.pods(&PodFilter::default()).await.unwrap()[0].id.clone();
    ops.remove_pod(id.as_str()).await.unwrap();
}
