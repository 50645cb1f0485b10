//! What the verbs ask of the shared state beside the drivers: commits that cannot bring a removed object back, and the
//! small look-ups that several verbs need.

use std::path::PathBuf;

use tokio::sync::Mutex;

use crate::base::id::{ContainerId, PodId};
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::Pod;
use crate::ops::table::{ContainerEntry, PodEntry};
use crate::ops::{Inner, driver};
use crate::state::Change;

/// Whether an object may still be written to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It may.
    Recorded,
    /// Its record is deleted: a late exit must not bring it back.
    Removed,
}

/// Orders the commits of one object.
pub(crate) type RecordLock = Mutex<Kept>;

impl Inner {
    /// Commits changes.
    ///
    /// # Errors
    /// None of them was recorded.
    pub(crate) async fn commit(&self, doing: &str, changes: Vec<Change>) -> Result<(), Failure> {
        let committed = self.state.commit(changes).await;
        committed.map_err(|error| driver::state(doing, error))
    }

    /// Records the pod as it is, unless it was removed.
    ///
    /// # Errors
    /// It was not recorded.
    pub(crate) async fn save_pod(&self, entry: &PodEntry) -> Result<(), Failure> {
        let kept = entry.record.lock().await;
        if *kept == Kept::Removed {
            return Ok(());
        }
        let pod = Pod::clone(&entry.pod());
        self.commit("record the pod", vec![Change::PutPod(Box::new(pod))]).await
    }

    /// Deletes the pod's record for good.
    ///
    /// # Errors
    /// It is still there.
    pub(crate) async fn delete_pod(&self, entry: &PodEntry) -> Result<(), Failure> {
        let mut kept = entry.record.lock().await;
        let change = Change::DeletePod(entry.id.clone());
        self.commit("forget the pod", vec![change]).await?;
        *kept = Kept::Removed;
        Ok(())
    }

    /// Records the container as it is, unless it was removed.
    ///
    /// # Errors
    /// It was not recorded.
    pub(crate) async fn save_container(&self, entry: &ContainerEntry) -> Result<(), Failure> {
        let kept = entry.record.lock().await;
        if *kept == Kept::Removed {
            return Ok(());
        }
        let container = crate::domain::container::Container::clone(&entry.container());
        let change = Change::PutContainer(Box::new(container));
        self.commit("record the container", vec![change]).await
    }

    /// Deletes the container's record for good.
    ///
    /// # Errors
    /// It is still there.
    pub(crate) async fn delete_container(&self, entry: &ContainerEntry) -> Result<(), Failure> {
        let mut kept = entry.record.lock().await;
        let change = Change::DeleteContainer(entry.id.clone());
        self.commit("forget the container", vec![change]).await?;
        *kept = Kept::Removed;
        Ok(())
    }

    /// Where a namespace of a pod is pinned that no other node agent looks for.
    pub(crate) fn pin_path(&self, pod: &PodId, sort: &str) -> PathBuf {
        self.config.state.join("ns").join(format!("{pod}-{sort}"))
    }

    /// The container's OCI runtime spec, from its bundle.
    ///
    /// # Errors
    /// The bundle is gone: the container has ended, or the host was rebooted.
    pub(crate) async fn bundle_spec(&self, id: &ContainerId) -> Result<Vec<u8>, Failure> {
        let bundle = self.config.state.join("c").join(id.as_str());
        let path = bundle.join(copepod_proto::bundle::CONFIG);
        let read = tokio::fs::read(&path).await;
        read.map_err(|error| Failure::caused(Kind::Internal, format!("read {}", path.display()), error))
    }

    /// The pid of the container of this pod that another one wants to share a PID namespace with.
    ///
    /// # Errors
    /// There is none, it is of another pod, or it does not run.
    pub(crate) fn running_target(&self, pod: &PodEntry, target: &str) -> Result<i32, Failure> {
        let entry = self.table.container(target)?;
        let container = entry.container();
        if container.pod != pod.id {
            return Err(Failure::new(
                Kind::InvalidArgument,
                format!(
                    "target container {} is of another pod: name one of pod {}",
                    entry.id, pod.id
                ),
            ));
        }
        container.state.running().map(|(pid, _)| pid).ok_or_else(|| {
            Failure::new(
                Kind::FailedPrecondition,
                format!(
                    "target container {} is {}: its processes can be shared only while it runs",
                    entry.id,
                    container.state.name()
                ),
            )
        })
    }
}
