//! Opens a container's log file below a directory that another agent owns.
//!
//! Whoever can write below the log directory must not be able to point the shim, which is root, at another file: no
//! symbolic link is followed below it, and what is opened must be a regular file.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use copepod_proto::bundle::LogTarget;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fcntl_setfl, fstat, mkdirat, open, openat2};
use rustix::io::Errno;

/// Mode of a log file (CRI contract §7).
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Mode of directories made below the log directory (CRI contract §7).
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// Below the log directory nothing may lead elsewhere.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Why a log file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLogError {
    #[error("open log directory {}; kubelet, or whoever asks for the pod, makes it first", directory.display())]
    Directory { directory: PathBuf, source: Errno },
    #[error("log path {} must be relative and stay below the log directory", path.display())]
    Path { path: PathBuf },
    #[error("make directory {} for the log", path.display())]
    MakeParent { path: PathBuf, source: Errno },
    #[error("open directory {} of the log (symbolic links are not followed there)", path.display())]
    Parent { path: PathBuf, source: Errno },
    #[error("open log file {} (symbolic links are not followed there)", path.display())]
    File { path: PathBuf, source: Errno },
    #[error("log file {} is not a regular file; remove it", path.display())]
    NotRegular { path: PathBuf },
    #[error("examine log file {}", path.display())]
    Examine { path: PathBuf, source: Errno },
}

/// Opens `target` for appending, making it and the directories above it when they are missing.
///
/// # Errors
/// Names the path and the step that failed.
pub(crate) fn open_log(target: &LogTarget) -> Result<OwnedFd, OpenLogError> {
    let (parents, name) = split(&target.path)?;
    // The log directory itself is the caller's word and may contain symbolic links (/var/log often is one).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = open(&target.directory, flags, Mode::empty()).map_err(|source| OpenLogError::Directory {
        directory: target.directory.clone(),
        source,
    })?;
    let mut so_far = target.directory.clone();
    for parent in parents {
        so_far.push(parent);
        directory = enter(directory.as_fd(), parent, &so_far)?;
    }
    let path = so_far.join(name);
    // O_NONBLOCK: a FIFO put here must not hold the opening up; it makes no difference to a regular file.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(&directory, name, flags | OFlags::NONBLOCK, FILE_MODE, BENEATH) {
        Ok(file) => file,
        // A FIFO that nobody reads.
        Err(Errno::NXIO) => return Err(OpenLogError::NotRegular { path }),
        Err(source) => return Err(OpenLogError::File { path, source }),
    };
    let examine = |source| OpenLogError::Examine {
        path: path.clone(),
        source,
    };
    if FileType::from_raw_mode(fstat(&file).map_err(examine)?.st_mode) != FileType::RegularFile {
        return Err(OpenLogError::NotRegular { path });
    }
    fcntl_setfl(&file, OFlags::APPEND).map_err(examine)?;
    Ok(file)
}

/// Opens the directory `name` beneath `above`, making it when it is missing.
fn enter(above: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<OwnedFd, OpenLogError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let step = || openat2(above, name, flags, Mode::empty(), BENEATH);
    let opened = match step() {
        Err(Errno::NOENT) => {
            match mkdirat(above, name, DIRECTORY_MODE) {
                // Another container of the pod may have made it meanwhile.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(source) => {
                    return Err(OpenLogError::MakeParent {
                        path: shown.to_owned(),
                        source,
                    });
                }
            }
            step()
        }
        other => other,
    };
    opened.map_err(|source| OpenLogError::Parent {
        path: shown.to_owned(),
        source,
    })
}

/// The directories and the file name of a relative path without `.` and `..`.
fn split(path: &Path) -> Result<(Vec<&OsStr>, &OsStr), OpenLogError> {
    let refuse = || OpenLogError::Path { path: path.to_owned() };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            // `a/./b` is `a/b`; components() keeps only a leading `.`.
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    let name = names.pop().ok_or_else(refuse)?;
    Ok((names, name))
}

#[cfg(test)]
mod tests;
