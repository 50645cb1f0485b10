//! Joining a cgroup, from the process that shall be in it.
//!
//! v1: a single-threaded process writes `0` to each hierarchy's `tasks`, through descriptors opened beforehand. Its
//! `cgroup.procs` would do the same 40 times slower, since it waits for all of the host's forks.
//! v2: the process is born inside (`CLONE_INTO_CGROUP`), or else writes to `cgroup.procs`.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, write};

use super::Directory;
use super::error::CgroupError;

/// Open files of a cgroup, all close-on-exec. The default joins nothing.
#[derive(Debug, Default)]
pub(crate) struct JoinHandles {
    /// v1: each hierarchy's `tasks`, for writing.
    tasks: Vec<OwnedFd>,
    /// v2: the directory.
    unified: Option<OwnedFd>,
}

impl JoinHandles {
    pub(super) fn open(v1: &[Directory], unified: Option<&Path>) -> Result<Self, CgroupError> {
        let opened = |path: &Path, file: std::io::Result<File>| {
            file.map(OwnedFd::from).map_err(|source| CgroupError::Open {
                path: path.to_owned(),
                source,
            })
        };
        let tasks = |directory: &Directory| {
            let path = directory.path.join("tasks");
            opened(&path, OpenOptions::new().write(true).open(&path))
        };
        Ok(Self {
            tasks: v1.iter().map(tasks).collect::<Result<_, _>>()?,
            unified: unified.map(|path| opened(path, File::open(path))).transpose()?,
        })
    }

    /// For clone3's `CLONE_INTO_CGROUP`; `None` on v1. A process started that way is where it shall be.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Every descriptor that must stay open until [`JoinHandles::join_self`].
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tasks.iter().chain(&self.unified).map(AsFd::as_fd)
    }

    /// Moves the calling process, unless it was born inside. It must have one thread: v1 moves threads.
    ///
    /// # Errors
    /// What the first hierarchy that refused says; the process must not go on then.
    pub(crate) fn join_self(&self) -> Result<(), Errno> {
        for tasks in &self.tasks {
            write(tasks, b"0")?;
        }
        let Some(directory) = &self.unified else { return Ok(()) };
        let procs = openat(
            directory,
            "cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        write(procs, b"0").map(drop)
    }
}
