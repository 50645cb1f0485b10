//! Joining a cgroup, from the process that shall be in it.
//!
//! v1: a single-threaded process writes `0` to each hierarchy's `tasks`, through descriptors opened beforehand. Its
//! `cgroup.procs` would do the same 40 times slower, since it waits for all of the host's forks.
//! v2: the process is born inside (`CLONE_INTO_CGROUP`), or else writes to `cgroup.procs`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use super::Directory;
use super::error::CgroupError;

/// Open files of a cgroup, all close-on-exec.
#[derive(Debug, Default)]
pub(crate) struct JoinHandles {
    /// `tasks`, with the hierarchy's controllers for error texts.
    v1: Vec<(String, File)>,
    /// The v2 directory.
    unified: Option<OwnedFd>,
}

/// How the process that joins was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    /// By clone3 with [`JoinHandles::clone_into`]: it is in the v2 cgroup already.
    Inside,
    /// By anything else.
    Outside,
}

/// Why a process could not join.
#[derive(Debug, thiserror::Error)]
#[error("join cgroup hierarchy {hierarchy}")]
pub(crate) struct JoinError {
    /// A v1 hierarchy's controllers, or `unified`.
    pub(crate) hierarchy: String,
    /// What the kernel said.
    pub(crate) source: io::Error,
}

impl JoinHandles {
    pub(super) fn open(v1: &[Directory], unified: Option<&Path>) -> Result<Self, CgroupError> {
        let tasks = |Directory { hierarchy, path }: &Directory| {
            let path = path.join("tasks");
            match OpenOptions::new().write(true).open(&path) {
                Ok(file) => Ok((hierarchy.controllers.join(","), file)),
                Err(source) => Err(CgroupError::Open { path, source }),
            }
        };
        let directory = |path: &Path| match File::open(path) {
            Ok(directory) => Ok(OwnedFd::from(directory)),
            Err(source) => Err(CgroupError::Open {
                path: path.to_owned(),
                source,
            }),
        };
        Ok(Self {
            v1: v1.iter().map(tasks).collect::<Result<_, _>>()?,
            unified: unified.map(directory).transpose()?,
        })
    }

    /// For clone3's `CLONE_INTO_CGROUP`; `None` on v1 without a v2 hierarchy beside it. A process started that way
    /// still calls [`JoinHandles::join_self`] for the v1 hierarchies.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling process. It must have one thread: v1 moves threads.
    ///
    /// # Errors
    /// The first hierarchy that refused; the process must not go on then.
    pub(crate) fn join_self(&self, birth: Birth) -> Result<(), JoinError> {
        for (hierarchy, tasks) in &self.v1 {
            let mut tasks: &File = tasks;
            tasks.write_all(b"0").map_err(|source| JoinError {
                hierarchy: hierarchy.clone(),
                source,
            })?;
        }
        match &self.unified {
            Some(directory) if birth == Birth::Outside => join_unified(directory).map_err(|source| JoinError {
                hierarchy: "unified".to_owned(),
                source,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

fn join_unified(directory: &OwnedFd) -> io::Result<()> {
    let procs = openat(
        directory,
        "cgroup.procs",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    File::from(procs).write_all(b"0")
}
