//! Layers to root file systems: one writable directory per container, and the overlay mount that the shim makes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::base::fs::FsError;
use crate::base::id::ContainerId;
use crate::domain::mount::FsMount;
use crate::domain::stats::Usage;

use usage::Meter;

mod merged;
mod overlay;
mod usage;

/// Why a snapshot operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store's directory can't be used.
    #[error("prepare the directory of writable layers")]
    Open {
        /// Why not.
        source: FsError,
    },
    /// A path that mount options can't carry.
    #[error("{} can't be part of an overlay: its path has one of : , \\ or is not UTF-8; move root elsewhere", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A step on a file failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the image is larger than its reader accepts.
    #[error("{} of the image has more than {limit} bytes, which is refused; build the image with a smaller one", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
    /// A file of the image can't be reached because of symbolic links.
    #[error("{} of the image leads through more than 40 symbolic links; build the image without the loop", path.display())]
    Loop {
        /// The file.
        path: PathBuf,
    },
    /// The thread that worked on it ended; only at the daemon's end, or by a fault of ours.
    #[error("the work on {} was cut off; try again", path.display())]
    CutOff {
        /// What was worked on.
        path: PathBuf,
    },
}

impl SnapshotError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether the disk is full: there is something that a client may do.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Open { .. } | Self::Path { .. } | Self::TooBig { .. } | Self::Loop { .. } | Self::CutOff { .. } => {
                false
            }
        }
    }
}

/// The driver: `<root>/<container id>/{upper,work}`.
#[derive(Debug)]
pub struct Snapshots {
    root: PathBuf,
    meter: Arc<Meter>,
}

impl Snapshots {
    /// Opens the store in the directory `root`.
    ///
    /// # Errors
    /// Its directory cannot be made.
    pub fn open(root: PathBuf) -> Result<Self, SnapshotError> {
        crate::base::fs::private_dir(&root, 0o700).map_err(|source| SnapshotError::Open { source })?;
        overlay::check_path(&root)?;
        Ok(Self {
            meter: Meter::of(root.clone()),
            root,
        })
    }

    /// Makes the writable layer; returns what the shim is to mount as the root, `volatile`. `layers` are lowest first;
    /// one that is there twice counts where it is highest.
    ///
    /// # Errors
    /// Directories cannot be made.
    pub async fn prepare(&self, id: &ContainerId, layers: &[PathBuf]) -> Result<FsMount, SnapshotError> {
        // Some mkdirs on the disk that pulls write to: they may wait for its journal.
        let (dir, layers) = (self.root.join(id.as_str()), layers.to_vec());
        let at = dir.clone();
        spawn_blocking(move || overlay::prepare(&at, &layers))
            .await
            .map_err(|_| SnapshotError::CutOff { path: dir })?
    }

    /// Reads a regular file of at most `limit` bytes from an image's merged view (`layers` lowest first), symlinks
    /// resolved inside of it (never blocking on a fifo, never leaving the root). `None` if it is not there or no
    /// regular file.
    ///
    /// # Errors
    /// It is too big or unreadable.
    pub async fn read_file(
        &self,
        layers: &[PathBuf],
        path: &Path,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, SnapshotError> {
        let (layers, file) = (layers.to_vec(), path.to_owned());
        spawn_blocking(move || merged::read_file(&layers, &file, limit))
            .await
            .map_err(|_| SnapshotError::CutOff { path: path.to_owned() })?
    }

    /// Removes the writable layer; at once gone by name, its files in the background. One that is gone is fine.
    ///
    /// # Errors
    /// It cannot be renamed away.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), SnapshotError> {
        self.meter.forget(id);
        let (root, name) = (self.root.clone(), id.to_string());
        let renamed = spawn_blocking(move || overlay::rename_away(&root, &name)).await;
        let renamed = renamed.map_err(|_| SnapshotError::CutOff {
            path: self.root.join(id.as_str()),
        })?;
        if let Some(gone) = renamed? {
            drop(spawn_blocking(move || overlay::remove_gone(&gone)));
        }
        Ok(())
    }

    /// At start: removes every writable layer whose container is not in `keep`, and what was half removed. The names
    /// are gone when it returns, the files soon after.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn sweep(&self, keep: &[ContainerId]) -> Result<(), SnapshotError> {
        let gone = overlay::sweep(&self.root, keep)?;
        if !gone.is_empty() {
            drop(spawn_blocking(move || {
                gone.iter().for_each(|path| overlay::remove_gone(path))
            }));
        }
        Ok(())
    }

    /// Last measured use; measured in the background (every 10 s or on first ask), never in the call.
    #[must_use]
    pub fn usage(&self, id: &ContainerId) -> Usage {
        self.meter.usage(id)
    }

    /// Directory the writable layers are on.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests;
