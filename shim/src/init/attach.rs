//! Attaching, masking and sealing mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::InitError;
use super::rootfs::{Make, Rootfs, is_directory};
use crate::plan::mounts::{Attach, Content, FirstComponent, PROC_SUPER_MAGIC, ReadOnly};
use crate::sys::mount::{Depth, MountAttr, set_attributes};

/// The access-time modes, cleared as one (mount_setattr(2)).
const ATIME: u64 = 0x70;

/// Attaches mounts, and remembers what has to be done to them later.
#[derive(Default)]
pub(crate) struct Attacher {
    /// To be made read-only at the end.
    unsealed: Vec<(String, OwnedFd)>,
    /// The null device and the empty directory that masks show, once attached somewhere: only an attached mount can
    /// be cloned again.
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Attacher {
    /// Attaches one mount of the plan; `trees` are the plan's.
    ///
    /// # Errors
    /// Names the destination.
    pub(crate) fn attach(&mut self, root: &Rootfs, attach: &Attach, trees: &[OwnedFd]) -> Result<(), InitError> {
        let made;
        let mount = match &attach.content {
            Content::Filesystem { kind, options } => {
                made = filesystem(attach, kind, options)?;
                made.as_fd()
            }
            Content::Tree(index) => trees.get(*index).map(AsFd::as_fd).ok_or_else(|| InitError::Attach {
                destination: attach.destination.clone(),
                source: Errno::BADF,
            })?,
        };
        set_flags(mount, attach)?;
        let point = mount_point(root, attach, mount)?;
        move_onto(mount, point.as_fd()).map_err(|source| attach_error(&attach.destination, source))?;
        if attach.read_only == ReadOnly::AtTheEnd {
            let fd = rustix::io::fcntl_dupfd_cloexec(mount, 3);
            let fd = fd.map_err(|source| attach_error(&attach.destination, source))?;
            self.unsealed.push((attach.destination.clone(), fd));
        }
        Ok(())
    }

    /// Shows the null device over a file and an empty directory over a directory. What does not exist needs no mask.
    ///
    /// # Errors
    /// Names the path. A path that cannot be looked up for another reason than absence is an error: it might exist.
    pub(crate) fn mask(&mut self, root: &Rootfs, path: &str, null: Option<&OwnedFd>) -> Result<(), InitError> {
        let failed = |source| InitError::Mask {
            path: path.to_owned(),
            source,
        };
        let point = match root.find(path, OFlags::PATH) {
            Ok(point) => point,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        let directory = is_directory(point.as_fd()).map_err(failed)?;
        let known = if directory { &mut self.empty } else { &mut self.null };
        let mask = match known {
            Some(attached) => clone_tree(attached.as_fd(), Depth::Top),
            None if directory => empty_directory(),
            // The first one is the host's, verified by the shim.
            None => null
                .ok_or(Errno::BADF)
                .and_then(|null| rustix::io::fcntl_dupfd_cloexec(null, 3)),
        };
        let mask = mask.map_err(failed)?;
        move_onto(mask.as_fd(), point.as_fd()).map_err(failed)?;
        known.get_or_insert(mask);
        Ok(())
    }

    /// Makes a path and all mounts below it read-only. What does not exist is passed over.
    ///
    /// # Errors
    /// As [`Attacher::mask`].
    pub(crate) fn make_read_only(&mut self, root: &Rootfs, path: &str) -> Result<(), InitError> {
        let failed = |source| InitError::MakeReadOnly {
            path: path.to_owned(),
            source,
        };
        let point = match root.find(path, OFlags::PATH) {
            Ok(point) => point,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        let tree = clone_tree(point.as_fd(), Depth::Tree).map_err(failed)?;
        set_attributes(tree.as_fd(), &read_only(), Depth::Tree).map_err(failed)?;
        move_onto(tree.as_fd(), point.as_fd()).map_err(failed)
    }

    /// Makes read-only what waited for it.
    ///
    /// # Errors
    /// Names the mount.
    pub(crate) fn seal(&mut self) -> Result<(), InitError> {
        for (destination, mount) in self.unsealed.drain(..) {
            set_attributes(mount.as_fd(), &read_only(), Depth::Top)
                .map_err(|source| InitError::Flags { destination, source })?;
        }
        Ok(())
    }
}

/// Makes the rootfs read-only, the mounts in it apart.
///
/// # Errors
/// What mount_setattr(2) says.
pub(crate) fn seal_root(root: &Rootfs) -> Result<(), InitError> {
    set_attributes(root.as_fd(), &read_only(), Depth::Top).map_err(|source| InitError::SealRoot { source })
}

/// A procfs that no path leads to.
///
/// # Errors
/// What the mount calls say.
pub(crate) fn private_proc() -> Result<OwnedFd, InitError> {
    let make = || {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    make().map_err(|source| InitError::PrivateProc { source })
}

/// Attaches a detached mount on what `point` is open on.
///
/// # Errors
/// What move_mount(2) says: `ENOTDIR` when one of the two is a directory and the other is not.
pub(crate) fn move_onto(mount: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<(), Errno> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", empty)
}

/// A detached copy of the mount that `fd` lies on, beginning at `fd`.
///
/// # Errors
/// What open_tree(2) says.
pub(crate) fn clone_tree(fd: BorrowedFd<'_>, depth: Depth) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, depth == Depth::Tree);
    open_tree(fd, "", flags)
}

fn read_only() -> MountAttr {
    MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    }
}

fn attach_error(destination: &str, source: Errno) -> InitError {
    InitError::Attach {
        destination: destination.to_owned(),
        source,
    }
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "755")?;
    fsconfig_set_string(&context, "size", "0")?;
    fsconfig_set_string(&context, "nr_inodes", "1")?;
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

fn filesystem(attach: &Attach, kind: &str, options: &[(String, Option<String>)]) -> Result<OwnedFd, InitError> {
    let destination = &attach.destination;
    let failed = |source| InitError::Filesystem {
        kind: kind.to_owned(),
        destination: destination.clone(),
        source,
    };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
    for (key, value) in options {
        let set = match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        };
        let option = || {
            value
                .as_ref()
                .map_or_else(|| key.clone(), |value| format!("{key}={value}"))
        };
        set.map_err(|source| InitError::FilesystemOption {
            kind: kind.to_owned(),
            option: option(),
            source,
        })?;
    }
    fsconfig_create(&context).map_err(failed)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(failed)
}

/// Flags and propagation, while nobody can see the mount yet.
fn set_flags(mount: BorrowedFd<'_>, attach: &Attach) -> Result<(), InitError> {
    let failed = |source| InitError::Flags {
        destination: attach.destination.clone(),
        source,
    };
    let propagation = MountAttr {
        propagation: attach.propagation,
        ..MountAttr::default()
    };
    set_attributes(mount, &propagation, attach.propagation_depth).map_err(failed)?;
    if attach.tree_attributes != 0 {
        let tree = MountAttr {
            set: attach.tree_attributes,
            ..MountAttr::default()
        };
        set_attributes(mount, &tree, Depth::Tree).map_err(failed)?;
    }
    let mut top = MountAttr {
        set: attach.attributes,
        ..MountAttr::default()
    };
    if attach.sets_access_time() {
        top.clear = ATIME;
    }
    if attach.read_only == ReadOnly::AtOnce {
        top.set |= libc::MOUNT_ATTR_RDONLY;
    }
    if top.set != 0 || top.clear != 0 {
        set_attributes(mount, &top, Depth::Top).map_err(failed)?;
    }
    Ok(())
}

/// Opens the mount point, making it where missing, and judges where it leads.
fn mount_point(root: &Rootfs, attach: &Attach, mount: BorrowedFd<'_>) -> Result<OwnedFd, InitError> {
    let path = &attach.destination;
    let failed = |source| InitError::MountPoint {
        path: path.clone(),
        source,
    };
    if attach.first == FirstComponent::MustBeDirectory {
        refuse_linked_base(root, path)?;
    }
    let make = if is_directory(mount).map_err(failed)? {
        Make::Directory
    } else {
        Make::File
    };
    let point = root.make(path, make).map_err(failed)?;
    // A link of the image may lead into procfs although the path's text does not (CVE-2019-16884).
    let filesystem = rustix::fs::fstatfs(&point).map_err(failed)?.f_type;
    if u64::try_from(filesystem) == Ok(PROC_SUPER_MAGIC) && !path.starts_with("/proc/") {
        return Err(InitError::LeadsIntoProc { path: path.clone() });
    }
    Ok(point)
}

/// `/proc`, `/sys` and `/dev` of the image must be directories, or absent.
///
/// # Errors
/// [`InitError::BaseIsLink`].
pub(crate) fn refuse_linked_base(root: &Rootfs, path: &str) -> Result<(), InitError> {
    let link = root.base_is_link(path).map_err(|source| InitError::Lookup {
        path: path.to_owned(),
        source,
    })?;
    if link {
        let base = path.split('/').nth(1).unwrap_or_default();
        return Err(InitError::BaseIsLink {
            path: format!("/{base}"),
        });
    }
    Ok(())
}
