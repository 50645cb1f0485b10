//! CreateContainer: everything that can be wrong with a container is found here; at Start only its process is left to
//! fail (contract §4).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::ContainerId;
use crate::domain::container::{Container, ContainerSpec, ContainerState, Signal};
use crate::domain::error::{Failure, Kind};
use crate::domain::image::{Image, Layer};
use crate::domain::pod::{NamespaceMode, Pod};
use crate::domain::security::ResolvedUser;
use crate::oci;
use crate::ops::names::Claim;
use crate::ops::request::CreateContainer;
use crate::ops::stage::stage;
use crate::ops::table::{ContainerEntry, PodEntry};
use crate::ops::undo::Undo;
use crate::ops::user::{self, Files};
use crate::ops::{Inner, driver, host_files, pod_files, pod_init};
use crate::runtime::{Build, Stdio};
use crate::state::Change;

/// Building takes milliseconds; a node under memory pressure or with a slow disk may need many seconds, and kubelet
/// waits two minutes (contract §1).
const BUILD_DEADLINE: Duration = Duration::from_secs(90);
/// Reading two small files of an image.
const USER_DEADLINE: Duration = Duration::from_secs(30);

/// The runbook.
pub(crate) async fn create(ops: &Arc<Inner>, request: CreateContainer) -> Result<ContainerId, Failure> {
    let CreateContainer { pod, spec } = request;
    let entry = ops.table.pod(&pod)?;
    let metadata = &spec.metadata;
    let key = key(&entry, metadata);
    let what = format!(
        "container {} (attempt {}) of pod {}",
        metadata.name, metadata.attempt, entry.id
    );
    let reservation = match ops.container_names.claim(&key, &what)? {
        Claim::Joined(flight) => return flight.join().await,
        Claim::Ours(reservation) => reservation,
    };
    // Held to the end: a stop of the pod waits for this, and this fails if the stop was first.
    let _pod_stays = entry.lifecycle.read().await;
    let id = ContainerId::generate();
    let early = ops.early.expect(id.clone());
    let mut undo = Undo::new();
    // Boxed: it is the largest part of a future that is carried about.
    match Box::pin(build(ops, &entry, (id.clone(), spec), &mut undo)).await {
        Ok(()) => {
            undo.disarm();
            reservation.complete(&id);
            early.listed(ops);
            tracing::info!(op = "CreateContainer", container = %id, pod = %entry.id, "{what} is built");
            Ok(id)
        }
        Err(cause) => {
            // What cannot be undone is an orphan without a record: the next start removes it.
            let undone = undo.finish(cause).await;
            reservation.fail(&undone.cause);
            Err(undone.cause)
        }
    }
}

/// The reservation key of a container: unique in its pod for the pod's whole life.
pub(crate) fn key(pod: &PodEntry, metadata: &crate::domain::container::ContainerMetadata) -> String {
    format!("{}/{}/{}", pod.id, metadata.attempt, metadata.name)
}

async fn build(
    ops: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    (id, spec): (ContainerId, ContainerSpec),
    undo: &mut Undo,
) -> Result<(), Failure> {
    let pod = entry.ready()?;
    let image = ops.images.find(&spec.image.image)?.ok_or_else(|| no_image(&spec))?;
    let (_hold, layers) = ops.images.hold(&image)?;
    let layers: Vec<_> = layers.iter().map(|layer| layer_path(ops, layer)).collect();
    let user = stage("user", USER_DEADLINE, resolve_user(ops, &spec, &image, &layers)).await?;
    let cgroup = pod_init::leaf(&pod.spec.cgroup_parent, id.as_str());
    let container = describe(&pod, &image, id, (spec, user, cgroup))?;
    let oci_spec = oci_spec(ops, entry, &container, &image).await?;

    let (at, of) = (Arc::clone(ops), container.id.clone());
    undo.push("writable layer", async move { at.snapshot.remove(&of).await });
    let prepared = ops.snapshot.prepare(&container.id, &layers).await;
    let rootfs = prepared.map_err(|error| driver::snapshot("prepare the root file system", error))?;

    make_log_directory(&pod).await?;
    let (at, of, cgroup) = (Arc::clone(ops), container.id.clone(), container.cgroup.clone());
    undo.push("shim", async move { at.runtime.cleanup(&of, &cgroup).await });
    let build = Build {
        id: container.id.clone(),
        spec: oci_spec,
        rootfs,
        stdio: stdio(&pod, &container.spec),
    };
    let task = stage("build", BUILD_DEADLINE, async {
        let built = ops.runtime.create(build).await;
        built.map_err(|error| driver::runtime("build the container", error))
    })
    .await?;
    let record = Change::PutContainer(Box::new(container.clone()));
    ops.commit("record the container", vec![record]).await?;
    let entry = ContainerEntry::new(container, Some(task));
    ops.table.insert_container(Arc::new(entry));
    Ok(())
}

fn no_image(spec: &ContainerSpec) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("image {:?} is not on this node: pull it first", spec.image.image),
    )
}

fn layer_path(ops: &Inner, layer: &Layer) -> PathBuf {
    ops.image.layer_path(layer)
}

