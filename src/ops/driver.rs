//! Drivers' errors as clients must be told: the one place that gives them a kind.

use crate::domain::error::{Failure, Kind};
use crate::image::PullError;
use crate::network::NetworkError;
use crate::oci::OciError;
use crate::runtime::RuntimeError;
use crate::snapshot::SnapshotError;
use crate::state::StateError;

/// The store failed.
pub(crate) fn state(doing: &str, error: StateError) -> Failure {
    Failure::caused(Kind::Internal, doing, error)
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
    Failure::caused(Kind::Unknown, doing, error)
}

/// The configuration cannot become a container.
pub(crate) fn oci(doing: impl Into<String>, error: OciError) -> Failure {
    let kind = match error {
        // The pod's init died between the look-up and the build.
        OciError::NoPidNamespace => Kind::FailedPrecondition,
        OciError::SeccompNotRead { .. } | OciError::DeviceUnresolved { .. } | OciError::NoProcess => Kind::Internal,
        OciError::NoCommand
        | OciError::EmptyExec
        | OciError::EnvNotUtf8 { .. }
        | OciError::UnknownCapability { .. }
        | OciError::CapabilityNotOurs { .. }
        | OciError::PodNotPrivileged
        | OciError::AppArmorOff { .. }
        | OciError::AppArmorUnsupported { .. }
        | OciError::UnifiedOnV1 => Kind::InvalidArgument,
    };
    Failure::caused(kind, doing, error)
}

/// A pull failed.
pub(crate) fn pull(doing: impl Into<String>, error: PullError) -> Failure {
    Failure::caused(Kind::Unknown, doing, error)
}
