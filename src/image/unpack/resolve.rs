//! Names of an archive turned into places beneath a root, and never beyond it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::error::shown;

/// Longest name of an entry (PATH_MAX less its NUL).
const MAX_PATH: usize = 4095;
/// Longest component (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// Most directories above an entry (yardstick L1).
const MAX_DEPTH: usize = 255;
/// Most symbolic links on the way to one (the kernel's own limit).
const MAX_LINKS: usize = 40;

fn refused(name: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::Refused {
        entry: shown(name),
        reason,
    }
}

/// The components of an entry's name. An absolute name is one in the root; one that climbs is refused, even where it
/// would come back.
pub(super) fn components(name: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    if name.is_empty() {
        return Err(refused(name, "it has no name"));
    }
    if name.len() > MAX_PATH {
        return Err(refused(name, "its name is longer than 4095 bytes"));
    }
    if name.contains(&0) {
        return Err(refused(name, "its name has a NUL in it"));
    }
    let mut parts = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(name, "its name has .. in it")),
            part if part.len() > MAX_COMPONENT => {
                return Err(refused(name, "its name has a part of more than 255 bytes"));
            }
            part => parts.push(part),
        }
    }
    if parts.len() > MAX_DEPTH + 1 {
        return Err(refused(name, "it is more than 255 directories deep"));
    }
    Ok(parts)
}

/// Opens the directory `path` as if `root` were `/`, symbolic links included.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    const TRIES: usize = 8;
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), how);
        // Something else on the machine was renamed meanwhile and the kernel could not be sure (openat2(2)).
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// Opens the directory `name` right in `dir`; a symbolic link is none.
pub(super) fn open_child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// The components that lead to `path` in `root` once every symbolic link is followed, for a path that is not there
/// whole. `..` in a link's target stops at the root.
pub(super) fn follow(root: BorrowedFd<'_>, path: &[u8], whole: &[u8]) -> Result<Vec<Vec<u8>>, UnpackError> {
    let split = |path: &[u8]| path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
    let mut ahead = split(path);
    let mut behind: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                behind.pop();
                continue;
            }
            _ => {}
        }
        behind.push(part);
        let here = behind.join(&b'/');
        if here.len() > MAX_PATH || behind.len() > MAX_DEPTH {
            return Err(refused(whole, "symbolic links lead it too deep"));
        }
        // Every earlier part is followed already, so nothing but the last one can be a link.
        let Ok(target) = read_link(root, &here) else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(refused(whole, "too many symbolic links lead to it"));
        }
        behind.pop();
        if target.first() == Some(&b'/') {
            behind.clear();
        }
        let mut next = split(&target);
        next.append(&mut ahead);
        ahead = next;
    }
    Ok(behind)
}

fn read_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let link = fs::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), how)?;
    Ok(fs::readlinkat(&link, "", Vec::new())?.into_bytes())
}

/// Removes whatever `name` in `dir` is, directories with all that is in them; links are not followed.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let name = OsStr::from_bytes(name);
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = fs::openat(dir, name, flags, Mode::empty())?;
    // Depth is bounded by that of names in the archive.
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        let entry_name = entry.file_name().to_bytes();
        if !matches!(entry_name, b"." | b"..") {
            if entry.file_type() == FileType::Directory {
                remove(below.as_fd(), entry_name)?;
            } else {
                fs::unlinkat(&below, OsStr::from_bytes(entry_name), AtFlags::empty())?;
            }
        }
    }
    fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
