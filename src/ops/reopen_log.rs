//! ReopenContainerLog: kubelet has renamed the file; from now on lines go to a new one (contract §7).

use std::sync::Arc;

use crate::domain::error::Failure;
use crate::ops::{Inner, driver, exec};

/// The runbook.
pub(crate) async fn reopen(ops: &Arc<Inner>, text: &str) -> Result<(), Failure> {
    let entry = ops.table.container(text)?;
    exec::running(&entry, "reopen its log")?;
    if entry.container().log_path.is_none() {
        // Without a log there is nothing to reopen, and nothing written to an old file.
        return Ok(());
    }
    let reopened = entry.task()?.reopen_log().await;
    reopened.map_err(|error| driver::runtime(format!("reopen the log of container {}", entry.id), error))
}
