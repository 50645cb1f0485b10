//! Pairs of pipe ends for a process's standard streams.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe's two ends, both close-on-exec: a child gets its own by `dup2`.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where it is read.
    pub(crate) read: OwnedFd,
    /// Where it is written.
    pub(crate) write: OwnedFd,
}

impl Pipe {
    /// Makes a pipe.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` from pipe2(2).
    pub(crate) fn new() -> Result<Self, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { read, write })
    }
}
