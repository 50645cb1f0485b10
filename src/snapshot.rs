//! Layers to root file systems: one writable directory per container, and the overlay mount that the shim makes.

use std::path::{Path, PathBuf};

use crate::base::id::ContainerId;
use crate::domain::mount::FsMount;

/// Disk use of a writable layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// When it was measured, unix nanoseconds; 0 when it has not been yet.
    pub at: i64,
}

/// Why a snapshot operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {}

/// The driver: `root/snapshots/<container id>/{upper,work}`.
#[derive(Debug)]
pub struct Snapshots {
    root: PathBuf,
}

impl Snapshots {
    /// Opens the store.
    ///
    /// # Errors
    /// Its directory cannot be made.
    pub fn open(root: PathBuf) -> Result<Self, SnapshotError> {
        Ok(Self { root })
    }

    /// Makes the writable layer; returns what the shim is to mount as the root, `volatile`.
    ///
    /// # Errors
    /// Directories cannot be made.
    pub async fn prepare(&self, _id: &ContainerId, _layers: &[PathBuf]) -> Result<FsMount, SnapshotError> {
        todo!()
    }

    /// Reads a regular file of at most `limit` bytes from an image's merged view, symlinks resolved inside of it
    /// (never blocking on a fifo, never leaving the root). `None` if it is not there or no regular file.
    ///
    /// # Errors
    /// It is too big or unreadable.
    pub async fn read_file(
        &self,
        _layers: &[PathBuf],
        _path: &Path,
        _limit: usize,
    ) -> Result<Option<Vec<u8>>, SnapshotError> {
        todo!()
    }

    /// Removes the writable layer; at once gone by name, its files in the background.
    ///
    /// # Errors
    /// It cannot be renamed away.
    pub async fn remove(&self, _id: &ContainerId) -> Result<(), SnapshotError> {
        todo!()
    }

    /// At start: removes every writable layer whose container is not in `keep`, and what was half removed.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn sweep(&self, _keep: &[ContainerId]) -> Result<(), SnapshotError> {
        todo!()
    }

    /// Last measured use; measured in the background (every 10 s or on first ask), never in the call.
    #[must_use]
    pub fn usage(&self, _id: &ContainerId) -> Usage {
        todo!()
    }

    /// Directory the writable layers are on.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.root
    }
}
