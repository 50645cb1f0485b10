//! Shims: starts, adopts, commands and cleans up the process that holds each container. Up go [`TaskExit`] values.
//!
//! The daemon can be killed at any point: whatever is needed to find, judge and remove a container again lies in its
//! bundle. Nothing here waits without a deadline.

mod adopt;
mod bundle;
mod cgroup;
mod cleanup;
mod connection;
mod events;
mod exec;
mod host;
mod kernel;
mod pin;
mod shim;
mod streams;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::cgroup::{CgroupError, Cgroups};
use self::connection::Connection;
use self::events::Announcer;
use crate::base::clock::Timestamp;
use crate::base::cmd::CmdError;
use crate::base::fs::FsError;
use crate::base::id::ContainerId;
use crate::domain::mount::FsMount;

/// What [`Config::force_fallbacks`] may name: kernel features newer than the oldest kernel that we run on.
pub const FALLBACKS: &[&str] = &copepod_proto::bundle::FALLBACKS;

/// What the shims need.
#[derive(Debug, Clone)]
pub struct Config {
    /// The shim's binary.
    pub shim: PathBuf,
    /// `state`; bundles are in `state/c/<id>`, pins in `state/ns`.
    pub state: PathBuf,
    /// Names this daemon's cgroups: derived from `root`, so that several daemons never meet.
    pub instance: String,
    /// Kernel features to treat as missing.
    pub force_fallbacks: Vec<String>,
}

/// A container to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// Its id.
    pub id: ContainerId,
    /// OCI runtime spec in JSON.
    pub spec: Vec<u8>,
    /// Its root file system.
    pub rootfs: FsMount,
    /// Terminal, stdin, log.
    pub stdio: Stdio,
}

/// A container's streams.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    /// Runs on a terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub stdin: bool,
    /// Close it after the first attach.
    pub stdin_once: bool,
    /// Log directory and the path below it.
    pub log: Option<(PathBuf, PathBuf)>,
}

/// A container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskExit {
    /// Which.
    pub id: ContainerId,
    /// How; `None` when the shim died without a record.
    pub exit: Option<TaskEnd>,
}

/// How a container ended, from its exit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// Exit status, 128 + signal.
    pub code: i32,
    /// OOM killer.
    pub oom_killed: bool,
    /// When started; 0 for never.
    pub started_at: Timestamp,
    /// When ended.
    pub exited_at: Timestamp,
    /// Why it could not be started.
    pub start_error: Option<String>,
}

/// Namespaces to make and keep by bind mounts.
#[derive(Debug, Clone, Default)]
pub struct Pin {
    /// Where the network namespace is kept.
    pub net: Option<PathBuf>,
    /// IPC.
    pub ipc: Option<PathBuf>,
    /// UTS, with this host name.
    pub uts: Option<(PathBuf, String)>,
    /// Sysctls of these namespaces.
    pub sysctls: BTreeMap<String, String>,
}

/// A process to run inside a container.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// OCI runtime-spec process object in JSON.
    pub process: Vec<u8>,
    /// Wants a stdin pipe.
    pub stdin: bool,
}

/// Streams of a running exec.
#[derive(Debug)]
pub struct ExecStreams {
    /// To its stdin.
    pub stdin: Option<OwnedFd>,
    /// From its stdout.
    pub stdout: OwnedFd,
    /// From its stderr; `None` with a terminal.
    pub stderr: Option<OwnedFd>,
}

/// What a boot finds of a container.
#[derive(Debug)]
pub enum Adopted {
    /// Its shim answers; it was never started.
    Created(Arc<Task>),
    /// Its process runs.
    Running(Arc<Task>, i32, Timestamp),
    /// It ended; the shim may be there still (to be deleted) or not.
    Ended(TaskEnd),
    /// No shim, no record.
    Lost,
}

