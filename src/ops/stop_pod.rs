//! StopPodSandbox: containers, init, network, namespaces, shm, in this order; each step can be repeated and a failed one
//! does not keep the later ones from being tried, but for the namespaces, which the network's teardown needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::container::ContainerState;
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::{Pins, Pod, PodState};
use crate::network::Detach;
use crate::ops::request::StopMode;
use crate::ops::stage::stage;
use crate::ops::table::{ContainerEntry, PodEntry};
use crate::ops::{Config, Inner, driver, pod_files, pod_init, stop_container};
use crate::runtime::RuntimeError;

/// Killing a cgroup and its shim is bounded by the drivers below this (seconds, a few steps).
pub(crate) const CLEANUP_DEADLINE: Duration = Duration::from_secs(60);
/// As when attaching: a plugin that waits for its daemon may take one or two minutes, and there may be several.
const DETACH_DEADLINE: Duration = Duration::from_secs(150);
/// A few umounts.
const UNPIN_DEADLINE: Duration = Duration::from_secs(30);

/// The runbook.
pub(crate) async fn stop(ops: &Arc<Inner>, text: &str) -> Result<(), Failure> {
    let Some(entry) = ops.table.find_pod(text)? else {
        return Ok(());
    };
    let _alone = entry.lifecycle.write().await;
    stop_locked(ops, &entry).await
}

/// The same, for who holds the pod's lock.
pub(crate) async fn stop_locked(ops: &Arc<Inner>, entry: &PodEntry) -> Result<(), Failure> {
    if is_stopped(ops, &entry.pod()) {
        // The init is not in the record: a stop that failed on it alone left everything else done.
        return remove_init(ops, entry, &entry.pod()).await;
    }
    let before = end_ready(ops, entry).await?;
    let pod = Arc::clone(&before);
    let mut failures = stop_containers(ops, entry).await;
    if let Err(failure) = remove_init(ops, entry, &pod).await {
        failures.push(failure);
    }
    match detach(ops, &pod).await {
        Err(failure) => failures.push(failure),
        Ok(()) => {
            entry.update(|pod| {
                pod.attachment = None;
                pod.network_owed = false;
            });
            let unpinned = stage("unpin namespaces", UNPIN_DEADLINE, async {
                let unpinned = unpin(ops, &pod.pins).await;
                unpinned.map_err(|error| driver::runtime("let go of the pod's namespaces", error))
            });
            match unpinned.await {
                Err(failure) => failures.push(failure),
                Ok(()) => drop(entry.update(|pod| pod.pins = Pins::default())),
            }
        }
    }
    if let Err(error) = pod_files::unmount_shm(&ops.config, &pod.id) {
        failures.push(Failure::caused(Kind::Unknown, "unmount the pod's shm", error));
    }
    if *entry.pod() != *before {
        ops.save_pod(entry).await?;
    }
    tracing::info!(op = "StopPodSandbox", pod = %pod.id, failures = failures.len(), "pod stopped");
    first_of(failures)
}

/// Records that the pod is not ready before anything of it is taken down: a daemon that dies in between must not come
/// back to a ready pod without its network. The next start finishes what this began.
async fn end_ready(ops: &Inner, entry: &PodEntry) -> Result<Arc<Pod>, Failure> {
    if entry.pod().state == PodState::NotReady {
        return Ok(entry.pod());
    }
    let ready_again = entry.pod();
    let pod = entry.update(|pod| pod.state = PodState::NotReady);
    if let Err(failure) = ops.save_pod(entry).await {
        // Nothing was touched yet: it is as ready as its record says.
        entry.update(|pod| pod.state = ready_again.state);
        return Err(failure);
    }
    Ok(pod)
}

/// Finishes stops that a daemon before this one had begun, in the background: a plugin may take a minute. Each is tried
/// once; what fails is owed to the next StopPodSandbox or RemovePodSandbox, as after any failed stop.
pub(crate) fn finish_begun(ops: &Arc<Inner>, pods: Vec<Arc<PodEntry>>) {
    for entry in pods {
        let at = Arc::clone(ops);
        ops.verbs.spawn(async move {
            let _alone = entry.lifecycle.write().await;
            if at.table.exact_pod(entry.id.as_str()).is_none() {
                return;
            }
            if let Err(failure) = Box::pin(stop_locked(&at, &entry)).await {
                tracing::warn!(pod = %entry.id, error = failure.chain(), "a stop begun before this start is not finished");
            }
        });
    }
}

