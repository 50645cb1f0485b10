//! `delete`, as containerd calls it: cleans up after a shim that is gone, and prints how the container ended.

use copepod_proto::bundle::{self, CONFIG};
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use rustix::io::Errno;

use crate::Arguments;
use crate::cgroup::Cgroup;
use crate::cgroup::error::CgroupError;
use crate::cgroup::layout::Layout;
use crate::io::note::{chain, note};
use crate::ops::cleanup;
use crate::ops::error::OpError;
use crate::plan::spec::Spec;
use crate::reap::now;
use crate::start::absolute;

/// Exit status of a container whose shim died with it unseen: as if by SIGKILL.
const UNSEEN: i32 = 137;

/// Why it was not cleaned up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    #[error("find the bundle directory")]
    Bundle { source: std::io::Error },
    #[error("read {CONFIG}")]
    Config { source: std::io::Error },
    #[error("parse {CONFIG}")]
    Parse { source: serde_json::Error },
    #[error("find the container's cgroup")]
    Cgroup { source: CgroupError },
    #[error("wait for the container's processes")]
    Runtime { source: std::io::Error },
    #[error("end the container's processes")]
    Remove { source: OpError },
    #[error("encode the answer")]
    Encode { source: protobuf::Error },
    #[error("print the answer")]
    Print { source: Errno },
}

/// Kills what is left of the container, removes its cgroup and prints a `DeleteResponse`.
///
/// # Errors
/// The step that failed; then it can be called again.
pub(crate) fn delete(arguments: &Arguments) -> Result<(), DeleteError> {
    let bundle = absolute(arguments).map_err(|source| DeleteError::Bundle { source })?;
    let json = std::fs::read(bundle.join(CONFIG)).map_err(|source| DeleteError::Config { source })?;
    let spec: Spec = serde_json::from_slice(&json).map_err(|source| DeleteError::Parse { source })?;
    let layout = Layout::detect().map_err(|source| DeleteError::Cgroup { source })?;
    let cgroup = Cgroup::open(&layout, &spec.linux.cgroups_path).map_err(|source| DeleteError::Cgroup { source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime
        .map_err(|source| DeleteError::Runtime { source })?
        .block_on(cleanup::remove(&cgroup))
        .map_err(|source| DeleteError::Remove { source })?;
    let (code, at) = match bundle::read_exit(&bundle) {
        Ok(Some(record)) => (record.exit_code, record.exited_at),
        Ok(None) => (UNSEEN, now()),
        Err(error) => {
            note(chain(&error));
            (UNSEEN, now())
        }
    };
    print(code, at)
}

fn print(code: i32, at: i64) -> Result<(), DeleteError> {
    const SECOND: i64 = 1_000_000_000;
    let response = containerd_shim_protos::api::DeleteResponse {
        exit_status: code.unsigned_abs(),
        exited_at: MessageField::some(Timestamp {
            seconds: at.div_euclid(SECOND),
            nanos: i32::try_from(at.rem_euclid(SECOND)).unwrap_or_default(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let bytes = response
        .write_to_bytes()
        .map_err(|source| DeleteError::Encode { source })?;
    rustix::io::write(rustix::stdio::stdout(), &bytes)
        .map(drop)
        .map_err(|source| DeleteError::Print { source })
}
