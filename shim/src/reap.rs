//! Collects ended children: those somebody waits for, and orphans that the shim inherits as a subreaper.
//!
//! One place calls wait for all children, so that no zombie is left and no exit is collected by the wrong hand. Whoever
//! forks registers the child before the next await; with one thread the sweep cannot come in between.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::sync::oneshot;

use crate::sys::watch;
use crate::task::Ended;

/// Why children cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReapError {
    #[error("make a signalfd for SIGCHLD")]
    SignalFd { source: nix::Error },
    #[error("watch the signalfd")]
    Watch { source: std::io::Error },
}

/// Hands exits to those who wait for them.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: Mutex<BTreeMap<i32, oneshot::Sender<Ended>>>,
}

impl Reaper {
    /// The exit of child `pid`, once it comes. Call it before the first await after the fork.
    pub(crate) fn expect(&self, pid: i32) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid, sender);
        receiver
    }

    /// Collects children for ever. SIGCHLD must be blocked (`serve::birth` does it before any child exists).
    ///
    /// # Errors
    /// Only when the signal cannot be watched.
    pub(crate) async fn run(&self) -> Result<(), ReapError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|source| ReapError::SignalFd { source })?;
        let own = signals
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| ReapError::Watch { source })?;
        let watched = watch::readable(own).map_err(|source| ReapError::Watch { source })?;
        loop {
            // Children may have ended before the signal was watched, and signals merge: sweep first, then wait.
            self.sweep();
            let mut guard = watched.readable().await.map_err(|source| ReapError::Watch { source })?;
            while matches!(signals.read_signal(), Ok(Some(_))) {}
            guard.clear_ready();
        }
    }

    fn sweep(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(code) = code(status) else { continue };
            let waiting = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&pid.as_raw_nonzero().get());
            if let Some(waiting) = waiting {
                // Nobody waits any more for a process that was given up.
                let _told = waiting.send(Ended { code, at: now() });
            }
        }
    }
}

/// The exit status that a shell would show; `None` for a child that only stopped.
fn code(status: WaitStatus) -> Option<i32> {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Unix time in nanoseconds.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// A process id as the kernel's calls want it.
pub(crate) fn pid(raw: i32) -> Option<Pid> {
    (raw > 0).then(|| Pid::from_raw(raw)).flatten()
}
