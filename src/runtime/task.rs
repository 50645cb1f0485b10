//! Commands to a container's shim, and the watch over it.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api;
use copepod_proto::bundle::read_start;
use copepod_proto::shim as own;
use ttrpc::Code;
use ttrpc::context::with_timeout;

use super::connection::QUICK;
use super::events::Announcer;
use super::{RuntimeError, Task, TaskEnd, bundle};
use crate::base::clock::Timestamp;
use crate::base::error::chain;
use crate::base::id::ContainerId;
use crate::domain::container::Signal;

/// execve reads the program from the container's disk, which may be a slow server.
const START: Duration = Duration::from_secs(60);

/// The shim kills by cgroup and may wait two seconds for it; after that it is done by path.
const KILL: Duration = Duration::from_secs(3);

/// Delete removes the cgroup, for which the kernel may take five seconds.
const DELETE: Duration = Duration::from_secs(8);

/// The log's disk may be slow; kubelet rotates logs one by one and gives up after two minutes.
const REOPEN: Duration = Duration::from_secs(10);

/// Between two tries to reach a shim that is there and cannot be reached (no file descriptors left, mostly).
const RETRY: Duration = Duration::from_secs(1);

impl Task {
    /// The container.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Runs the process; returns after execve succeeded.
    ///
    /// # Errors
    /// [`RuntimeError`] of kind start error carries the text; the exit follows as a [`super::TaskExit`] too.
    pub async fn start(&self) -> Result<(i32, Timestamp), RuntimeError> {
        let request = api::StartRequest {
            id: self.id.to_string(),
            ..Default::default()
        };
        let client = self.connection.task();
        let pending = client.start(with_timeout(0), &request);
        match self.connection.answer("start the container", START, pending).await {
            Ok(response) => Ok((response.pid.cast_signed(), self.started_at())),
            Err(error @ RuntimeError::Refused { .. }) => {
                let end = bundle::read_end(&self.id, &self.bundle).ok().flatten();
                match end.and_then(|end| end.start_error) {
                    Some(text) => Err(RuntimeError::StartFailed { text }),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// When it was started, from the shim's record, which is on disk before Start is answered.
    pub(super) fn started_at(&self) -> Timestamp {
        match read_start(&self.bundle) {
            Ok(Some(record)) => Timestamp(record.started_at),
            Ok(None) | Err(_) => Timestamp::now(),
        }
    }

    /// Signals init only. One that has ended already needs none.
    ///
    /// # Errors
    /// The shim does not answer in time.
    pub async fn signal(&self, signal: Signal) -> Result<(), RuntimeError> {
        self.kill_call(signal, Whom::Init, QUICK).await
    }

    /// SIGKILLs everything in the container, through the shim and, if it does not answer, by cgroup path.
    ///
    /// # Errors
    /// Neither worked.
    pub async fn kill(&self) -> Result<(), RuntimeError> {
        match self.kill_call(Signal::KILL, Whom::Everything, KILL).await {
            Ok(()) => Ok(()),
            Err(_) => self.kill_by_path().await,
        }
    }

    async fn kill_call(&self, signal: Signal, whom: Whom, deadline: Duration) -> Result<(), RuntimeError> {
        let request = api::KillRequest {
            id: self.id.to_string(),
            signal: signal.0.unsigned_abs(),
            all: whom == Whom::Everything,
            ..Default::default()
        };
        let client = self.connection.task();
        let pending = client.kill(with_timeout(0), &request);
        match self.connection.answer("signal the container", deadline, pending).await {
            Ok(_) => Ok(()),
            Err(RuntimeError::Refused { code, .. }) if ended(code) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn kill_by_path(&self) -> Result<(), RuntimeError> {
        let (cgroups, id, cgroup) = (Arc::clone(&self.cgroups), self.id.clone(), self.cgroup.clone());
        // cgroup files block while the kernel works.
        let killed = tokio::task::spawn_blocking(move || cgroups.kill(&id, &cgroup)).await;
        killed
            .map_err(|_| RuntimeError::Panicked { id: self.id.clone() })?
            .map_err(RuntimeError::Cgroup)
    }

    /// Lets go of an ended container: the shim frees the root and ends.
    ///
    /// # Errors
    /// It did not answer; [`super::Runtime::cleanup`] follows anyway.
    pub async fn delete(&self) -> Result<(), RuntimeError> {
        let request = api::DeleteRequest {
            id: self.id.to_string(),
            ..Default::default()
        };
        let client = self.connection.task();
        let pending = client.delete(with_timeout(0), &request);
        self.connection.answer("delete the container", DELETE, pending).await?;
        let request = api::ShutdownRequest {
            id: self.id.to_string(),
            ..Default::default()
        };
        let pending = client.shutdown(with_timeout(0), &request);
        match self.connection.answer("end the shim", QUICK, pending).await {
            // It ends so soon that the answer may be lost.
            Ok(_) | Err(RuntimeError::ShimGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens the log file anew.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn reopen_log(&self) -> Result<(), RuntimeError> {
        let request = own::ReopenLogRequest::new();
        let client = self.connection.shim();
        let pending = client.reopen_log(with_timeout(0), &request);
        self.connection
            .answer("reopen the log", REOPEN, pending)
            .await
            .map(drop)
    }

    /// Asks the shim where in its life the container is.
    pub(super) async fn state(&self) -> Result<api::StateResponse, RuntimeError> {
        let request = api::StateRequest {
            id: self.id.to_string(),
            ..Default::default()
        };
        let client = self.connection.task();
        let pending = client.state(with_timeout(0), &request);
        self.connection
            .answer("ask for the container's state", QUICK, pending)
            .await
    }

    /// Waits in the background for the container's end and tells it. The wait is a call held open: the shim answers
    /// when the exit is on disk, and a broken connection tells that the shim died.
    pub(super) fn watch(self: &Arc<Self>, announcer: &Arc<Announcer>) {
        let (task, announcer) = (Arc::clone(self), Arc::clone(announcer));
        tokio::spawn(async move {
            let end = task.wait_for_end(&announcer).await;
            announcer.tell(&task.id, end);
        });
    }

    async fn wait_for_end(&self, announcer: &Announcer) -> Option<TaskEnd> {
        let request = api::WaitRequest {
            id: self.id.to_string(),
            ..Default::default()
        };
        while announcer.expects(&self.id) {
            let client = self.connection.task();
            // The only call without a deadline: a container may run for years.
            let outcome = client.wait(with_timeout(0), &request).await;
            let error = match outcome {
                Ok(answer) => return Some(self.end(Some(&answer))),
                Err(error) => self.connection.failed("wait for the container", error),
            };
            match self.connection.renew().await {
                Ok(()) if matches!(error, RuntimeError::ShimGone { .. }) => {}
                Err(RuntimeError::ShimGone { .. }) => return self.shim_died().await,
                Ok(()) | Err(_) => {
                    tracing::warn!(container = %self.id, error = chain(&error), "cannot wait for the container, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        None
    }

    /// The end as recorded; the answer's two numbers when the record cannot be read (a full disk).
    fn end(&self, answer: Option<&api::WaitResponse>) -> TaskEnd {
        let recorded = bundle::read_end(&self.id, &self.bundle).ok().flatten();
        recorded.unwrap_or_else(|| TaskEnd {
            code: answer.map_or(255, |answer| answer.exit_status.cast_signed()),
            oom_killed: false,
            started_at: read_start(&self.bundle)
                .ok()
                .flatten()
                .map_or(Timestamp(0), |start| Timestamp(start.started_at)),
            exited_at: answer
                .and_then(|answer| nanos(&answer.exited_at))
                .unwrap_or_else(Timestamp::now),
            start_error: None,
        })
    }

    /// The shim is gone. What it recorded stands; without a record the container's processes have nobody who would
    /// ever tell of them, so they are ended before it is called lost.
    async fn shim_died(&self) -> Option<TaskEnd> {
        if let Ok(Some(end)) = bundle::read_end(&self.id, &self.bundle) {
            return Some(end);
        }
        tracing::warn!(container = %self.id, "the container's shim died without a record of an exit");
        if let Err(error) = self.kill_by_path().await {
            tracing::warn!(container = %self.id, error = chain(&error), "cannot end what the shim left");
        }
        bundle::read_end(&self.id, &self.bundle).ok().flatten()
    }
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Init,
    Everything,
}

/// Whether a refusal says that there is no process any more.
fn ended(code: Code) -> bool {
    code == Code::FAILED_PRECONDITION || code == Code::NOT_FOUND
}

/// A protobuf timestamp as ours.
pub(super) fn nanos(
    at: &protobuf::MessageField<protobuf::well_known_types::timestamp::Timestamp>,
) -> Option<Timestamp> {
    let at = at.as_ref()?;
    Some(Timestamp(
        at.seconds
            .checked_mul(1_000_000_000)?
            .checked_add(i64::from(at.nanos))?,
    ))
}
