//! The `pause` verb: the first process of a PID namespace that several containers share. It holds the namespace open
//! and reaps what is orphaned in it, and does nothing else. It opens nothing and allocates nothing after it began.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

/// Reaps until it is told to end.
pub(crate) fn run() -> ExitCode {
    let mut awaited = SigSet::empty();
    awaited.extend([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
    // Blocked, so that none is lost between two waits; a first process gets no signal that it has not asked for.
    if awaited.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        // What has ended before the block, or together with the last signal.
        reap();
        match awaited.wait() {
            Ok(Signal::SIGTERM | Signal::SIGINT) => return ExitCode::SUCCESS,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn reap() {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            // No child has ended, or there is none.
            Ok(None) | Err(_) => return,
        }
    }
}
