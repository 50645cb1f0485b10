//! Brings records and host together. The same code runs at every start: after a clean stop, a crash, an upgrade and a
//! reboot (house decision 8).
//!
//! Nothing is touched that is not recorded under our `root` or lies under our `state`: other daemons of this kind, and
//! other runtimes, live on the same host.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio_util::task::TaskTracker;

use crate::base::clock::Timestamp;
use crate::base::error::chain;
use crate::base::id::{ContainerId, PodId};
use crate::domain::container::{Container, ContainerState, Exit};
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::{Pins, Pod, PodState};
use crate::ops::images::Images;
use crate::ops::names::Names;
use crate::ops::table::{ContainerEntry, PodEntry, PodInit, Table};
use crate::ops::{
    Config, Drivers, Inner, Records, create_container, driver, pod_files, pod_init, run_pod, stop_pod, user, watch,
};
use crate::runtime::{Adopted, TaskEnd};
use crate::state::{Change, Intent, Recorded};

/// Shims asked at once: 500 containers must be adopted within a second (house §6), and each answer takes a round trip.
const PARALLEL: usize = 64;
/// A shim that does not answer now is asked this often before serving starts, and once a second afterwards.
const TRIES: usize = 3;
const RETRY: Duration = Duration::from_secs(1);

/// The runbook.
pub(crate) async fn open(config: Config, drivers: Drivers) -> Result<Arc<Inner>, Failure> {
    let Drivers {
        image,
        snapshot,
        network,
        runtime,
        state,
        recorded,
        exits,
    } = drivers;
    let Recorded {
        pods,
        containers,
        images,
        layers,
        intents,
        quarantined,
    } = recorded;
    pod_files::prepare(&config)
        .map_err(|error| Failure::caused(Kind::Internal, "prepare the directory of the pods' files", error))?;
    let ops = Arc::new(Inner {
        config,
        image,
        snapshot,
        network,
        runtime,
        state,
        table: Table::default(),
        images: Images::new(images, layers),
        pod_names: Names::new(),
        container_names: Names::new(),
        users: user::Cache::default(),
        early: watch::Early::default(),
        records: if quarantined.is_empty() {
            Records::Whole
        } else {
            Records::SomeUnreadable
        },
        verbs: TaskTracker::new(),
    });
    each(intents, |intent| roll_back(&ops, intent)).await;
    let bundles = ops.runtime.bundles();
    let bundles: BTreeSet<_> = bundles
        .map_err(|error| driver::runtime("list the bundles", error))?
        .into_iter()
        .collect();
    // As recorded, not as found: a pod that only the host's state makes unready keeps what runs in it.
    let begun: Vec<_> = pods
        .iter()
        .filter(|pod| pod.state == PodState::NotReady)
        .map(|pod| pod.id.clone())
        .collect();
    each(pods, |pod| adopt_pod(&ops, pod, &bundles)).await;
    each(containers, |container| adopt_container(&ops, container)).await;
    if quarantined.is_empty() {
        sweep(&ops, bundles).await?;
    } else {
        // What looks like an orphan may be what an unreadable record is about.
        tracing::error!(
            ?quarantined,
            "some records cannot be read: nothing is swept until they are repaired or removed"
        );
    }
    tokio::spawn(watch::run(Arc::downgrade(&ops), exits));
    let begun = begun.iter().filter_map(|id| ops.table.exact_pod(id.as_str()));
    let begun = begun.filter(|entry| !stop_pod::is_stopped(&ops, &entry.pod()));
    stop_pod::finish_begun(&ops, begun.collect());
    Ok(ops)
}

async fn each<T, F: Future<Output = ()>>(items: Vec<T>, what: impl FnMut(T) -> F) {
    stream::iter(items)
        .map(what)
        .buffer_unordered(PARALLEL)
        .collect::<()>()
        .await;
}