async fn resolve_user(
    ops: &Inner,
    spec: &ContainerSpec,
    image: &Image,
    layers: &[PathBuf],
) -> Result<ResolvedUser, Failure> {
    if let Some(user) = ops.users.known(&image.id, &spec.identity) {
        return Ok(user);
    }
    let read = async |path: &str| {
        let read = ops.snapshot.read_file(layers, Path::new(path), user::FILE_LIMIT).await;
        read.map_err(|error| driver::snapshot(format!("read {path} of image {}", image.id), error))
    };
    let (passwd, group) = (read("/etc/passwd").await?, read("/etc/group").await?);
    let files = Files {
        passwd: passwd.as_deref(),
        group: group.as_deref(),
    };
    let user = user::resolve(&spec.identity, &image.config.user, files)
        .map_err(|error| Failure::caused(Kind::InvalidArgument, "find out who the container runs as", error))?;
    ops.users.keep(&image.id, &spec.identity, &user);
    Ok(user)
}

fn describe(
    pod: &Pod,
    image: &Image,
    id: ContainerId,
    (spec, user, cgroup): (ContainerSpec, ResolvedUser, String),
) -> Result<Container, Failure> {
    let log_path = pod.spec.log_directory.as_ref().zip(spec.log_path.as_ref());
    Ok(Container {
        id,
        pod: pod.id.clone(),
        created_at: Timestamp::now(),
        state: ContainerState::Created,
        image_id: image.id.clone(),
        image_name: image.tags.first().unwrap_or(&spec.image.image).clone(),
        image_ref: image.digests.first().map_or_else(|| image.id.to_string(), Clone::clone),
        layers: image.layers.clone(),
        user,
        stop_signal: stop_signal(&spec, image)?,
        cgroup,
        log_path: log_path.map(|(directory, path)| directory.join(path)),
        boot_id: pod.boot_id.clone(),
        spec,
    })
}

fn stop_signal(spec: &ContainerSpec, image: &Image) -> Result<Signal, Failure> {
    match (spec.stop_signal, image.config.stop_signal.as_str()) {
        (Some(signal), _) => Ok(signal),
        (None, "") => Ok(Signal::TERM),
        (None, text) => Signal::parse(text).ok_or_else(|| {
            Failure::new(
                Kind::InvalidArgument,
                format!(
                    "image {} has the stop signal {:?}, which Linux does not know: set stop_signal in the container",
                    image.id,
                    text.chars().take(40).collect::<String>()
                ),
            )
        }),
    }
}

async fn oci_spec(
    ops: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    container: &Container,
    image: &Image,
) -> Result<Vec<u8>, Failure> {
    let pod = entry.pod();
    let (pid_mode, pid_namespace) = pid_namespace(ops, entry, &container.spec).await?;
    let host_files = on_host(&container.spec, host_files::look_up).await?;
    let inputs = oci::Inputs {
        pod: &pod,
        spec: &container.spec,
        image: &image.config,
        user: &container.user,
        cgroup: &container.cgroup,
        files: &pod_files::of(&ops.config, &pod),
        pid_namespace,
        pid_mode,
        devices: &host_files.devices,
        localhost_seccomp: host_files.seccomp.as_ref(),
        host: &ops.config.host,
    };
    let spec = oci::build(&inputs).map_err(|error| driver::oci("describe the container", error))?;
    on_host(&container.spec, host_files::make_sources).await?;
    serde_json::to_vec(&spec).map_err(|error| Failure::caused(Kind::Internal, "write the container's spec", error))
}

/// What touches the host's files, which may lie on a slow server.
async fn on_host<T: Send + 'static>(
    spec: &ContainerSpec,
    work: fn(&ContainerSpec) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec = spec.clone();
    let done = tokio::task::spawn_blocking(move || work(&spec)).await;
    done.map_err(|error| Failure::caused(Kind::Internal, "look for what the container names on the host", error))?
}

/// The PID namespace to join, and the mode that this amounts to (contract §5.1, §19).
async fn pid_namespace(
    ops: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    spec: &ContainerSpec,
) -> Result<(NamespaceMode, Option<PathBuf>), Failure> {
    match (&spec.namespaces.pid, &entry.pod().spec.namespaces.pid) {
        // Such a pod's namespace is the host's.
        (NamespaceMode::Pod, NamespaceMode::Node) => Ok((NamespaceMode::Node, None)),
        (NamespaceMode::Pod, NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_)) => {
            let path = pod_init::pid_namespace(ops, entry).await?;
            Ok((NamespaceMode::Pod, Some(path)))
        }
        (NamespaceMode::Target(target), _) => {
            let pid = ops.running_target(entry, target)?;
            let path = PathBuf::from(format!("/proc/{pid}/ns/pid"));
            Ok((spec.namespaces.pid.clone(), Some(path)))
        }
        (mode @ (NamespaceMode::Container | NamespaceMode::Node), _) => Ok((mode.clone(), None)),
    }
}

/// kubelet makes the pod's log directory, other clients leave it to the runtime (contract §7). It is theirs, so it is
/// not undone.
async fn make_log_directory(pod: &Pod) -> Result<(), Failure> {
    let Some(directory) = &pod.spec.log_directory else {
        return Ok(());
    };
    let made = tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .await;
    made.map_err(|error| {
        Failure::caused(
            Kind::Unknown,
            format!("make log directory {}", directory.display()),
            error,
        )
    })
}

fn stdio(pod: &Pod, spec: &ContainerSpec) -> Stdio {
    Stdio {
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        log: pod.spec.log_directory.clone().zip(spec.log_path.clone()),
    }
}
