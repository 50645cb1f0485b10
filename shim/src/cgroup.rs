//! The container's control groups.

pub(crate) mod resources;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// What a child needs to move itself into the container's cgroups.
#[derive(Debug, Default)]
pub(crate) struct JoinHandles {
    /// v1: each hierarchy's `tasks`, open for writing.
    pub(crate) tasks: Vec<OwnedFd>,
    /// v2: the directory, for CLONE_INTO_CGROUP.
    pub(crate) unified: Option<OwnedFd>,
}

impl JoinHandles {
    /// The v2 directory to be born in.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Every descriptor that must stay open in the child until [`JoinHandles::join_self`].
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.tasks.iter().chain(&self.unified).map(AsFd::as_fd).collect()
    }

    /// Moves the calling process, which has one thread.
    ///
    /// # Errors
    /// What writing says.
    pub(crate) fn join_self(&self) -> Result<(), Errno> {
        self.tasks
            .iter()
            .try_for_each(|tasks| rustix::io::write(tasks, b"0").map(drop))
    }
}