/// Why a shim operation failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// `state` leaves no room for the sockets' names.
    #[error(
        "`state` = {} is too long: a container's socket below it would have {length} bytes and unix(7) allows {longest}, so `state` may have {room} at most",
        state.display()
    )]
    StateTooLong {
        /// The directory.
        state: PathBuf,
        /// Length of the longest socket path.
        length: usize,
        /// What the kernel allows.
        longest: usize,
        /// What `state` may have.
        room: usize,
    },
    /// The shim's binary cannot be read.
    #[error(
        "read the shim {}: build or install containerd-shim-copepod-v1 beside copepod, or name it in the configuration",
        path.display()
    )]
    ShimMissing {
        /// The binary.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The shim's binary does not run.
    #[error("ask the shim {} for its version", path.display())]
    ShimVersion {
        /// The binary.
        path: PathBuf,
        /// Why not.
        source: CmdError,
    },
    /// The shim is not of this daemon's version.
    #[error("the shim {} says {found:?} and this copepod needs {needed:?}: install both from one release", path.display())]
    OtherShim {
        /// The binary.
        path: PathBuf,
        /// What it said.
        found: String,
        /// What it must say.
        needed: String,
    },
    /// A file or directory of ours.
    #[error("prepare the files of containers")]
    Files(#[source] FsError),
    /// A directory of ours cannot be mounted as it must be.
    #[error("{doing} {}", path.display())]
    Mount {
        /// The operation, as a verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something with cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A record in a bundle.
    #[error("use the bundle of container {id}")]
    Record {
        /// The container.
        id: ContainerId,
        /// What failed.
        source: copepod_proto::bundle::RecordError,
    },
    /// The container's bundle exists already.
    #[error("container {id} has a bundle already")]
    BundleExists {
        /// The container.
        id: ContainerId,
    },
    /// The OCI runtime spec in a bundle cannot be used.
    #[error("read the OCI spec of container {id}")]
    Spec {
        /// The container.
        id: ContainerId,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The shim's process could not be started.
    #[error("start the shim of container {id}")]
    Spawn {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: io::Error,
    },
    /// The shim did not get ready.
    #[error("the shim of container {id} did not start: {text}")]
    NotReady {
        /// The container.
        id: ContainerId,
        /// Its own words.
        text: String,
    },
    /// The shim cannot be reached, which may pass.
    #[error("connect to the shim of container {id}")]
    Connect {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: io::Error,
    },
    /// The shim is not there any more.
    #[error("the shim of container {id} is gone")]
    ShimGone {
        /// The container.
        id: ContainerId,
        /// What the connection said, when there was one.
        source: Option<ttrpc::Error>,
    },
    /// The shim did not answer in time.
    #[error("the shim of container {id} did not answer {call} within {} s", deadline.as_secs())]
    Silent {
        /// The container.
        id: ContainerId,
        /// The call.
        call: &'static str,
        /// The limit.
        deadline: Duration,
    },
    /// The shim refused.
    #[error("{call}: {text}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The code it gave.
        code: ttrpc::Code,
        /// Its words, the whole chain.
        text: String,
    },
    /// The container's process could not be executed.
    #[error("{text}")]
    StartFailed {
        /// The shim's words.
        text: String,
    },
    /// The exec's time was up; what it started is killed.
    #[error("the command did not end within {} ms and was killed", timeout.as_millis())]
    TimedOut {
        /// The limit.
        timeout: Duration,
    },
    /// An exec's streams could not be fetched.
    #[error("fetch the streams of a command in container {id}")]
    Streams {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: io::Error,
    },
    /// An exec's streams were refused.
    #[error("fetch the streams of a command in container {id}: {text}")]
    NoStreams {
        /// The container.
        id: ContainerId,
        /// The shim's words.
        text: String,
    },
    /// An exec's output could not be read.
    #[error("read the output of a command in container {id}")]
    Output {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: io::Error,
    },
    /// The verb that pins namespaces did not run.
    #[error("make the pod's namespaces")]
    Pin(#[source] CmdError),
    /// The request for namespaces could not be put, or the answer was none.
    #[error("talk to the maker of the pod's namespaces")]
    PinTalk(#[source] serde_json::Error),
    /// Namespaces could not be made.
    #[error("make the pod's namespaces: {text}")]
    PinRefused {
        /// Names the namespace or sysctl.
        text: String,
    },
    /// A shim was killed and is still there.
    #[error("the shim of container {id} (pid {pid}) did not end within {} ms after SIGKILL", cleanup::SHIM_END.as_millis())]
    Unkillable {
        /// The container.
        id: ContainerId,
        /// Its process.
        pid: i32,
    },
    /// A blocking step ended with a panic.
    #[error("a step of the work on container {id} panicked")]
    Panicked {
        /// The container.
        id: ContainerId,
    },
}

impl RuntimeError {
    /// The command's own time limit passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Why the container's process could not be executed, when that is what failed.
    #[must_use]
    pub fn start_error(&self) -> Option<&str> {
        if let Self::StartFailed { text } = self {
            Some(text)
        } else {
            None
        }
    }
}

/// The driver.
#[derive(Debug)]
pub struct Runtime {
    config: Config,
    cgroups: Arc<Cgroups>,
    /// The read-only copy of the shim that all shims run from.
    shim: PathBuf,
    /// Directories of the shims' own cgroup.
    shim_cgroups: Vec<PathBuf>,
    announcer: Arc<Announcer>,
}

/// A container's shim.
#[derive(Debug)]
pub struct Task {
    id: ContainerId,
    bundle: PathBuf,
    /// The container's cgroup as its bundle records it.
    cgroup: String,
    cgroups: Arc<Cgroups>,
    connection: Arc<Connection>,
}
