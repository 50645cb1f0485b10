//! The database's file, as the database library wants it: blocks are really allocated when the file grows, and a
//! failed sync is remembered.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Set for good once the disk failed to keep what it had accepted.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncFailed(Arc<AtomicBool>);

impl SyncFailed {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A file whose length is always backed by blocks: a full disk shows when it grows, before anything of a
/// transaction is written, and never in the middle of one or at its sync.
pub(super) struct DatabaseFile {
    file: File,
    sync_failed: SyncFailed,
}

impl DatabaseFile {
    /// Opens or makes it, 0600.
    pub(super) fn open(path: &Path, sync_failed: SyncFailed) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self { file, sync_failed })
    }
}

impl fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseFile").finish_non_exhaustive()
    }
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.len()?;
        if len <= old {
            return self.file.set_len(len);
        }
        match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
            Ok(()) => Ok(()),
            // Some file systems cannot; there the disk may be found full later, as with any other program.
            Err(Errno::OPNOTSUPP) => self.file.set_len(len),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file
            .sync_data()
            .inspect_err(|_| self.sync_failed.0.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
