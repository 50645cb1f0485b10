//! The life of a container's first process, as values: no system call, no clock.
//!
//! ```text
//! Absent ─► Creating ─► Created ─► Starting ─► Running ─► Ending ─► Stopped ─► Deleted
//!    ▲         │           └───────────┴──────────────────────┘
//!    └─failed──┘            killed, or could not be started
//! ```

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit status, or 128 + signal number.
    pub(crate) code: i32,
    /// Unix time in nanoseconds.
    pub(crate) at: i64,
}

/// Exit status of a container that could not be started (CRI contract §4.2).
pub(crate) const START_FAILED: i32 = 128;

/// Where a container is in its life. Carries what is known there and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Create has not been asked for, or failed and left nothing.
    Absent,
    /// Being built.
    Creating,
    /// Built, and waiting to be started.
    Created { pid: i32 },
    /// Told to execute the workload; not known yet whether it could.
    Starting { pid: i32 },
    /// The workload runs.
    Running { pid: i32, started_at: i64 },
    /// Its first process has ended; what else lived in it is being ended and its log completed.
    Ending { pid: i32 },
    /// Ended, and its exit record is on disk.
    Stopped { pid: i32, ended: Ended },
    /// Forgotten: only the exit is still known.
    Deleted { pid: i32, ended: Ended },
}

impl Phase {
    /// Process id in the host's PID namespace, 0 where there is none.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Absent | Self::Creating => 0,
            Self::Created { pid }
            | Self::Starting { pid }
            | Self::Running { pid, started_at: _ }
            | Self::Ending { pid }
            | Self::Stopped { pid, ended: _ }
            | Self::Deleted { pid, ended: _ } => *pid,
        }
    }

    /// The exit, once it is on disk.
    pub(crate) fn ended(&self) -> Option<Ended> {
        match self {
            Self::Stopped { ended, pid: _ } | Self::Deleted { ended, pid: _ } => Some(*ended),
            Self::Absent
            | Self::Creating
            | Self::Created { .. }
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Ending { .. } => None,
        }
    }

    /// The phase's name, for error messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Absent => "not created",
            Self::Creating => "being created",
            Self::Created { .. } => "created",
            Self::Starting { .. } => "being started",
            Self::Running { .. } => "running",
            Self::Ending { .. } => "ending",
            Self::Stopped { .. } => "stopped",
            Self::Deleted { .. } => "deleted",
        }
    }
}
