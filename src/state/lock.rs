//! One daemon per `root`: a lock on a file in it, which also tells who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StateError;

/// The lock file beside the database. It is never removed: a removed name could be locked twice.
const FILE: &str = "lock";

/// Takes the lock; it is held as long as the file is open. The kernel drops it with the process, however that ends.
pub(super) fn hold(dir: &Path) -> Result<File, StateError> {
    let path = dir.join(FILE);
    let failed = |source| StateError::Lock {
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
            return Err(StateError::Locked {
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
pub(super) fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
