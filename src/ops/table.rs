//! Every complete object, in memory. Lists and look-ups read from here and wait for no lifecycle: the map's lock is
//! held for a few lines, each object has locks of its own.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use crate::base::id::{ContainerId, PodId};
use crate::domain::container::{Container, ContainerState, WrongState};
use crate::domain::error::{Failure, Kind};
use crate::domain::filter::{ContainerFilter, PodFilter};
use crate::domain::pod::{Pod, PodState};
use crate::ops::records::{Kept, RecordLock};
use crate::ops::stop_container::Stopping;
use crate::runtime::Task;

/// kubelet's hottest filter (contract §2.5).
const UID_LABEL: &str = "io.kubernetes.pod.uid";

/// The objects.
#[derive(Debug, Default)]
pub(crate) struct Table {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    pods: BTreeMap<PodId, Arc<PodEntry>>,
    containers: BTreeMap<ContainerId, Arc<ContainerEntry>>,
    pods_by_uid: BTreeMap<String, BTreeSet<PodId>>,
    containers_by_uid: BTreeMap<String, BTreeSet<ContainerId>>,
    containers_by_pod: BTreeMap<PodId, BTreeSet<ContainerId>>,
}

/// A pod and its locks.
#[derive(Debug)]
pub(crate) struct PodEntry {
    /// Its id.
    pub(crate) id: PodId,
    /// Creating and starting containers hold it shared, stopping and removing the pod exclusively: a create that races
    /// with a stop loses (contract §3).
    pub(crate) lifecycle: tokio::sync::RwLock<()>,
    /// Orders the commits of its record.
    pub(crate) record: RecordLock,
    /// The pod's init, when it has one; the lock makes its late start single.
    pub(crate) init: tokio::sync::Mutex<Option<PodInit>>,
    pod: RwLock<Arc<Pod>>,
}

/// PID 1 of a pod's shared PID namespace.
#[derive(Debug, Clone)]
pub(crate) struct PodInit {
    /// Its shim; `None` when it could not be reached at boot.
    pub(crate) task: Option<Arc<Task>>,
    /// Process id on the host.
    pub(crate) pid: i32,
}

/// A container and its locks.
#[derive(Debug)]
pub(crate) struct ContainerEntry {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Held by start and remove; a stop waits for it only while its holder starts the container.
    pub(crate) lifecycle: tokio::sync::Mutex<()>,
    /// Orders the commits of its record.
    pub(crate) record: RecordLock,
    /// The stop under way, which later ones join.
    pub(crate) stopping: Mutex<Option<Stopping>>,
    /// The container's process object, parsed once for its execs.
    pub(crate) process: Mutex<Option<Arc<crate::oci::exec::ContainerProcess>>>,
    container: watch::Sender<Arc<Container>>,
    task: Mutex<Option<Arc<Task>>>,
}

impl PodEntry {
    pub(crate) fn new(pod: Pod, init: Option<PodInit>) -> Self {
        Self {
            id: pod.id.clone(),
            lifecycle: tokio::sync::RwLock::new(()),
            record: RecordLock::new(Kept::Recorded),
            init: tokio::sync::Mutex::new(init),
            pod: RwLock::new(Arc::new(pod)),
        }
    }

    /// The pod as it is now.
    pub(crate) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.pod.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the pod; returns what it became.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
        let mut slot = self.pod.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut slot));
        Arc::clone(&slot)
    }

    /// The pod, if containers may be made in it.
    ///
    /// # Errors
    /// `FailedPrecondition`.
    pub(crate) fn ready(&self) -> Result<Arc<Pod>, Failure> {
        let pod = self.pod();
        match pod.state {
            PodState::Ready => Ok(pod),
            PodState::NotReady => Err(Failure::new(
                Kind::FailedPrecondition,
                format!(
                    "pod {} is not ready: it was stopped or its init ended; remove it and run a new one",
                    self.id
                ),
            )),
        }
    }
}

impl ContainerEntry {
    pub(crate) fn new(container: Container, task: Option<Arc<Task>>) -> Self {
        Self {
            id: container.id.clone(),
            lifecycle: tokio::sync::Mutex::new(()),
            record: RecordLock::new(Kept::Recorded),
            stopping: Mutex::new(None),
            process: Mutex::new(None),
            container: watch::Sender::new(Arc::new(container)),
            task: Mutex::new(task),
        }
    }

    /// The container as it is now.
    pub(crate) fn container(&self) -> Arc<Container> {
        Arc::clone(&self.container.borrow())
    }

