//! Signals: to the container's first process, or to all of its processes.

use rustix::process::{Signal, kill_process, pidfd_send_signal};

use crate::cgroup::Cgroup;
use crate::io::note::{chain, note};
use crate::oom::Baseline;
use crate::ops::Shim;
use crate::ops::error::OpError;
use crate::reap::pid;
use crate::task::Phase;

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The container's first process.
    First,
    /// Every process in the container's cgroup.
    All,
}

/// Sends `signal` (a number of signal(7)).
///
/// # Errors
/// There is no such signal, or no process to send it to.
pub(crate) fn kill(shim: &Shim, signal: u32, target: Target) -> Result<(), OpError> {
    let phase = shim.phase.borrow().clone();
    if let Phase::Absent | Phase::Creating | Phase::Deleted { .. } = phase {
        return Err(OpError::WrongPhase {
            verb: "kill",
            phase: phase.name(),
        });
    }
    let kind = i32::try_from(signal)
        .ok()
        .and_then(Signal::from_named_raw)
        .ok_or(OpError::Signal(signal))?;
    let Some((pidfd, cgroup)) = shim
        .parts()
        .as_ref()
        .map(|parts| (parts.pidfd.clone(), parts.cgroup.clone()))
    else {
        return Err(OpError::WrongPhase {
            verb: "kill",
            phase: phase.name(),
        });
    };
    if kind == Signal::KILL {
        asked_for(shim, &cgroup);
    }
    match target {
        Target::First if phase.ended().is_some() => Err(OpError::WrongPhase {
            verb: "kill",
            phase: phase.name(),
        }),
        Target::First => pidfd_send_signal(&*pidfd, kind).map_err(|source| OpError::Send { source }),
        // One pass: who waits for the end waits for the exit, which kills what is left then.
        Target::All if kind == Signal::KILL => cgroup
            .kill_pass()
            .map(drop)
            .map_err(|source| OpError::KillAll { source }),
        Target::All => {
            for process in cgroup
                .pids()
                .map_err(|source| OpError::Pids { source })?
                .into_iter()
                .filter_map(pid)
            {
                // One that has just ended is what was wanted.
                let _sent = kill_process(process, kind);
            }
            Ok(())
        }
    }
}

/// From now on a SIGKILL is no sign of the OOM killer, whatever it has done before.
fn asked_for(shim: &Shim, cgroup: &Cgroup) {
    match Baseline::take(cgroup) {
        Ok(baseline) => {
            if let Some(parts) = shim.parts().as_mut() {
                parts.oom = baseline;
            }
        }
        Err(error) => note(chain(&error)),
    }
}
