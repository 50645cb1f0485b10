//! `copepod.shim.v1.Shim`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use copepod_proto::shim as api;
use ttrpc::r#async::TtrpcContext;

use crate::ops::exec::{Stdin, Wish};
use crate::ops::{Shim, exec, log};
use crate::ttrpc::detached;
use crate::ttrpc::status::refuse;

/// The handlers of copepod's own service.
#[derive(Debug)]
pub(crate) struct ShimService(pub(crate) Arc<Shim>);

#[async_trait]
impl api::Shim for ShimService {
    async fn exec(&self, _: &TtrpcContext, request: api::ExecRequest) -> ttrpc::Result<api::ExecResponse> {
        let api::ExecRequest {
            exec_id,
            process,
            stdin,
            limit_ms,
            special_fields: _,
        } = request;
        let wish = Wish {
            stdin: if stdin { Stdin::Pipe } else { Stdin::Null },
            limit: (limit_ms > 0).then(|| Duration::from_millis(limit_ms)),
        };
        let verb = exec::exec(Arc::clone(&self.0), exec_id, process, wish);
        let pid = detached(verb).await.map_err(|error| refuse(&error))?;
        Ok(api::ExecResponse {
            pid,
            ..Default::default()
        })
    }

    async fn wait_exec(&self, _: &TtrpcContext, request: api::WaitExecRequest) -> ttrpc::Result<api::WaitExecResponse> {
        let api::WaitExecRequest {
            exec_id,
            special_fields: _,
        } = request;
        let ended = exec::wait(&self.0, &exec_id).await.map_err(|error| refuse(&error))?;
        Ok(api::WaitExecResponse {
            exit_code: ended.code,
            exited_at: ended.at,
            ..Default::default()
        })
    }

    async fn kill_exec(&self, _: &TtrpcContext, request: api::KillExecRequest) -> ttrpc::Result<api::KillExecResponse> {
        let api::KillExecRequest {
            exec_id,
            special_fields: _,
        } = request;
        detached(exec::kill(Arc::clone(&self.0), exec_id))
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::KillExecResponse::new())
    }

    async fn reopen_log(
        &self,
        _: &TtrpcContext,
        request: api::ReopenLogRequest,
    ) -> ttrpc::Result<api::ReopenLogResponse> {
        let api::ReopenLogRequest { special_fields: _ } = request;
        let shim = Arc::clone(&self.0);
        detached(async move { log::reopen(&shim).await })
            .await
            .map_err(|error| refuse(&error))?;
        Ok(api::ReopenLogResponse::new())
    }
}
