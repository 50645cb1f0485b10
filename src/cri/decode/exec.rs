//! ExecSync and StopContainer: commands and times.

use std::time::Duration;

use copepod_proto::cri as wire;

use super::{id, invalid, text};
use crate::domain::error::Failure;
use crate::ops::request::{ExecSync, StopMode};

/// ExecSync; a timeout of 0 is none.
///
/// # Errors
/// The command is empty or the timeout negative.
pub(in crate::cri) fn sync(request: wire::ExecSyncRequest) -> Result<ExecSync, Failure> {
    let wire::ExecSyncRequest {
        container_id,
        cmd,
        timeout,
    } = request;
    let container = id::required("container_id", container_id)?;
    let args = text::words("cmd", cmd)?;
    if args.first().is_none_or(String::is_empty) {
        return Err(invalid("cmd", "is empty", "give the program and its arguments"));
    }
    let seconds = u64::try_from(timeout).map_err(|_| {
        invalid(
            "timeout",
            format!("is {timeout}"),
            "give seconds, or 0 to wait for ever",
        )
    })?;
    Ok(ExecSync {
        container,
        args,
        timeout: (seconds != 0).then(|| Duration::from_secs(seconds)),
    })
}

/// StopContainer: which, and how.
///
/// # Errors
/// The id is none.
pub(in crate::cri) fn stop(request: wire::StopContainerRequest) -> Result<(String, StopMode), Failure> {
    let wire::StopContainerRequest { container_id, timeout } = request;
    let mode = match u64::try_from(timeout) {
        Ok(seconds) if seconds > 0 => StopMode::After(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => StopMode::Now,
    };
    Ok((id::required("container_id", container_id)?, mode))
}
