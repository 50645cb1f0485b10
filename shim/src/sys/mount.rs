//! mount_setattr, which rustix does not wrap yet.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::outcome;

/// `mount_attr` of the kernel (Linux 5.12).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear first; the access-time modes are cleared together or not at all.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to keep it.
    pub(crate) propagation: u64,
    /// Only for id-mapped mounts.
    pub(crate) userns_fd: u64,
}

/// One mount, or with it all mounts below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only the mount that the descriptor names.
    Top,
    /// The mounts below it too.
    Tree,
}

/// Changes flags and propagation of the mount that `mount` refers to; all or none of a tree.
///
/// # Errors
/// What mount_setattr(2) says: `EINVAL` when it is no mount point, `EBUSY` when written to while set read-only.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: &MountAttr, depth: Depth) -> Result<(), Errno> {
    let recursive = if depth == Depth::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a literal C string, `attributes` is a whole mount_attr of the stated size; the kernel keeps
    // neither.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    outcome(ret).map(drop)
}
