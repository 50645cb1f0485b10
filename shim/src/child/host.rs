//! What a shim holds of the host for its whole life, to make children with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::init::process::host_proc;
use crate::sys::sealed;

/// Descriptors of the host, all close-on-exec.
#[derive(Debug)]
pub(crate) struct Host {
    proc: OwnedFd,
    pid_namespace: OwnedFd,
    binary: OwnedFd,
    oom_score: i32,
}

/// Why a shim cannot make children.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// No procfs.
    #[error("open the host's /proc")]
    Proc {
        /// Cause.
        source: Errno,
    },
    /// No binary.
    #[error("open our own binary")]
    Binary {
        /// Cause.
        source: Errno,
    },
    /// Unreadable.
    #[error("read our own oom_score_adj")]
    OomScore {
        /// Cause.
        source: Errno,
    },
}

impl Host {
    /// To be called before the shim lowers its own `oom_score_adj`: what it finds there is what a container gets that
    /// names none.
    ///
    /// # Errors
    /// Without a procfs on `/proc`.
    pub(crate) fn open() -> Result<Self, HostError> {
        Self::with(sealed::own_view().map_err(|source| HostError::Binary { source })?)
    }

    /// With another binary to become for the pause program: a test's own is neither static nor ours.
    #[cfg(test)]
    pub(super) fn with_binary(path: &std::path::Path) -> Self {
        Self::with(sealed::read_only_view(path).unwrap()).unwrap()
    }

    fn with(binary: OwnedFd) -> Result<Self, HostError> {
        let proc = host_proc().map_err(|source| HostError::Proc { source })?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let pid_namespace = rustix::fs::openat(&proc, "self/ns/pid", flags, Mode::empty())
            .map_err(|source| HostError::Proc { source })?;
        let oom_score = oom_score(&proc).map_err(|source| HostError::OomScore { source })?;
        Ok(Self {
            proc,
            pid_namespace,
            binary,
            oom_score,
        })
    }

    pub(super) fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    pub(super) fn pid_namespace(&self) -> BorrowedFd<'_> {
        self.pid_namespace.as_fd()
    }

    pub(super) fn binary(&self) -> BorrowedFd<'_> {
        self.binary.as_fd()
    }

    pub(super) fn oom_score(&self) -> i32 {
        self.oom_score
    }
}

fn oom_score(proc: &OwnedFd) -> Result<i32, Errno> {
    let file = rustix::fs::openat(
        proc,
        "self/oom_score_adj",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut text = [0_u8; 16];
    let read = rustix::io::read(&file, &mut text)?;
    let text = std::str::from_utf8(text.get(..read).unwrap_or_default()).map_err(|_| Errno::INVAL)?;
    text.trim().parse().map_err(|_| Errno::INVAL)
}
