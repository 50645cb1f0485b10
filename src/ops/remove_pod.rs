//! RemovePodSandbox: stop, remove the containers, the files, the record; then it has never been.

use std::sync::Arc;

use crate::domain::error::{Failure, Kind};
use crate::ops::{Inner, pod_files, remove_container, stop_pod};

/// The runbook.
pub(crate) async fn remove(ops: &Arc<Inner>, text: &str) -> Result<(), Failure> {
    let Some(entry) = ops.table.find_pod(text)? else {
        return Ok(());
    };
    let _alone = entry.lifecycle.write().await;
    if ops.table.exact_pod(entry.id.as_str()).is_none() {
        return Ok(());
    }
    stop_pod::stop_locked(ops, &entry).await?;
    for container in ops.table.containers_of(&entry.id) {
        let busy = container.lifecycle.lock().await;
        remove_container::remove_locked(ops, &container, &busy).await?;
    }
    let of = entry.id.clone();
    let removed = pod_files::off_worker(ops, move |config| pod_files::remove(config, &of)).await;
    removed.map_err(|error| Failure::caused(Kind::Unknown, "remove the pod's files", error))?;
    ops.delete_pod(&entry).await?;
    ops.table.remove_pod(&entry.id);
    ops.pod_names.release(&entry.pod().spec.metadata.key());
    tracing::info!(op = "RemovePodSandbox", pod = %entry.id, "pod removed");
    Ok(())
}
