//! `containerd.task.v3.Task`.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::Task;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;
use ttrpc::r#async::TtrpcContext;

use crate::ops::error::OpError;
use crate::ops::{Shim, create, delete, exit, kill, start};
use crate::task::{Ended, Phase};
use crate::ttrpc::status::refuse;
use crate::ttrpc::{decode, detached};

/// The task API's handlers.
#[derive(Debug)]
pub(crate) struct TaskService(pub(crate) Arc<Shim>);

impl TaskService {
    fn id(&self) -> &str {
        &self.0.id
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        let rootfs = decode::create(self.id(), request).map_err(|error| refuse(&error))?;
        let pid = detached(create::create(Arc::clone(&self.0), rootfs))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::CreateTaskResponse {
            pid: pid.unsigned_abs(),
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        decode::start(self.id(), request).map_err(|error| refuse(&error))?;
        let pid = detached(start::start(Arc::clone(&self.0)))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::StartResponse {
            pid: pid.unsigned_abs(),
            ..Default::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        decode::state(self.id(), request).map_err(|error| refuse(&error))?;
        let phase = self.0.phase.borrow().clone();
        let mut state = api::StateResponse {
            id: self.0.id.clone(),
            bundle: self.0.bundle.to_string_lossy().into_owned(),
            pid: phase.pid().unsigned_abs(),
            status: status(&phase).into(),
            terminal: self.0.options.tty,
            ..Default::default()
        };
        if let Some(ended) = phase.ended() {
            state.exit_status = ended.code.unsigned_abs();
            state.exited_at = timestamp(ended);
        }
        Ok(state)
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> ttrpc::Result<api::PidsResponse> {
        decode::pids(self.id(), request).map_err(|error| refuse(&error))?;
        let cgroup = self.0.parts().as_ref().map(|parts| Arc::clone(&parts.cgroup));
        let pids = match cgroup {
            Some(cgroup) => cgroup.pids().map_err(|source| refuse(&OpError::Pids { source }))?,
            None => BTreeSet::new(),
        };
        let process = |pid: i32| api::ProcessInfo {
            pid: pid.unsigned_abs(),
            ..Default::default()
        };
        Ok(api::PidsResponse {
            processes: pids.into_iter().map(process).collect(),
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        let (signal, target) = decode::kill(self.id(), request).map_err(|error| refuse(&error))?;
        kill::kill(&self.0, signal, target).map_err(|error| refuse(&error))?;
        Ok(api::Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        decode::wait(self.id(), request).map_err(|error| refuse(&error))?;
        let ended = exit::stopped(&self.0).await;
        Ok(api::WaitResponse {
            exit_status: ended.code.unsigned_abs(),
            exited_at: timestamp(ended),
            ..Default::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        decode::delete(self.id(), request).map_err(|error| refuse(&error))?;
        let deleted = detached(delete::delete(Arc::clone(&self.0)))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::DeleteResponse {
            pid: deleted.pid.unsigned_abs(),
            exit_status: deleted.ended.code.unsigned_abs(),
            exited_at: timestamp(deleted.ended),
            ..Default::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, request: api::ConnectRequest) -> ttrpc::Result<api::ConnectResponse> {
        decode::connect(self.id(), request).map_err(|error| refuse(&error))?;
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.0.phase.borrow().pid().unsigned_abs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        let how = decode::shutdown(self.id(), request).map_err(|error| refuse(&error))?;
        detached(delete::shutdown(Arc::clone(&self.0), how))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, _: api::ExecProcessRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("Exec of the task API (use copepod.shim.v1.Shim/Exec)"))
    }

    async fn update(&self, _: &TtrpcContext, _: api::UpdateTaskRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("UpdateContainerResources"))
    }

    async fn stats(&self, _: &TtrpcContext, _: api::StatsRequest) -> ttrpc::Result<api::StatsResponse> {
        Err(unsupported("Stats (the container's cgroup has the numbers)"))
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("Pause"))
    }

    async fn resume(&self, _: &TtrpcContext, _: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("Resume"))
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: api::CheckpointTaskRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("Checkpoint"))
    }

    async fn resize_pty(&self, _: &TtrpcContext, _: api::ResizePtyRequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("ResizePty"))
    }

    async fn close_io(&self, _: &TtrpcContext, _: api::CloseIORequest) -> ttrpc::Result<api::Empty> {
        Err(unsupported("CloseIO"))
    }
}

fn unsupported(what: &'static str) -> ttrpc::Error {
    refuse(&OpError::Unsupported { what })
}

/// containerd has no name for a container that is on its way: it gets the one before.
fn status(phase: &Phase) -> api::Status {
    match phase {
        Phase::Absent | Phase::Creating => api::Status::UNKNOWN,
        Phase::Created { .. } | Phase::Starting { .. } => api::Status::CREATED,
        Phase::Running { .. } | Phase::Ending { .. } => api::Status::RUNNING,
        Phase::Stopped { .. } | Phase::Deleted { .. } => api::Status::STOPPED,
    }
}

fn timestamp(ended: Ended) -> MessageField<Timestamp> {
    const SECOND: i64 = 1_000_000_000;
    MessageField::some(Timestamp {
        seconds: ended.at.div_euclid(SECOND),
        nanos: i32::try_from(ended.at.rem_euclid(SECOND)).unwrap_or_default(),
        ..Default::default()
    })
}
