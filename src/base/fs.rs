//! Small file operations that are atomic or durable by their name. Blocking: callers in async code use them for
//! small files on local disks, or from a blocking task.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The operation on the path failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that must be ours belongs to somebody else.
    #[error("{} belongs to uid {owner}, not to us (uid {us}): give it to us, or configure another directory", path.display())]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective uid.
        us: u32,
    },
}

impl FsError {
    /// For `map_err`: names the operation and the path.
    pub fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// Makes `path` (and its parents, 0755) a directory of ours with exactly `mode`, also when it exists with another:
/// an older version may have left it too open (CVE-2024-25621).
///
/// # Errors
/// It cannot be made or belongs to another user.
pub fn private_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(FsError::io("create", parent))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(FsError::io("create", path))?,
    }
    let owner = fs::metadata(path).map_err(FsError::io("examine", path))?.uid();
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        return Err(FsError::ForeignOwner {
            path: path.to_owned(),
            owner,
            us,
        });
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(FsError::io("set the mode of", path))
}

/// Writes `bytes` to `path` so that a reader sees the old content or the new, never a part. Not durable.
///
/// # Errors
/// The file beside it cannot be written or renamed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    replace(path, bytes, mode, Durability::Atomic)
}

/// As [`write_atomic`], and on disk when it returns.
///
/// # Errors
/// The file beside it cannot be written, synced or renamed, or the directory cannot be synced.
pub fn write_durable(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    replace(path, bytes, mode, Durability::Durable)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(FsError::io("sync", dir))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Atomic,
    Durable,
}

fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<(), FsError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        if durability == Durability::Durable {
            file.sync_all()
        } else {
            Ok(())
        }
    };
    write().map_err(FsError::io("write", &beside))?;
    fs::rename(&beside, path).map_err(FsError::io("rename to", path))
}

/// Removes a file; one that is gone already is fine.
///
/// # Errors
/// It exists and cannot be removed.
pub fn remove_file_if_there(path: &Path) -> Result<(), FsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::io("remove", path)(error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Removes a tree; one that is gone already is fine. Does not follow symbolic links.
///
/// # Errors
/// It exists and cannot be removed.
pub fn remove_tree_if_there(path: &Path) -> Result<(), FsError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FsError::io("remove", path)(error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2024_25621_an_open_directory_is_closed_again() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("state");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        private_dir(&dir, 0o700).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn replaces_whole_and_leaves_nothing_beside() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("record");
        write_atomic(&file, b"one", 0o600).unwrap();
        write_durable(&file, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
