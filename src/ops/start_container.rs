//! StartContainer: opens the gate that Create left closed. Nothing is committed: the shim knows that the process runs.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::error::chain;
use crate::domain::container::{ContainerState, Exit, ExitReason};
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::NamespaceMode;
use crate::ops::stage::stage;
use crate::ops::table::ContainerEntry;
use crate::ops::{Inner, driver};

/// The process is there already and only has to execve; a hanging network file system may keep that from ending.
const DEADLINE: Duration = Duration::from_secs(60);
/// Exit status of a container whose process could not be executed (contract §4.2).
const START_ERROR: i32 = 128;

/// The runbook.
pub(crate) async fn start(ops: &Arc<Inner>, text: &str) -> Result<(), Failure> {
    let entry = ops.table.container(text)?;
    let pod = ops.table.pod(entry.container().pod.as_str())?;
    // The pod's lock before the container's, as everywhere: who removes the pod holds the one and waits for the other.
    let _pod_stays = pod.lifecycle.read().await;
    let Ok(_busy) = entry.lifecycle.try_lock() else {
        return Err(Failure::new(
            Kind::FailedPrecondition,
            format!("container {} is being started or removed by another request", entry.id),
        ));
    };
    pod.ready()?;
    let container = entry.container();
    if container.state != ContainerState::Created {
        return Err(Failure::new(
            Kind::FailedPrecondition,
            format!(
                "container {} is {}: only a created one can be started, once",
                entry.id,
                container.state.name()
            ),
        ));
    }
    if let NamespaceMode::Target(target) = &container.spec.namespaces.pid {
        ops.running_target(&pod, target)?;
    }
    let task = entry.task()?;
    let mut message = None;
    let started = stage("start", DEADLINE, async {
        let started = task.start().await;
        started.map_err(|error| {
            message = error.start_error().map(str::to_owned);
            driver::runtime(format!("start container {}", entry.id), error)
        })
    })
    .await;
    match started {
        Ok((pid, at)) => {
            // A short-lived process may have ended, and been published as ended, before this line.
            let running = entry.transition(|state| state.started(pid, at));
            tracing::info!(op = "StartContainer", container = %entry.id, pid, short_lived = running.is_err());
            Ok(())
        }
        Err(failure) => {
            if let Err(error) = task.kill().await {
                tracing::debug!(container = %entry.id, error = chain(&error), "kill after a failed start");
            }
            publish_failed(ops, &entry, message.unwrap_or_else(|| failure.chain())).await;
            Err(failure)
        }
    }
}

/// The container stays, exited, so that its error can be read (contract §4).
async fn publish_failed(ops: &Arc<Inner>, entry: &ContainerEntry, message: String) {
    let now = Timestamp::now();
    let exit = Exit {
        code: START_ERROR,
        reason: ExitReason::StartError,
        message,
        started_at: now,
        finished_at: now,
    };
    if entry.transition(|state| state.exited(exit)).is_ok()
        && let Err(error) = ops.save_container(entry).await
    {
        // The shim's exit record says the same, and the watch commits it again.
        tracing::warn!(container = %entry.id, error = error.chain());
    }
}
