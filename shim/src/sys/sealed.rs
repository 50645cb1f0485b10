//! The shim's own binary, kept from being written through `/proc/<pid>/exe` (CVE-2019-5736).
//!
//! A process that runs from a mount that is read-only cannot be reached for writing through its `exe` link, whatever
//! its caller may: the link leads to that mount, and the mount belongs to no namespace that the container is in. The
//! text pages stay those of the one file, shared by every shim, so this costs no memory.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::exec::fexecve;
use super::mount::{Depth, MountAttr, set_attributes};

/// The binary this process runs from, opened as a path only, close-on-exec.
///
/// # Errors
/// What open(2) says, for example without `/proc`.
pub(crate) fn own_binary() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Whether nobody can open the binary that this process runs from for writing through its `exe` link.
///
/// # Errors
/// As [`own_binary`].
pub(crate) fn is_sealed() -> Result<bool, Errno> {
    let binary = own_binary()?;
    Ok(rustix::fs::fstatvfs(&binary)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY))
}

/// A read-only view of the binary, detached from every mount namespace.
///
/// # Errors
/// What open_tree(2) and mount_setattr(2) say.
pub(crate) fn read_only_binary() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, "/proc/self/exe", flags)?;
    let read_only = MountAttr {
        set: u64::from(libc::MOUNT_ATTR_RDONLY),
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), &read_only, Depth::Top)?;
    Ok(tree)
}

/// Starts this process again from [`read_only_binary`], with the same arguments; returns only when it failed. To be
/// called first of all, and only if [`is_sealed`] says no.
pub(crate) fn run_sealed(args: &[CString], env: &[CString]) -> Errno {
    match read_only_binary() {
        Ok(binary) => fexecve(binary.as_fd(), args, env),
        Err(errno) => errno,
    }
}
