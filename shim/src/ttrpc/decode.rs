//! Requests of the task API, taken apart whole: a field that is new in the API stops the build here.

use containerd_shim_protos::api;

use crate::child::rootfs::RootfsMount;
use crate::ops::delete::Shutdown;
use crate::ops::error::OpError;
use crate::ops::kill::Target;

/// Refuses a request for another container, or for one of the task API's execs: execs of this shim are made and asked
/// after through `copepod.shim.v1.Shim`.
fn ours(id: &str, exec_id: &str, asked: String) -> Result<(), OpError> {
    if asked != id {
        return Err(OpError::OtherContainer {
            ours: id.to_owned(),
            asked,
        });
    }
    if !exec_id.is_empty() {
        return Err(OpError::Unsupported {
            what: "an exec of the task API",
        });
    }
    Ok(())
}

/// The mounts that make the root file system.
pub(crate) fn create(id: &str, request: api::CreateTaskRequest) -> Result<Vec<RootfsMount>, OpError> {
    let api::CreateTaskRequest {
        id: asked,
        bundle: _, // the shim was started in its bundle
        rootfs,
        terminal: _, // config.json says so too, and is what is built
        stdin,
        stdout,
        stderr,
        checkpoint,
        parent_checkpoint,
        options: _, // for a runtime binary that this shim does not have
        special_fields: _,
    } = request;
    ours(id, "", asked)?;
    if !(stdin.is_empty() && stdout.is_empty() && stderr.is_empty()) {
        return Err(OpError::Unsupported {
            what: "standard streams on named pipes (stdin, stdout, stderr of Create)",
        });
    }
    if !(checkpoint.is_empty() && parent_checkpoint.is_empty()) {
        return Err(OpError::Unsupported {
            what: "creating a container from a checkpoint",
        });
    }
    rootfs.into_iter().map(mount).collect()
}

fn mount(mount: api::Mount) -> Result<RootfsMount, OpError> {
    let api::Mount {
        type_,
        source,
        target,
        options,
        special_fields: _,
    } = mount;
    if !target.is_empty() {
        return Err(OpError::Unsupported {
            what: "a root file system mount with a target of its own",
        });
    }
    Ok(RootfsMount {
        fstype: type_,
        source,
        options,
    })
}

/// Nothing but the id.
pub(crate) fn start(id: &str, request: api::StartRequest) -> Result<(), OpError> {
    let api::StartRequest {
        id: asked,
        exec_id,
        special_fields: _,
    } = request;
    ours(id, &exec_id, asked)
}

/// Nothing but the id.
pub(crate) fn state(id: &str, request: api::StateRequest) -> Result<(), OpError> {
    let api::StateRequest {
        id: asked,
        exec_id,
        special_fields: _,
    } = request;
    ours(id, &exec_id, asked)
}

/// Nothing but the id.
pub(crate) fn pids(id: &str, request: api::PidsRequest) -> Result<(), OpError> {
    let api::PidsRequest {
        id: asked,
        special_fields: _,
    } = request;
    ours(id, "", asked)
}

/// The signal and whom it is for.
pub(crate) fn kill(id: &str, request: api::KillRequest) -> Result<(u32, Target), OpError> {
    let api::KillRequest {
        id: asked,
        exec_id,
        signal,
        all,
        special_fields: _,
    } = request;
    ours(id, &exec_id, asked)?;
    Ok((signal, if all { Target::All } else { Target::First }))
}

/// Nothing but the id.
pub(crate) fn wait(id: &str, request: api::WaitRequest) -> Result<(), OpError> {
    let api::WaitRequest {
        id: asked,
        exec_id,
        special_fields: _,
    } = request;
    ours(id, &exec_id, asked)
}

/// Nothing but the id.
pub(crate) fn delete(id: &str, request: api::DeleteRequest) -> Result<(), OpError> {
    let api::DeleteRequest {
        id: asked,
        exec_id,
        special_fields: _,
    } = request;
    ours(id, &exec_id, asked)
}

/// Nothing but the id.
pub(crate) fn connect(id: &str, request: api::ConnectRequest) -> Result<(), OpError> {
    let api::ConnectRequest {
        id: asked,
        special_fields: _,
    } = request;
    ours(id, "", asked)
}

/// Whether a living container is in the way.
pub(crate) fn shutdown(id: &str, request: api::ShutdownRequest) -> Result<Shutdown, OpError> {
    let api::ShutdownRequest {
        id: asked,
        now,
        special_fields: _,
    } = request;
    ours(id, "", asked)?;
    Ok(if now { Shutdown::Now } else { Shutdown::WhenDone })
}