/// Takes an unfinished RunPodSandbox back, or keeps what resists as a pod that is not ready.
async fn roll_back(ops: &Arc<Inner>, intent: Intent) {
    let Intent::RunPod { id, spec, pins } = intent;
    let pod = Pod {
        id: id.clone(),
        spec: *spec,
        created_at: Timestamp::now(),
        state: PodState::NotReady,
        network_owed: pins.net.is_some(),
        pins,
        attachment: None,
        effective_hostname: String::new(),
        boot_id: ops.config.boot_id.clone(),
    };
    tracing::info!(pod = %id, "rolling back a RunPodSandbox that was under way");
    match take_back(ops, &pod).await {
        Ok(()) => {
            if let Err(error) = ops.commit("end the intent", vec![Change::End(id.clone())]).await {
                tracing::warn!(pod = %id, error = error.chain());
            }
        }
        Err(error) => {
            tracing::warn!(pod = %id, error = error.chain(), "kept as a pod that is not ready");
            ops.pod_names.take(&pod.spec.metadata.key(), id);
            run_pod::keep_broken(ops, pod).await;
        }
    }
}

async fn take_back(ops: &Arc<Inner>, pod: &Pod) -> Result<(), Failure> {
    pod_init::remove(ops, &pod.id, &pod.spec).await?;
    if pod.network_owed {
        let detached = ops.network.detach(&stop_pod::detach_of(&ops.config, pod)).await;
        detached.map_err(|error| driver::network("take the network down", error))?;
    }
    let unpinned = stop_pod::unpin(ops, &pod.pins).await;
    unpinned.map_err(|error| driver::runtime("let go of the namespaces", error))?;
    pod_files::remove(&ops.config, &pod.id)
        .map_err(|error| Failure::caused(Kind::Unknown, "remove the pod's files", error))
}

/// Lists a recorded pod, ready only if what it needs is still there.
async fn adopt_pod(ops: &Arc<Inner>, mut pod: Pod, bundles: &BTreeSet<ContainerId>) {
    let same_boot = pod.boot_id == ops.config.boot_id;
    let has_init = pod_init::is_wanted(&pod.spec) || bundles.iter().any(|id| id.as_str() == pod.id.as_str());
    let mut init = None;
    if pod.state == PodState::Ready {
        let whole = same_boot && pins_are_there(&pod.pins);
        if whole && has_init {
            init = find_init(ops, &pod).await;
        }
        if !whole || (pod_init::is_wanted(&pod.spec) && init.is_none()) {
            pod.state = PodState::NotReady;
            // Until DEL has succeeded, address and plugin state are still taken, whatever became of the namespace.
            pod.network_owed |= pod.attachment.is_some();
            tracing::info!(pod = %pod.id, same_boot, "pod is not ready: its namespaces or its init are gone");
            let change = Change::PutPod(Box::new(pod.clone()));
            if let Err(error) = ops.commit("record the pod", vec![change]).await {
                tracing::warn!(pod = %pod.id, error = error.chain());
            }
        }
    }
    ops.pod_names.take(&pod.spec.metadata.key(), pod.id.clone());
    let asked_in_vain = init.as_ref().is_some_and(|init| init.task.is_none());
    let entry = Arc::new(PodEntry::new(pod, init));
    ops.table.insert_pod(Arc::clone(&entry));
    if asked_in_vain {
        let ops = Arc::clone(ops);
        tokio::spawn(async move { find_init_later(&ops, &entry).await });
    }
}

async fn find_init_later(ops: &Arc<Inner>, entry: &PodEntry) {
    loop {
        tokio::time::sleep(RETRY).await;
        let pod = entry.pod();
        if pod.state == PodState::NotReady {
            return;
        }
        match find_init(ops, &pod).await {
            Some(PodInit { task: None, .. }) => {}
            Some(init) => {
                *entry.init.lock().await = Some(init);
                return;
            }
            None => return watch::init_ended(ops, entry).await,
        }
    }
}

fn pins_are_there(pins: &Pins) -> bool {
    let Pins { net, ipc, uts } = pins;
    [net, ipc, uts]
        .into_iter()
        .flatten()
        .all(|path| pod_files::is_mount(path))
}

