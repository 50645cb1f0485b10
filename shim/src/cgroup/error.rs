//! What can go wrong with a cgroup, one variant for each thing we were doing.

use std::io;
use std::path::PathBuf;

/// Why a cgroup could not be made, limited, read, emptied or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("read the mount table {path}")]
    Mounts { path: &'static str, source: io::Error },
    #[error("no cgroup hierarchy with controllers is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    #[error("cgroup path {path:?} is in systemd's slice:prefix:name form: use the cgroupfs form /parent/name")]
    PathOfSystemd { path: String },
    #[error("cgroup path {path:?} does not start with /")]
    PathNotAbsolute { path: String },
    #[error("cgroup path {path:?} has a . or .. in it")]
    PathClimbs { path: String },
    #[error("cgroup path {path:?} has a control character in it")]
    PathCharacter { path: String },
    #[error("cgroup path {path:?} names the root: a container needs a cgroup of its own")]
    PathIsRoot { path: String },
    #[error("cgroup path has a name of {length} bytes, at most {allowed} are possible")]
    PathTooLong { length: usize, allowed: usize },
    #[error("{what} is not supported by this shim yet: remove it from the container's spec")]
    NotBuilt { what: &'static str },
    #[error("{what} = {value:?}: {allowed}")]
    Value {
        what: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error("{what} needs cgroup v2, this host has v1")]
    NeedsV2 { what: &'static str },
    #[error("{what} needs the cgroup controller {controller}, which this host does not have: enable it in the kernel")]
    NoController {
        what: &'static str,
        controller: &'static str,
    },
    #[error("create cgroup {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("create cgroup {}: it exists and is in use, end its processes first", path.display())]
    Occupied { path: PathBuf },
    #[error("enable controller {controller} in {}", path.display())]
    Enable {
        controller: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("write {value:?} to {}", path.display())]
    Write {
        path: PathBuf,
        value: String,
        source: io::Error,
    },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("load the program that confines devices: the kernel needs CONFIG_CGROUP_BPF")]
    LoadDevices { source: io::Error },
    #[error("attach the program that confines devices to {}", path.display())]
    AttachDevices { path: PathBuf, source: io::Error },
    #[error("kill process {pid}")]
    Kill { pid: i32, source: io::Error },
    #[error("remove cgroup {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}
