//! RemoveContainer: kill if it runs, free what it has, forget it. Its log stays: that is kubelet's (contract §4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;

use crate::domain::error::{Failure, Kind};
use crate::ops::request::StopMode;
use crate::ops::stage::stage;
use crate::ops::stop_pod::CLEANUP_DEADLINE;
use crate::ops::table::ContainerEntry;
use crate::ops::{Inner, create_container, driver, gc, stop_container};

/// One rename; its files go in the background.
const LAYER_DEADLINE: Duration = Duration::from_secs(30);

/// The runbook.
pub(crate) async fn remove(ops: &Arc<Inner>, text: &str) -> Result<(), Failure> {
    let Some(entry) = ops.table.find_container(text)? else {
        return Ok(());
    };
    let Ok(busy) = entry.lifecycle.try_lock() else {
        return Err(Failure::new(
            Kind::FailedPrecondition,
            format!(
                "container {} is being started or removed by another request: try again",
                entry.id
            ),
        ));
    };
    remove_locked(ops, &entry, &busy).await
}

/// The same, for who holds the container's lock.
pub(crate) async fn remove_locked(
    ops: &Arc<Inner>,
    entry: &Arc<ContainerEntry>,
    _busy: &MutexGuard<'_, ()>,
) -> Result<(), Failure> {
    if ops.table.exact_container(&entry.id).is_none() {
        return Ok(());
    }
    stop_container::stop_entry(ops, entry, StopMode::Now).await?;
    let container = entry.container();
    stage("free processes", CLEANUP_DEADLINE, async {
        let cleaned = ops.runtime.cleanup(&entry.id, &container.cgroup).await;
        cleaned.map_err(|error| driver::runtime(format!("free the processes of container {}", entry.id), error))
    })
    .await?;
    entry.set_task(None);
    stage("free writable layer", LAYER_DEADLINE, async {
        let removed = ops.snapshot.remove(&entry.id).await;
        removed.map_err(|error| driver::snapshot(format!("free the writable layer of container {}", entry.id), error))
    })
    .await?;
    ops.delete_container(entry).await?;
    ops.table.remove_container(&entry.id);
    if let Some(pod) = ops.table.exact_pod(container.pod.as_str()) {
        let key = create_container::key(&pod, &container.spec.metadata);
        ops.container_names.release(&key);
    }
    tracing::info!(op = "RemoveContainer", container = %entry.id, pod = %container.pod, "container removed");
    if ops.images.exact(&container.image_id).is_none() {
        gc::layers(ops).await;
    }
    Ok(())
}
