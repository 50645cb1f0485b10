//! Removing cgroups, from the bottom up.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::error::CgroupError;
use super::file;

/// What became of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is not there any more.
    Gone,
    /// Processes are in it, or are still dying.
    Busy,
}

/// Tries each directory once, whatever becomes of the others.
pub(super) fn try_remove<'d>(dirs: impl Iterator<Item = &'d Path>) -> Result<Removal, CgroupError> {
    let mut removal = Removal::Gone;
    let mut failed = None;
    for dir in dirs {
        match remove_tree(dir) {
            Ok(Removal::Gone) => {}
            Ok(Removal::Busy) => removal = Removal::Busy,
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    failed.map_or(Ok(removal), Err)
}

fn remove_tree(dir: &Path) -> Result<Removal, CgroupError> {
    for dir in file::subtree(dir)?.into_iter().rev() {
        match fs::remove_dir(&dir) {
            Ok(()) => {}
            Err(error) if file::is_gone(&error) => {}
            Err(error) if is_busy(&error) => return Ok(Removal::Busy),
            Err(source) => return Err(CgroupError::Remove { path: dir, source }),
        }
    }
    Ok(Removal::Gone)
}

/// `ENOTEMPTY` when a cgroup was made below it just now.
fn is_busy(error: &io::Error) -> bool {
    [Errno::BUSY, Errno::NOTEMPTY].contains(&Errno::from_io_error(error).unwrap_or(Errno::INVAL))
}
