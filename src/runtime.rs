//! Shims: starts, adopts, commands and cleans up the process that holds each container. Up go [`TaskExit`] values.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::clock::Timestamp;
use crate::base::id::ContainerId;
use crate::domain::container::Signal;
use crate::domain::mount::FsMount;

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

/// What a bounded exec gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit status.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
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
pub enum RuntimeError {}

/// The driver.
#[derive(Debug)]
pub struct Runtime {}

/// A container's shim.
#[derive(Debug)]
pub struct Task {}

/// Counters of a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// When read, unix ns.
    pub at: i64,
    /// CPU time in ns.
    pub cpu_ns: u64,
    /// Memory in use, page cache included, bytes.
    pub memory_bytes: u64,
    /// Memory in use without inactive file pages.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Limit, when there is one.
    pub limit_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Major page faults.
    pub major_page_faults: u64,
    /// Swap in use and its limit.
    pub swap_bytes: Option<u64>,
    /// Processes.
    pub pids: u64,
}

impl Runtime {
    /// Probes the host, prepares the shims' cgroup and the sealed copy of the binary. Exits arrive on the receiver.
    ///
    /// # Errors
    /// The shim is missing or of another version, or `state` is too long for socket paths: says which and what to do.
    pub async fn open(_config: Config) -> Result<(Self, mpsc::UnboundedReceiver<TaskExit>), RuntimeError> {
        todo!()
    }

    /// Makes and pins namespaces.
    ///
    /// # Errors
    /// Names the namespace or sysctl; nothing stays pinned.
    pub async fn pin(&self, _pin: &Pin) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Unpins one namespace; fine when it is gone.
    ///
    /// # Errors
    /// It cannot be unmounted.
    pub async fn unpin(&self, _path: &std::path::Path) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Writes the bundle, starts the shim, builds the container up to its start gate. Undoes itself on failure.
    ///
    /// # Errors
    /// What the shim said.
    pub async fn create(&self, _build: Build) -> Result<Arc<Task>, RuntimeError> {
        todo!()
    }

    /// At boot: what became of a container.
    ///
    /// # Errors
    /// Transient trouble: never to be read as "lost" (yardstick X6).
    pub async fn adopt(&self, _id: &ContainerId) -> Result<Adopted, RuntimeError> {
        todo!()
    }

    /// Removes everything of a container by path alone: kills its cgroup, its shim, removes cgroup and bundle. Needs
    /// nobody's cooperation, bounded in time; fine to repeat.
    ///
    /// # Errors
    /// Something stays; to be tried again.
    pub async fn cleanup(&self, _id: &ContainerId, _cgroup: &str) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Bundles on disk, for orphan scans.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bundles(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        todo!()
    }

    /// The cgroup recorded in a bundle, for orphans.
    #[must_use]
    pub fn bundle_cgroup(&self, _id: &ContainerId) -> Option<String> {
        todo!()
    }

    /// Reads a container's cgroup.
    ///
    /// # Errors
    /// It is gone or unreadable.
    pub fn stats(&self, _cgroup: &str) -> Result<CgroupStats, RuntimeError> {
        todo!()
    }
}

impl Task {
    /// Runs the process; returns after execve succeeded.
    ///
    /// # Errors
    /// [`RuntimeError`] of kind start error carries the text; the exit follows as a [`TaskExit`] too.
    pub async fn start(&self) -> Result<(i32, Timestamp), RuntimeError> {
        todo!()
    }

    /// Signals init only.
    ///
    /// # Errors
    /// The shim does not answer in time.
    pub async fn signal(&self, _signal: Signal) -> Result<(), RuntimeError> {
        todo!()
    }

    /// SIGKILLs everything in the container, through the shim and, if it does not answer, by cgroup path.
    ///
    /// # Errors
    /// Neither worked.
    pub async fn kill(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Lets go of an ended container: the shim frees the root and ends.
    ///
    /// # Errors
    /// It did not answer; [`Runtime::cleanup`] follows anyway.
    pub async fn delete(&self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Runs a process and collects its output: `limit` bytes of both streams together, the rest is discarded.
    /// On time-out everything it started is killed.
    ///
    /// # Errors
    /// `RuntimeError::TimedOut` is told apart.
    pub async fn exec_collect(
        &self,
        _exec: ExecSpec,
        _timeout: Option<Duration>,
        _limit: usize,
    ) -> Result<ExecOutput, RuntimeError> {
        todo!()
    }

    /// Opens the log file anew.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn reopen_log(&self) -> Result<(), RuntimeError> {
        todo!()
    }
}
