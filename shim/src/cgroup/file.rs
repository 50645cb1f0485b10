//! Reading and writing the small files of cgroupfs, with errors that name file and value.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::CgroupError;

/// One thing to write; made by pure code, done by [`write_all`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// File name within the cgroup's directory.
    pub(crate) file: String,
    /// What to write, without a newline.
    pub(crate) value: String,
}

impl Setting {
    pub(crate) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
        }
    }
}

/// Writes settings in order.
pub(crate) fn write_all(dir: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    settings
        .iter()
        .try_for_each(|Setting { file, value }| write(&dir.join(file), value))
}

/// One write(2): cgroupfs takes a whole value at a time.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    try_write(path, value).map_err(|source| CgroupError::Write {
        path: path.into(),
        value: value.into(),
        source,
    })
}

pub(crate) fn try_write(path: &Path, value: &str) -> io::Result<()> {
    // Never O_CREAT: in a cgroup a missing file means a missing controller.
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// The file's content without white space around it.
pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    let text = fs::read_to_string(path).map_err(|source| CgroupError::Read {
        path: path.into(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// As [`read`], with `None` for a file or a cgroup that is not there (any more).
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read(path) {
        Err(CgroupError::Read { source, .. }) if is_gone(&source) => Ok(None),
        other => other.map(Some),
    }
}

/// The errors of a cgroup that was removed: `ENODEV` when its file was open, or is opened just then.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The number after `key` in a file of `key number` lines; 0 without such a line.
pub(crate) fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

/// The cgroup and everything below it, parents first. What vanishes meanwhile is left out.
pub(crate) fn subtree(top: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    // A list and not recursion: how deep it goes is up to the workload.
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        found.push(entry.path());
                    }
                }
            }
            Err(error) if is_gone(&error) => {}
            Err(source) => return Err(CgroupError::Read { path: dir, source }),
        }
    }
    Ok(found)
}
