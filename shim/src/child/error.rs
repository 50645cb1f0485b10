//! Why no process could be made.

use std::path::PathBuf;

use rustix::io::Errno;

use super::rootfs::RootfsError;
use crate::plan::error::PlanError;
use crate::plan::spec::NamespaceKind;

/// Why no process could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The spec.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The rootfs.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A namespace to join.
    #[error("open {kind:?} namespace {path}")]
    Namespace {
        /// Kind.
        kind: NamespaceKind,
        /// As given.
        path: String,
        /// Cause.
        source: Errno,
    },
    /// A volume.
    #[error("open mount source {path}")]
    Source {
        /// As given.
        path: String,
        /// Cause.
        source: Errno,
    },
    /// A volume that is not what its destination demands.
    #[error("mount source {path} is on the wrong kind of filesystem for its destination")]
    SourceKind {
        /// As given.
        path: String,
    },
    /// The host's null device.
    #[error("open the host's /dev/null")]
    Null {
        /// Cause.
        source: Errno,
    },
    /// Something else has its name (CVE-2025-31133).
    #[error("the host's /dev/null is not the null device")]
    NotNull,
    /// A mount point for the rootfs.
    #[error("make {}", path.display())]
    Staging {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: Errno,
    },
    /// Terminal and streams contradict each other.
    #[error("process.terminal and the given streams contradict each other")]
    Stdio,
    /// No channel.
    #[error("make a channel to the new process")]
    Channel {
        /// Cause.
        source: Errno,
    },
    /// The namespace's first process has ended.
    #[error("container not running")]
    NotRunning,
    /// The PID namespace for children.
    #[error("enter a PID namespace for children")]
    EnterPid {
        /// Cause.
        source: Errno,
    },
    /// Every later child would be born in a container.
    #[error("return to our own PID namespace for children; this shim must end")]
    LeavePid {
        /// Cause.
        source: Errno,
    },
    /// No process.
    #[error("clone a process")]
    Clone {
        /// Cause.
        source: Errno,
    },
}
