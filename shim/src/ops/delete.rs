//! Delete: gives up what a stopped container holds, and Shutdown, which ends the shim.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::io::note::note;
use crate::ops::error::OpError;
use crate::ops::{Shim, cleanup, exit};
use crate::sys::clone::{close_all_but, spawn};
use crate::task::{Ended, Phase};

/// What is still known of a deleted container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    /// The process id that its first process had.
    pub(crate) pid: i32,
    /// How it ended.
    pub(crate) ended: Ended,
}

/// Releases the root file system and removes the cgroup. A container that was created but never started is killed
/// first. Again after success it says the same again.
///
/// # Errors
/// The container runs, or the cgroup cannot be emptied and removed; Delete may be asked for again.
pub(crate) async fn delete(shim: Arc<Shim>) -> Result<Deleted, OpError> {
    let phase = shim.phase.borrow().clone();
    match phase {
        Phase::Created { .. } => exit::kill_first(&shim),
        Phase::Ending { .. } | Phase::Stopped { .. } => {}
        Phase::Deleted { pid, ended } => return Ok(Deleted { pid, ended }),
        Phase::Absent | Phase::Creating | Phase::Starting { .. } | Phase::Running { .. } => {
            return Err(OpError::WrongPhase {
                verb: "delete",
                phase: phase.name(),
            });
        }
    }
    let ended = exit::stopped(&shim).await;
    shim.execs.forget_all();
    let cgroup = shim.parts().as_ref().map(|parts| Arc::clone(&parts.cgroup));
    if let Some(cgroup) = cgroup {
        cleanup::remove(&*cgroup).await?;
    }
    if let Some(parts) = shim.parts().take() {
        release(parts.root);
    }
    shim.phase.send_replace(Phase::Deleted {
        pid: phase.pid(),
        ended,
    });
    Ok(Deleted {
        pid: phase.pid(),
        ended,
    })
}

/// Closes the root file system's last descriptor in a process that nobody waits for: dropping an overlay may write its
/// dirty pages back, which takes as long as the disk takes.
fn release(root: OwnedFd) {
    let released = spawn(0, None, || match close_all_but(&[]) {
        Ok(()) => 0,
        Err(_) => 1,
    });
    if let Err(errno) = released {
        note(format_args!(
            "release the root file system on the side: {}",
            std::io::Error::from(errno)
        ));
    }
    drop(root);
}

/// Whether Shutdown may end a shim whose container still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Only when there is nothing left to look after.
    WhenDone,
    /// The container is killed first.
    Now,
}

/// Has the shim end after its answer is out.
///
/// # Errors
/// The container still lives and `how` does not say to kill it.
pub(crate) async fn shutdown(shim: Arc<Shim>, how: Shutdown) -> Result<(), OpError> {
    let phase = shim.phase.borrow().clone();
    match (&phase, how) {
        (Phase::Absent | Phase::Stopped { .. } | Phase::Deleted { .. }, _) => {}
        (_alive, Shutdown::WhenDone) => {
            return Err(OpError::WrongPhase {
                verb: "shutdown",
                phase: phase.name(),
            });
        }
        // Nothing has been forked before the log is open; what comes after that does not pause.
        (Phase::Creating, Shutdown::Now) => {}
        (_alive, Shutdown::Now) => {
            exit::kill_first(&shim);
            exit::stopped(&shim).await;
        }
    }
    shim.stop.notify_one();
    Ok(())
}
