//! Volumes and devices as a container asks for them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How mounts travel between host and container (CRI `MountPropagation`, mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Whether a mount may be written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reads and writes.
    ReadWrite,
    /// The top mount is read-only, mounts below it are as they are.
    ReadOnly,
    /// All of the tree is read-only, mounts below it too (CRI `recursive_read_only`); only with private propagation.
    ReadOnlyTree,
}

/// A bind mount of the request, exactly as requested: status echoes it (contract §4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Destination in the container; absolute.
    pub container_path: String,
    /// Source on the host; absolute, symbolic links unresolved.
    pub host_path: PathBuf,
    /// Read-only or not.
    pub access: Access,
    /// Relabel for SELinux; nothing to do where SELinux is off.
    pub selinux_relabel: bool,
    /// Propagation.
    pub propagation: Propagation,
}

/// A device node of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: String,
    /// Subset of `rwm`.
    pub permissions: String,
}

/// A mount as the kernel does it: what `snapshot` hands to `runtime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// File system type, e.g. `overlay`.
    pub fstype: String,
    /// Source, as in mount(8).
    pub source: String,
    /// Options, as in mount(8).
    pub options: Vec<String>,
}
