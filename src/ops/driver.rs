//! Drivers' errors as clients must be told: the one place that gives them a kind.

use crate::domain::error::{Failure, Kind};
use crate::image::error::{PullError, PullErrorKind};
use crate::network::NetworkError;
use crate::oci::OciError;
use crate::runtime::RuntimeError;
use crate::snapshot::SnapshotError;
use crate::state::StateError;

/// The store failed.
pub(crate) fn state(doing: &str, error: StateError) -> Failure {
    let kind = match &error {
        StateError::Full { .. } => Kind::ResourceExhausted,
        StateError::Closed => Kind::Unavailable,
        StateError::Encode { .. } => Kind::Internal,
        // A disk's fault is none of ours (contract §2.2).
        StateError::Directory(_)
        | StateError::Locked { .. }
        | StateError::Lock(_)
        | StateError::File { .. }
        | StateError::Newer { .. }
        | StateError::Damaged { .. }
        | StateError::Unreadable { .. }
        | StateError::Read { .. }
        | StateError::Thread(_)
        | StateError::Commit { .. }
        | StateError::Untrusted => Kind::Unknown,
    };
    Failure::caused(kind, doing, error)
}

/// A shim or a cgroup failed.
pub(crate) fn runtime(doing: impl Into<String>, error: RuntimeError) -> Failure {
    let kind = if error.is_timeout() {
        // A probe that ran out of time has failed; any other error makes its result unknown (contract §2.2).
        Kind::DeadlineExceeded
    } else {
        Kind::Unknown
    };
    Failure::caused(kind, doing, error)
}

/// A writable layer failed.
pub(crate) fn snapshot(doing: impl Into<String>, error: SnapshotError) -> Failure {
    Failure::caused(Kind::Unknown, doing, error)
}

/// The network failed.
pub(crate) fn network(doing: impl Into<String>, error: NetworkError) -> Failure {
    let kind = match &error {
        NetworkError::Exhausted { .. } | NetworkError::Full { .. } => Kind::ResourceExhausted,
        // The request asks for it, so the request is what has to change.
        NetworkError::Unsupported { .. } | NetworkError::NoCapability { .. } | NetworkError::Bandwidth { .. } => {
            Kind::InvalidArgument
        }
        NetworkError::Subnet { .. }
        | NetworkError::Bridge { .. }
        | NetworkError::Foreign { .. }
        | NetworkError::Plug { .. }
        | NetworkError::NoConfig(_)
        | NetworkError::BadConfig { .. }
        | NetworkError::NoPlugin { .. }
        | NetworkError::Run { .. }
        | NetworkError::Plugin { .. }
        | NetworkError::Answer { .. }
        | NetworkError::Lost(_) => Kind::Unknown,
    };
    Failure::caused(kind, doing, error)
}

/// The configuration cannot become a container.
pub(crate) fn oci(doing: impl Into<String>, error: OciError) -> Failure {
    Failure::caused(error.kind(), doing, error)
}

/// The layer store failed.
pub(crate) fn layers(doing: impl Into<String>, error: PullError) -> Failure {
    Failure::caused(Kind::Unknown, doing, error)
}

/// A pull failed. A registry that cannot be reached is told with the word that kubelet looks for, which works with
/// `Unknown` only (contract §2.3).
pub(crate) fn pull(name: &str, error: PullError) -> Failure {
    let shown: String = name.chars().take(100).collect();
    let doing = format!("image {shown:?} was not pulled");
    let (kind, doing) = match error.kind() {
        PullErrorKind::Invalid => (Kind::InvalidArgument, doing),
        PullErrorKind::NotFound | PullErrorKind::NoPlatform => (Kind::NotFound, doing),
        PullErrorKind::DiskFull => (Kind::ResourceExhausted, doing),
        PullErrorKind::Cancelled => (Kind::Cancelled, doing),
        PullErrorKind::RegistryUnavailable => (Kind::Unknown, format!("RegistryUnavailable: {doing}")),
        PullErrorKind::Configuration
        | PullErrorKind::Unauthorized
        | PullErrorKind::Corrupt
        | PullErrorKind::Unsupported
        | PullErrorKind::LocalIo => (Kind::Unknown, doing),
    };
    Failure::caused(kind, doing, error)
}
