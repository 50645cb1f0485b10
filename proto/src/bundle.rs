//! The files that daemon and shim share in a container's bundle directory.
//!
//! A bundle is a directory under `state`, one per container, mode 0700. The daemon writes [`CONFIG`] (an OCI
//! runtime spec) and [`OPTIONS`] before it starts the shim; the shim writes [`START`] and [`EXIT`], and listens on
//! the two sockets. What is here dies with a reboot. No behaviour lives in this file but reading and writing records.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The OCI runtime spec (runtime-spec config.md), written by the daemon.
pub const CONFIG: &str = "config.json";
/// [`ShimOptions`], written by the daemon. Absent when another runtime drives the shim.
pub const OPTIONS: &str = "shim.json";
/// [`StartRecord`], written by the shim before it answers Start.
pub const START: &str = "start.json";
/// [`ExitRecord`], written by the shim before it announces the exit.
pub const EXIT: &str = "exit.json";
/// The task API (ttrpc, `containerd.task.v3.Task`) and `copepod.shim.v1.Shim`.
pub const TASK_SOCKET: &str = "task.sock";
/// The second socket (`SOCK_SEQPACKET`): hands stdio file descriptors over by `SCM_RIGHTS`.
pub const FD_SOCKET: &str = "fd.sock";
/// What the shim itself has to say (panics, start-up errors); size bounded by the shim.
pub const SHIM_LOG: &str = "shim.log";
/// Version of every record in this file. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// What the daemon tells the shim beyond the OCI runtime spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimOptions {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Where the container's output goes in CRI log format; `None` discards it (CRI contract §7).
    pub log: Option<LogTarget>,
    /// The container has a terminal (`process.terminal` in the spec says so too).
    pub tty: bool,
    /// Keep the container's standard input open for attach; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first attach session ends (CRI `stdin_once`).
    pub stdin_once: bool,
    /// cgroup directories that the shim and its log writer move into before anything else: one absolute path per v1
    /// hierarchy, or the single v2 path. They exist already.
    pub shim_cgroups: Vec<PathBuf>,
    /// Directory (0700, ours) where compiled seccomp programs are kept, shared by all shims; `None` compiles each time.
    pub seccomp_cache: Option<PathBuf>,
    /// Kernel features that are to be treated as missing, by name (see `Fallback` in the shim): forces older ways.
    pub force_fallbacks: Vec<String>,
}

/// A log file below a directory that kubelet owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// The pod's log directory; may contain symbolic links itself.
    pub directory: PathBuf,
    /// Path below it. No symbolic link is followed below `directory`.
    pub path: PathBuf,
    /// A content longer than this is split into P records, in bytes.
    pub max_line_bytes: u32,
}

/// A container's process is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Process id of the container's init in the host's PID namespace.
    pub pid: i32,
    /// Unix time in nanoseconds.
    pub started_at: i64,
}

/// How a container ended. On disk before anybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Exit status, or 128 + signal number.
    pub exit_code: i32,
    /// The kernel's OOM killer ended a process of the container's cgroup.
    pub oom_killed: bool,
    /// Unix time in nanoseconds; 0 when it never started.
    pub started_at: i64,
    /// Unix time in nanoseconds.
    pub exited_at: i64,
    /// Why it could not be started, when it could not.
    pub start_error: Option<String>,
}
