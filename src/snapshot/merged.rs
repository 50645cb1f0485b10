//! Files of an image as its containers see them, read without mounting it.
//!
//! The layers are looked through by hand, top to bottom, in overlayfs's notation (a character device 0:0 hides a name,
//! `trusted.overlay.opaque` hides everything below a directory). This needs no kernel feature and no mount, and costs a
//! few system calls for the one or two small files that are ever read (`/etc/passwd`, `/etc/group`). Every component is
//! opened in its directory's descriptor without following links; links are followed here, where `/` is the image.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::SnapshotError;

/// Most symbolic links on the way (the kernel's own limit).
const MAX_LINKS: usize = 40;

/// A directory of the merged view: that of each layer which has a part in it, highest first.
type Merged = Vec<OwnedFd>;

/// What a name in a merged directory is.
enum Found {
    Nothing,
    Directory(Merged),
    Link(OsString),
    /// A regular file, in this directory.
    File(OwnedFd),
}

/// A regular file's content; `None` if there is none of that name.
pub(super) fn read_file(layers: &[PathBuf], path: &Path, limit: usize) -> Result<Option<Vec<u8>>, SnapshotError> {
    let failed = |errno: Errno| SnapshotError::io("read from the image", path)(errno.into());
    let Some(file) = find(layers, path, &failed)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    let read = File::from(file).take(most).read_to_end(&mut bytes);
    read.map_err(SnapshotError::io("read from the image", path))?;
    if bytes.len() > limit {
        return Err(SnapshotError::TooBig {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(Some(bytes))
}

fn find(
    layers: &[PathBuf],
    path: &Path,
    failed: &impl Fn(Errno) -> SnapshotError,
) -> Result<Option<OwnedFd>, SnapshotError> {
    let mut links = 0;
    let mut ahead = parts(path);
    // Names from the root to where we are; the root itself is looked at anew after each turn, which is rare and cheap.
    let mut behind: Vec<OsString> = Vec::new();
    let mut here = root(layers).map_err(failed)?;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            behind.pop();
            here = descend(layers, &behind).map_err(failed)?;
            continue;
        }
        match look(&here, &part).map_err(failed)? {
            Found::Nothing => return Ok(None),
            Found::File(file) => return Ok(ahead.is_empty().then_some(file)),
            Found::Directory(next) => {
                behind.push(part);
                here = next;
            }
            Found::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(SnapshotError::Loop { path: path.to_owned() });
                }
                let target = Path::new(&target);
                if target.is_absolute() {
                    behind.clear();
                    here = root(layers).map_err(failed)?;
                }
                let mut next = parts(target);
                next.append(&mut ahead);
                ahead = next;
            }
        }
    }
    Ok(None)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(part).collect()
}

fn root(layers: &[PathBuf]) -> Result<Merged, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    layers
        .iter()
        .rev()
        .map(|layer| fs::open(layer, flags, Mode::empty()))
        .collect()
}

/// Down a path that was gone before, of directories only.
fn descend(layers: &[PathBuf], path: &[OsString]) -> Result<Merged, Errno> {
    let mut here = root(layers)?;
    for part in path {
        match look(&here, part)? {
            Found::Directory(next) => here = next,
            Found::Nothing | Found::Link(_) | Found::File(_) => return Err(Errno::NOENT),
        }
    }
    Ok(here)
}

fn look(here: &Merged, name: &OsStr) -> Result<Found, Errno> {
    let mut merged = Merged::new();
    for dir in here {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let stat = fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opaque = is_opaque(found.as_fd())?;
                merged.push(found);
                if opaque {
                    break;
                }
            }
            // Anything else below a directory is hidden by it, as is everything below a whiteout.
            _ if !merged.is_empty() => break,
            FileType::CharacterDevice if stat.st_rdev == makedev(0, 0) => return Ok(Found::Nothing),
            FileType::Symlink => {
                let target = fs::readlinkat(&found, "", Vec::new())?;
                return Ok(Found::Link(OsString::from_vec(target.into_bytes())));
            }
            FileType::RegularFile => return open(dir.as_fd(), name).map(Found::File),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                return Ok(Found::Nothing);
            }
        }
    }
    Ok(if merged.is_empty() {
        Found::Nothing
    } else {
        Found::Directory(merged)
    })
}

/// CVE-2024-9676 class: layers do not change, but if this were a fifo by now the open would still not block.
fn open(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0_u8; 4];
    // The descriptor only names the directory (O_PATH), which has no fgetxattr.
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    match fs::getxattr(path, "trusted.overlay.opaque", &mut value) {
        Ok(1) => Ok(value[0] == b'y'),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
