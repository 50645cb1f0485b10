//! One daemon per directory: a lock on a file in it, which also tells who holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock file in the directory. It is never removed: a removed name could be locked twice.
pub const FILE: &str = "lock";

/// The lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by another copepod{}", dir.display(), holder(*pid))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who has it, when the lock file tells.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Takes the lock; it is held as long as the file is open. The kernel drops it with the process, however that ends.
///
/// # Errors
/// Another process has it, or the file cannot be used.
pub fn hold(dir: &Path) -> Result<File, LockError> {
    let path = dir.join(FILE);
    let failed = |source| LockError::File {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(LockError::Held {
                dir: dir.to_owned(),
                pid: written_pid(&mut file),
            });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", process::id()))
        .map_err(failed)?;
    Ok(file)
}

/// The pid for an error's text.
#[must_use]
pub fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