/// The pod's init if it runs; one that cannot be asked now counts as running, never as lost (yardstick X6).
async fn find_init(ops: &Arc<Inner>, pod: &Pod) -> Option<PodInit> {
    let id = pod_init::id(&pod.id).ok()?;
    match ask(ops, &id).await {
        Found::Running(task, pid, _) => Some(PodInit { task: Some(task), pid }),
        Found::Unclear => Some(PodInit { task: None, pid: 0 }),
        Found::Created(_) | Found::Ended(_) | Found::Lost => {
            if let Err(error) = pod_init::remove(ops, &pod.id, &pod.spec).await {
                tracing::warn!(pod = %pod.id, error = error.chain());
            }
            None
        }
    }
}

/// What a shim says.
#[derive(Debug)]
enum Found {
    Created(Arc<crate::runtime::Task>),
    Running(Arc<crate::runtime::Task>, i32, Timestamp),
    Ended(TaskEnd),
    Lost,
    /// It could not be asked: transient trouble.
    Unclear,
}

async fn ask(ops: &Inner, id: &ContainerId) -> Found {
    for attempt in 1..=TRIES {
        match ops.runtime.adopt(id).await {
            Ok(Adopted::Created(task)) => return Found::Created(task),
            Ok(Adopted::Running(task, pid, since)) => return Found::Running(task, pid, since),
            Ok(Adopted::Ended(end)) => return Found::Ended(end),
            Ok(Adopted::Lost) => return Found::Lost,
            Err(error) => {
                tracing::warn!(container = %id, attempt, error = chain(&error), "the shim could not be asked")
            }
        }
    }
    Found::Unclear
}

/// What a record needs, given the boot it is from and what its shim says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The record stands.
    Keep,
    /// It runs.
    Run(i32, Timestamp),
    /// It has ended, like this.
    End(Exit),
    /// Nobody knows how it ended, and what is left of it must go first.
    CleanUp,
    /// Ask again.
    AskAgain,
}

fn verdict(recorded: &ContainerState, found: &Found) -> Verdict {
    match (recorded, found) {
        // The first word on an end stands.
        (ContainerState::Exited(_), _) => Verdict::Keep,
        (ContainerState::Created, Found::Created(_)) => Verdict::Keep,
        // The store never says "running" before the shim does; a shim that forgot is not to be believed.
        (ContainerState::Running { .. }, Found::Created(_)) => Verdict::CleanUp,
        (_, Found::Running(_, pid, since)) => Verdict::Run(*pid, *since),
        (_, Found::Ended(end)) => Verdict::End(watch::told(end.clone())),
        (_, Found::Lost) => Verdict::CleanUp,
        (_, Found::Unclear) => Verdict::AskAgain,
    }
}

