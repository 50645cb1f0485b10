//! At boot: what became of containers while no daemon was there. The shim is asked first, then its record is read;
//! only when neither knows anything is a container lost.

use std::sync::Arc;

use containerd_shim_protos::api;

use super::connection::Connection;
use super::task::nanos;
use super::{Adopted, Runtime, RuntimeError, TaskEnd, bundle};
use crate::base::clock::Timestamp;
use crate::base::id::ContainerId;

impl Runtime {
    /// At boot: what became of a container.
    ///
    /// # Errors
    /// Transient trouble: never to be read as "lost" (yardstick X6).
    pub async fn adopt(&self, id: &ContainerId) -> Result<Adopted, RuntimeError> {
        let dir = self.bundle(id);
        let connection = match Connection::open(id, &dir).await {
            Ok(connection) => Arc::new(connection),
            Err(RuntimeError::ShimGone { .. }) => {
                return Ok(bundle::read_end(id, &dir)?.map_or(Adopted::Lost, Adopted::Ended));
            }
            Err(error) => return Err(error),
        };
        let cgroup = self.bundle_cgroup(id).unwrap_or_default();
        let task = Arc::new(self.task(id, &cgroup, connection));
        let state = match task.state().await {
            Ok(state) => state,
            // It ended between the two: its record says how.
            Err(error @ RuntimeError::ShimGone { .. }) => {
                return bundle::read_end(id, &dir)?.map(Adopted::Ended).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let adopted = match state.status.enum_value_or_default() {
            api::Status::CREATED => Adopted::Created(Arc::clone(&task)),
            api::Status::RUNNING | api::Status::PAUSED | api::Status::PAUSING => {
                Adopted::Running(Arc::clone(&task), state.pid.cast_signed(), task.started_at())
            }
            api::Status::STOPPED => return Ok(Adopted::Ended(ended(id, &dir, &state)?)),
            // It was never built: the daemon died in the middle of a create.
            api::Status::UNKNOWN => return Ok(Adopted::Lost),
        };
        self.announcer.expect(id);
        task.watch(&self.announcer);
        Ok(adopted)
    }
}

fn ended(id: &ContainerId, dir: &std::path::Path, state: &api::StateResponse) -> Result<TaskEnd, RuntimeError> {
    let recorded = bundle::read_end(id, dir)?;
    Ok(recorded.unwrap_or_else(|| TaskEnd {
        code: state.exit_status.cast_signed(),
        oom_killed: false,
        started_at: Timestamp(0),
        exited_at: nanos(&state.exited_at).unwrap_or_else(Timestamp::now),
        start_error: None,
    }))
}