    /// Moves the container to the state that `transition` gives and publishes it.
    ///
    /// # Errors
    /// The transition is not allowed from the state it has by now; nothing changes.
    pub(crate) fn transition(
        &self,
        transition: impl FnOnce(&ContainerState) -> Result<ContainerState, WrongState>,
    ) -> Result<Arc<Container>, WrongState> {
        let mut outcome = Ok(());
        self.container.send_if_modified(|slot| match transition(&slot.state) {
            Ok(state) => {
                Arc::make_mut(slot).state = state;
                true
            }
            Err(wrong) => {
                outcome = Err(wrong);
                false
            }
        });
        outcome.map(|()| self.container())
    }

    /// Returns once the container has ended.
    pub(crate) async fn ended(&self) {
        let mut states = self.container.subscribe();
        // The sender lives in `self`, so the channel cannot close under us.
        drop(
            states
                .wait_for(|container| matches!(container.state, ContainerState::Exited(_)))
                .await,
        );
    }

    /// Its shim.
    ///
    /// # Errors
    /// `Unavailable`: it could not be reached at boot and is still being tried.
    pub(crate) fn task(&self) -> Result<Arc<Task>, Failure> {
        lock(&self.task).clone().ok_or_else(|| {
            Failure::new(
                Kind::Unavailable,
                format!(
                    "the shim of container {} does not answer since the daemon was started: try again, or remove \
                     the container",
                    self.id
                ),
            )
        })
    }

    /// Its shim, if there is one that answers.
    pub(crate) fn has_task(&self) -> Option<Arc<Task>> {
        lock(&self.task).clone()
    }

    /// Sets or clears its shim.
    pub(crate) fn set_task(&self, task: Option<Arc<Task>>) {
        *lock(&self.task) = task;
    }
}

impl Table {
    /// Makes a pod visible.
    pub(crate) fn insert_pod(&self, entry: Arc<PodEntry>) {
        let uid = entry.pod().spec.labels.get(UID_LABEL).cloned();
        let mut maps = self.write();
        if let Some(uid) = uid {
            maps.pods_by_uid.entry(uid).or_default().insert(entry.id.clone());
        }
        maps.pods.insert(entry.id.clone(), entry);
    }

    /// Makes a pod invisible.
    pub(crate) fn remove_pod(&self, id: &PodId) {
        let mut maps = self.write();
        if let Some(entry) = maps.pods.remove(id)
            && let Some(uid) = entry.pod().spec.labels.get(UID_LABEL)
        {
            unindex(&mut maps.pods_by_uid, uid, id);
        }
    }

    /// Makes a container visible.
    pub(crate) fn insert_container(&self, entry: Arc<ContainerEntry>) {
        let container = entry.container();
        let mut maps = self.write();
        if let Some(uid) = container.spec.labels.get(UID_LABEL) {
            let index = maps.containers_by_uid.entry(uid.clone()).or_default();
            index.insert(entry.id.clone());
        }
        let siblings = maps.containers_by_pod.entry(container.pod.clone()).or_default();
        siblings.insert(entry.id.clone());
        maps.containers.insert(entry.id.clone(), entry);
    }

    /// Makes a container invisible.
    pub(crate) fn remove_container(&self, id: &ContainerId) {
        let mut maps = self.write();
        if let Some(entry) = maps.containers.remove(id) {
            let container = entry.container();
            if let Some(uid) = container.spec.labels.get(UID_LABEL) {
                unindex(&mut maps.containers_by_uid, uid, id);
            }
            unindex(&mut maps.containers_by_pod, &container.pod, id);
        }
    }

    /// The pod with this id or unambiguous prefix, if there is one.
    ///
    /// # Errors
    /// `InvalidArgument` when several match.
    pub(crate) fn find_pod(&self, text: &str) -> Result<Option<Arc<PodEntry>>, Failure> {
        find(&self.read().pods, text, "pod")
    }

    /// The container with this id or unambiguous prefix, if there is one.
    ///
    /// # Errors
    /// `InvalidArgument` when several match.
    pub(crate) fn find_container(&self, text: &str) -> Result<Option<Arc<ContainerEntry>>, Failure> {
        find(&self.read().containers, text, "container")
    }

    /// As [`Table::find_pod`].
    ///
    /// # Errors
    /// `NotFound` too.
    pub(crate) fn pod(&self, text: &str) -> Result<Arc<PodEntry>, Failure> {
        self.find_pod(text)?.ok_or_else(|| not_found("pod", text))
    }

    /// As [`Table::find_container`].
    ///
    /// # Errors
    /// `NotFound` too.
    pub(crate) fn container(&self, text: &str) -> Result<Arc<ContainerEntry>, Failure> {
        self.find_container(text)?.ok_or_else(|| not_found("container", text))
    }