/// Nothing of the pod runs or is held any more.
pub(crate) fn is_stopped(ops: &Inner, pod: &Pod) -> bool {
    let over = |state: &ContainerState| matches!(state, ContainerState::Exited(_));
    pod.state == PodState::NotReady
        && !pod.network_owed
        && pod.pins == Pins::default()
        && ops
            .table
            .containers_of(&pod.id)
            .iter()
            .all(|entry| over(&entry.container().state))
}

/// All at once: what a pod's containers had to say was said in their own StopContainer.
async fn stop_containers(ops: &Arc<Inner>, entry: &PodEntry) -> Vec<Failure> {
    let containers = ops.table.containers_of(&entry.id);
    let stops = containers.iter().map(|container| Box::pin(end(ops, container)));
    join_all(stops).await.into_iter().filter_map(Result::err).collect()
}

async fn end(ops: &Arc<Inner>, entry: &Arc<ContainerEntry>) -> Result<(), Failure> {
    let container = entry.container();
    if container.state == ContainerState::Created {
        // Its process waits at the gate, holding the pod's namespaces; it stays created, and is removed as such.
        return stage("end container", CLEANUP_DEADLINE, async {
            let cleanup = ops.runtime.cleanup(&container.id, &container.cgroup).await;
            cleanup.map_err(|error| driver::runtime(format!("end container {}", container.id), error))
        })
        .await;
    }
    stop_container::stop_entry(ops, entry, StopMode::Now).await
}

async fn remove_init(ops: &Inner, entry: &PodEntry, pod: &Pod) -> Result<(), Failure> {
    let mut init = entry.init.lock().await;
    if init.is_none() && !pod_init::is_wanted(&pod.spec) {
        return Ok(());
    }
    stage(
        "end pod init",
        CLEANUP_DEADLINE,
        pod_init::remove(ops, &pod.id, &pod.spec),
    )
    .await?;
    *init = None;
    Ok(())
}

async fn detach(ops: &Inner, pod: &Pod) -> Result<(), Failure> {
    if !pod.network_owed {
        return Ok(());
    }
    stage("detach network", DETACH_DEADLINE, async {
        let detached = ops.network.detach(&detach_of(&ops.config, pod)).await;
        detached.map_err(|error| driver::network("take the pod's network down", error))
    })
    .await
}

/// What the network driver is told to take down.
pub(crate) fn detach_of(config: &Config, pod: &Pod) -> Detach {
    let metadata = &pod.spec.metadata;
    // After a reboot, or an unpin by hand, plugins must be told that the namespace is gone.
    let alive = |path: &Path| pod.boot_id == config.boot_id && pod_files::is_mount(path);
    Detach {
        pod: pod.id.clone(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        netns: pod.pins.net.clone().filter(|path| alive(path)),
        attachment: pod.attachment.clone(),
        ports: pod.spec.ports.clone(),
        annotations: pod.spec.annotations.clone(),
    }
}

/// Lets go of every pinned namespace.
///
/// # Errors
/// The first that stays; the others were tried.
pub(crate) async fn unpin(ops: &Inner, pins: &Pins) -> Result<(), RuntimeError> {
    let Pins { net, ipc, uts } = pins;
    let mut outcome = Ok(());
    for path in [net, ipc, uts].into_iter().flatten() {
        let unpinned = ops.runtime.unpin(path).await;
        outcome = outcome.and(unpinned);
    }
    outcome
}

/// The first failure, which tells of the others.
fn first_of(failures: Vec<Failure>) -> Result<(), Failure> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else {
        return Ok(());
    };
    let others: Vec<_> = failures.map(|failure| failure.chain()).collect();
    if others.is_empty() {
        Err(first)
    } else {
        Err(first.leaving(&others.join("; ")))
    }
}
