//! Device nodes and the links beside them.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use super::InitError;
use super::attach::refuse_linked_base;
use super::rootfs::Rootfs;
use crate::plan::{DeviceKind, DeviceNode};

/// Makes a node, or accepts the same node.
///
/// # Errors
/// Names the path; [`InitError::DeviceDiffers`] when the image has something else there (CVE-2025-31133).
pub(crate) fn device(root: &Rootfs, node: &DeviceNode) -> Result<(), InitError> {
    let failed = |source| InitError::Device {
        path: node.path.clone(),
        source,
    };
    refuse_linked_base(root, &node.path)?;
    let (parent, name) = parent(root, &node.path).map_err(failed)?;
    let kind = match node.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = rustix::fs::makedev(node.major, node.minor);
    match rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            let same = FileType::from_raw_mode(found.st_mode) == kind
                && (node.kind == DeviceKind::Fifo || found.st_rdev == number);
            return if same {
                Ok(())
            } else {
                Err(InitError::DeviceDiffers {
                    path: node.path.clone(),
                })
            };
        }
        Err(source) => return Err(failed(source)),
    }
    if node.uid == 0 && node.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// Makes a symbolic link; what the image has there stays.
///
/// # Errors
/// Names the path.
pub(crate) fn link(root: &Rootfs, target: &str, path: &str) -> Result<(), InitError> {
    let failed = |source| InitError::Link {
        path: path.to_owned(),
        source,
    };
    refuse_linked_base(root, path)?;
    let (parent, name) = parent(root, path).map_err(failed)?;
    match rustix::fs::symlinkat(target, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

fn parent<'a>(root: &Rootfs, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
    let (parent, name) = path.trim_end_matches('/').rsplit_once('/').ok_or(Errno::INVAL)?;
    let parent = if parent.is_empty() { "/" } else { parent };
    Ok((root.directory(parent)?, name))
}