    /// The container with exactly this id.
    pub(crate) fn exact_container(&self, id: &ContainerId) -> Option<Arc<ContainerEntry>> {
        self.read().containers.get(id).cloned()
    }

    /// The pod with exactly this id.
    pub(crate) fn exact_pod(&self, id: &str) -> Option<Arc<PodEntry>> {
        self.read().pods.get(id).cloned()
    }

    /// The pod's containers.
    pub(crate) fn containers_of(&self, pod: &PodId) -> Vec<Arc<ContainerEntry>> {
        let maps = self.read();
        let ids = maps.containers_by_pod.get(pod).into_iter().flatten();
        ids.filter_map(|id| maps.containers.get(id).cloned()).collect()
    }

    /// Pods that pass, by id.
    pub(crate) fn pods(&self, filter: &PodFilter) -> Vec<Arc<Pod>> {
        let maps = self.read();
        let candidates: Vec<_> = match (&filter.id, filter.labels.get(UID_LABEL)) {
            (Some(prefix), _) => find(&maps.pods, prefix, "pod").ok().flatten().into_iter().collect(),
            (None, Some(uid)) => indexed(&maps.pods_by_uid, uid, &maps.pods),
            (None, None) => maps.pods.values().cloned().collect(),
        };
        drop(maps);
        let pods = candidates.into_iter().map(|entry| entry.pod());
        pods.filter(|pod| filter.passes(pod)).collect()
    }

    /// Containers that pass, by id.
    pub(crate) fn containers(&self, filter: &ContainerFilter) -> Vec<Arc<ContainerEntry>> {
        let maps = self.read();
        let pod = match &filter.pod {
            None => None,
            // The pod may be gone or ambiguous: then nothing matches (contract §2.1).
            Some(prefix) => match find(&maps.pods, prefix, "pod").ok().flatten() {
                Some(entry) => Some(entry.id.clone()),
                None => return Vec::new(),
            },
        };
        let candidates: Vec<_> = match (&filter.id, &pod, filter.labels.get(UID_LABEL)) {
            (Some(prefix), _, _) => {
                let found = find(&maps.containers, prefix, "container").ok().flatten();
                found.into_iter().collect()
            }
            (None, Some(pod), _) => indexed(&maps.containers_by_pod, pod, &maps.containers),
            (None, None, Some(uid)) => indexed(&maps.containers_by_uid, uid, &maps.containers),
            (None, None, None) => maps.containers.values().cloned().collect(),
        };
        drop(maps);
        let passes =
            |container: &Container| pod.as_ref().is_none_or(|pod| *pod == container.pod) && filter.passes(container);
        candidates
            .into_iter()
            .filter(|entry| passes(&entry.container()))
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks a mutex whose critical sections leave their value whole, so that a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find<K, V>(map: &BTreeMap<K, Arc<V>>, text: &str, what: &str) -> Result<Option<Arc<V>>, Failure>
where
    K: Ord + Borrow<str>,
{
    if text.is_empty() {
        return Err(Failure::new(Kind::InvalidArgument, format!("the {what} id is empty")));
    }
    let mut matching = map
        .range::<str, _>((Bound::Included(text), Bound::Unbounded))
        .take_while(|(id, _)| Borrow::<str>::borrow(*id).starts_with(text));
    let first = matching.next().map(|(_, entry)| Arc::clone(entry));
    match matching.next() {
        None => Ok(first),
        Some(_) => Err(Failure::new(
            Kind::InvalidArgument,
            format!("{what} id {text:?} is ambiguous: give more of its digits"),
        )),
    }
}

fn indexed<I: Ord, K: Ord, V>(index: &BTreeMap<I, BTreeSet<K>>, at: &I, map: &BTreeMap<K, Arc<V>>) -> Vec<Arc<V>> {
    let ids = index.get(at).into_iter().flatten();
    ids.filter_map(|id| map.get(id).cloned()).collect()
}

fn unindex<I: Ord + Clone, K: Ord>(index: &mut BTreeMap<I, BTreeSet<K>>, at: &I, id: &K) {
    if let Some(ids) = index.get_mut(at) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(at);
        }
    }
}

fn not_found(what: &str, text: &str) -> Failure {
    // A hostile id may be long: it is told shortened.
    let shown: String = text.chars().take(80).collect();
    Failure::new(
        Kind::NotFound,
        format!("no {what} has id {shown:?}: it was removed, or never existed"),
    )
}

#[cfg(test)]
pub(crate) mod tests;
