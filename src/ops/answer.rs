//! What queries answer with beside the objects themselves.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::domain::container::Container;
use crate::domain::stats::{CgroupStats, Usage};

/// What verbose status of a container shows beyond its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// Process id on the host; 0 when it does not run.
    pub pid: i32,
    /// Its OCI runtime spec in JSON; gone with `state`.
    pub spec_json: Option<Vec<u8>>,
}

/// What verbose status of a pod shows beyond its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodDetails {
    /// Process id of the pod's init on the host; 0 when it has none.
    pub init_pid: i32,
}

/// Counters of a container.
#[derive(Debug, Clone)]
pub struct Stats {
    /// The container.
    pub container: Arc<Container>,
    /// Its cgroup.
    pub cgroup: CgroupStats,
    /// Its writable layer.
    pub layer: Usage,
}

/// Use of a file system by images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// A directory on it that exists.
    pub mountpoint: PathBuf,
    /// Bytes used by images.
    pub bytes: u64,
    /// Inodes used by images.
    pub inodes: u64,
    /// When this was true.
    pub at: Timestamp,
}

/// Why a condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The two conditions that kubelet reads (contract §12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// RuntimeReady.
    pub runtime: Result<(), Reason>,
    /// NetworkReady.
    pub network: Result<(), Reason>,
}