/// Lists a recorded container in the state that it really has.
async fn adopt_container(ops: &Arc<Inner>, container: Container) {
    let entry = Arc::new(ContainerEntry::new(container, None));
    let container = entry.container();
    if let Some(pod) = ops.table.exact_pod(container.pod.as_str()) {
        let key = create_container::key(&pod, &container.spec.metadata);
        ops.container_names.take(&key, entry.id.clone());
    }
    let ended = matches!(container.state, ContainerState::Exited(_));
    let same_boot = container.boot_id == ops.config.boot_id;
    if ended && same_boot && ops.runtime.has_shim(&entry.id) {
        // The daemon died between recording the end and telling the shim to go.
        clean_up(ops, &container).await;
    }
    let found = match (ended, same_boot) {
        (true, _) | (_, false) => Found::Lost,
        (false, true) => ask(ops, &entry.id).await,
    };
    ops.table.insert_container(Arc::clone(&entry));
    if settle(ops, &entry, found).await == Settled::No {
        let ops = Arc::clone(ops);
        tokio::spawn(async move { settle_later(&ops, &entry).await });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

async fn settle(ops: &Arc<Inner>, entry: &ContainerEntry, found: Found) -> Settled {
    let container = entry.container();
    let verdict = verdict(&container.state, &found);
    if let Found::Created(task) | Found::Running(task, ..) = &found {
        entry.set_task(Some(Arc::clone(task)));
    }
    match verdict {
        Verdict::Keep => {}
        Verdict::Run(pid, since) => {
            // An error means that it ended between the answer and now: the watch has published that.
            drop(entry.transition(|state| state.started(pid, since)));
        }
        Verdict::End(exit) => {
            if watch::publish(ops, entry, exit).await == watch::Saved::Yes {
                clean_up(ops, &container).await;
            }
        }
        Verdict::CleanUp => {
            clean_up(ops, &container).await;
            entry.set_task(None);
            let _ = watch::publish(ops, entry, watch::lost()).await;
        }
        Verdict::AskAgain => return Settled::No,
    }
    Settled::Yes
}

async fn settle_later(ops: &Arc<Inner>, entry: &ContainerEntry) {
    loop {
        tokio::time::sleep(RETRY).await;
        if ops.table.exact_container(&entry.id).is_none() {
            return;
        }
        let found = ask(ops, &entry.id).await;
        if settle(ops, entry, found).await == Settled::Yes {
            return;
        }
    }
}

async fn clean_up(ops: &Inner, container: &Container) {
    if let Err(error) = ops.runtime.cleanup(&container.id, &container.cgroup).await {
        tracing::warn!(container = %container.id, error = chain(&error), "processes or files stay until the container is removed");
    }
}

/// Removes what nobody has recorded: shims without a bundle, bundles, pods' files and pins under our `state`, writable layers and layers under
/// our `root`.
async fn sweep(ops: &Arc<Inner>, bundles: BTreeSet<ContainerId>) -> Result<(), Failure> {
    if let Err(error) = ops.runtime.end_strays().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the next start tries again");
    }
    let orphans = bundles
        .into_iter()
        .filter(|id| ops.table.exact_container(id).is_none() && ops.table.exact_pod(id.as_str()).is_none());
    each(orphans.collect(), |id| sweep_bundle(ops, id)).await;
    let dirs = pod_files::all(&ops.config)
        .map_err(|error| Failure::caused(Kind::Internal, "look for files of forgotten pods", error))?;
    for pod in dirs {
        if ops.table.exact_pod(pod.as_str()).is_none() {
            sweep_pod(ops, &pod).await;
        }
    }
    let containers = ops.table.containers(&crate::domain::filter::ContainerFilter::default());
    let containers: Vec<_> = containers.iter().map(|entry| entry.id.clone()).collect();
    let swept = ops.snapshot.sweep(&containers).await;
    swept.map_err(|error| driver::snapshot("look for forgotten writable layers", error))?;
    let swept = ops.image.sweep(&ops.images.layers()).await;
    swept.map_err(|error| driver::layers("look for forgotten layers", error))?;
    crate::ops::gc::layers(ops).await;
    Ok(())
}

async fn sweep_bundle(ops: &Arc<Inner>, id: ContainerId) {
    let cgroup = ops.runtime.bundle_cgroup(&id).unwrap_or_default();
    tracing::info!(container = %id, cgroup, "removing what no record knows");
    if let Err(error) = ops.runtime.cleanup(&id, &cgroup).await {
        tracing::warn!(container = %id, error = chain(&error), "the next start tries again");
    }
}

/// A pod directory without a record: its pins can only be where ours are.
async fn sweep_pod(ops: &Arc<Inner>, pod: &PodId) {
    tracing::info!(%pod, "removing files of a pod that no record knows");
    let pins = Pins {
        net: Some(run_pod::netns(&ops.config, pod)),
        ipc: Some(ops.pin_path(pod, "ipc")),
        uts: Some(ops.pin_path(pod, "uts")),
    };
    if let Err(error) = stop_pod::unpin(ops, &pins).await {
        tracing::warn!(%pod, error = chain(&error), "the next start tries again");
        return;
    }
    if let Err(error) = pod_files::remove(&ops.config, pod) {
        tracing::warn!(%pod, error = chain(&error), "the next start tries again");
    }
}

#[cfg(test)]
mod tests;
