//! The shim's own binary, kept from being written through `/proc/<pid>/exe` (CVE-2019-5736).
//!
//! A process that runs from a mount that is read-only cannot be reached for writing through its `exe` link, whatever
//! its caller may: the link leads to that mount, and the mount belongs to no namespace that the container is in. The
//! text pages stay those of the one file, shared by every shim, so this costs no memory.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mount::{Depth, MountAttr, set_attributes};

const OWN: &str = "/proc/self/exe";

/// Whether nobody can open the binary that this process runs from for writing through its `exe` link: it lies on a
/// read-only mount, or is a memfd sealed against writing.
///
/// # Errors
/// What open(2) says, for example without `/proc`.
pub(crate) fn is_sealed() -> Result<bool, Errno> {
    let binary = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatvfs(&binary)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY)
    {
        return Ok(true);
    }
    // EINVAL: not a file that can be sealed.
    Ok(rustix::fs::fcntl_get_seals(&binary).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// The binary that this process runs from, as something that can be run again and not be written.
///
/// # Errors
/// As [`is_sealed`] and [`read_only_view`].
pub(crate) fn own_view() -> Result<OwnedFd, Errno> {
    if is_sealed()? {
        // A detached mount cannot be cloned again; it needs no second seal either.
        return rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    }
    read_only_view(Path::new(OWN))
}

/// A read-only view of a file, detached from every mount namespace.
///
/// # Errors
/// What open_tree(2) and mount_setattr(2) say.
pub(crate) fn read_only_view(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags)?;
    let read_only = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), &read_only, Depth::Top)?;
    Ok(tree)
}
