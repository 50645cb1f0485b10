//! What the shim does when it is asked: one verb per file, working on one [`Shim`].
//!
//! No wire type is known here; `ttrpc` takes requests apart and turns [`error::OpError`] into a status.

pub(crate) mod cleanup;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod error;
pub(crate) mod exec;
pub(crate) mod exit;
pub(crate) mod handover;
pub(crate) mod kill;
pub(crate) mod log;
pub(crate) mod report;
pub(crate) mod start;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copepod_proto::bundle::ShimOptions;
use tokio::sync::{Notify, watch};

use crate::cgroup::Cgroup;
use crate::child::host::Host;
use crate::child::launch::Launch;
use crate::io::writer::{LogWriter, OutputEnds};
use crate::oom::Baseline;
use crate::ops::error::OpError;
use crate::ops::exec::Execs;
use crate::reap::Reaper;
use crate::seccomp::Filter;
use crate::task::Phase;

/// One container and everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Shim {
    /// The container's id.
    pub(crate) id: String,
    /// The bundle directory, absolute.
    pub(crate) bundle: PathBuf,
    /// What the daemon wants of the shim.
    pub(crate) options: ShimOptions,
    /// What is held of the host to make children with.
    pub(crate) host: Host,
    /// Collects every child.
    pub(crate) reaper: Arc<Reaper>,
    /// Where the container is in its life; waiters watch it.
    pub(crate) phase: watch::Sender<Phase>,
    /// The log writer. Asynchronous, because an order is held until it is answered.
    pub(crate) log: tokio::sync::Mutex<LogWriter>,
    /// The container's ends of its output pipes until it has them.
    pub(crate) output: Mutex<Option<OutputEnds>>,
    /// What Create made, until Delete.
    pub(crate) parts: Mutex<Option<Parts>>,
    /// Processes started in the container besides its first.
    pub(crate) execs: Execs,
    /// Rung when the shim is to end.
    pub(crate) stop: Notify,
}

/// What a created container consists of, besides its processes.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The first process, for signals that cannot hit a stranger.
    pub(crate) pidfd: Arc<OwnedFd>,
    /// How far the first process is, and the gate before its execve; taken by Start.
    pub(crate) launch: Option<Launch>,
    /// The root file system, held until Delete: an exit must not wait for a disk.
    pub(crate) root: OwnedFd,
    /// The container's cgroup.
    pub(crate) cgroup: Arc<Cgroup>,
    /// The OOM killer's count from which on a kill is the container's end.
    pub(crate) oom: Baseline,
    /// The container's seccomp profile, compiled; execs get it too.
    pub(crate) filter: Option<Arc<Filter>>,
    /// The terminal's master end.
    pub(crate) console: Option<OwnedFd>,
    /// The write end of the container's standard input, until it has ended: without anybody attached the container
    /// waits for input, it does not see the end of it.
    pub(crate) input: Option<OwnedFd>,
    /// Why the workload could not be executed.
    pub(crate) start_error: Option<String>,
}

impl Shim {
    /// What Create made.
    pub(crate) fn parts(&self) -> MutexGuard<'_, Option<Parts>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes to the phase that `step` returns for the present one, or refuses `verb` in it.
    pub(crate) fn advance(
        &self,
        verb: &'static str,
        step: impl FnOnce(&Phase) -> Option<Phase>,
    ) -> Result<Phase, OpError> {
        let mut outcome = Err(OpError::WrongPhase { verb, phase: "" });
        self.phase.send_if_modified(|phase| {
            let next = step(phase);
            outcome = match &next {
                Some(next) => Ok(next.clone()),
                None => Err(OpError::WrongPhase {
                    verb,
                    phase: phase.name(),
                }),
            };
            let changed = next.is_some();
            if let Some(next) = next {
                *phase = next;
            }
            changed
        });
        outcome
    }

    /// What an exec needs of a running container.
    pub(crate) fn running(&self, verb: &'static str) -> Result<Running, OpError> {
        let phase = self.phase.borrow().clone();
        match (&phase, self.parts().as_ref()) {
            (Phase::Running { .. }, Some(parts)) => Ok(Running {
                pidfd: Arc::clone(&parts.pidfd),
                cgroup: Arc::clone(&parts.cgroup),
                filter: parts.filter.clone(),
            }),
            _other => Err(OpError::WrongPhase {
                verb,
                phase: phase.name(),
            }),
        }
    }
}

/// The parts of a running container that an exec shares.
#[derive(Debug)]
pub(crate) struct Running {
    /// The first process.
    pub(crate) pidfd: Arc<OwnedFd>,
    /// The container's cgroup.
    pub(crate) cgroup: Arc<Cgroup>,
    /// The container's seccomp profile, compiled.
    pub(crate) filter: Option<Arc<Filter>>,
}
