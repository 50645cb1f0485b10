//! The narrow boundary of house decision 11: the bytes of one layer in, its files out, beneath one directory.
//!
//! Everything that parses what a registry sent lies behind [`layer`], which knows no network, no store and no clock,
//! takes a reader and a directory descriptor, and could run confined. Two threads: one hashes and inflates, the
//! calling one hashes the tar and writes.

use std::io::BufRead;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::domain::image::{DiffId, Digest};

use super::manifest::Compression;
use super::verify::Measured;

mod entry;
pub(super) mod error;
mod inflate;
mod number;
mod pax;
mod resolve;
mod tree;
mod whiteout;
mod xattr;

use error::UnpackError;

/// What a layer has to be.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Digest of the bytes that come.
    pub(super) digest: Digest,
    /// Their number.
    pub(super) size: u64,
    /// How they are packed.
    pub(super) compression: Compression,
    /// Digest of the tar in them.
    pub(super) diff_id: DiffId,
}

/// What an image may still take, over all its layers (yardstick L14).
#[derive(Debug)]
pub(super) struct Budget {
    bytes: AtomicU64,
    inodes: AtomicU64,
}

/// Most bytes of an image on disk.
const MAX_IMAGE_BYTES: u64 = 128 << 30;
/// Most inodes of an image.
const MAX_IMAGE_INODES: u64 = 8_000_000;

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(MAX_IMAGE_BYTES),
            inodes: AtomicU64::new(MAX_IMAGE_INODES),
        }
    }
}

impl Budget {
    fn take(from: &AtomicU64, amount: u64, what: &'static str) -> Result<(), UnpackError> {
        from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount))
            .map(|_| ())
            .map_err(|_| UnpackError::TooMuch { what })
    }

    fn bytes(&self, amount: u64) -> Result<(), UnpackError> {
        Self::take(&self.bytes, amount, "bytes")
    }

    fn inode(&self) -> Result<(), UnpackError> {
        Self::take(&self.inodes, 1, "files")
    }
}

/// What a layer takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Bytes, in whole blocks of 4 KiB.
    pub(super) bytes: u64,
    /// Inodes.
    pub(super) inodes: u64,
}

/// Unpacks the layer that `source` gives into the empty directory `root`, checking size, digest and diff id.
///
/// # Errors
/// The bytes are not what `order` says, the archive is refused, or the disk fails. What was written so far is left for
/// the caller to remove.
pub(super) fn layer<R: BufRead + Send>(
    source: R,
    root: BorrowedFd<'_>,
    order: &Order,
    budget: &Budget,
) -> Result<Unpacked, UnpackError> {
    let (feed, inflated) = inflate::channel();
    // Set when the bytes' own digest can't matter any more: the disk failed, not the archive.
    let abandoned = AtomicBool::new(false);
    thread::scope(|scope| {
        let inflater = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, || inflate::run(source, order, feed, &abandoned))
            .map_err(|source| UnpackError::Thread { source })?;
        let mut tar = Measured::new(inflated, u64::MAX);
        let unpacked = tree::unpack(&mut tar, root, budget);
        if unpacked.as_ref().is_err_and(|error| !error.is_of_content()) {
            abandoned.store(true, Ordering::Relaxed);
        }
        let drained = unpacked.and_then(|unpacked| {
            // Whatever follows the archive's end belongs to its digest, not to the archive (yardstick L15).
            tar.drain().map_err(|source| UnpackError::Read { source })?;
            Ok(unpacked)
        });
        let diff_id = tar.digest();
        let sent = inflater.join().unwrap_or(Err(UnpackError::Panicked));
        match drained {
            Err(error) if !error.is_of_content() => Err(error),
            // Wrong bytes explain everything that came of them.
            drained => sent.and(drained),
        }
        .and_then(|unpacked| {
            if diff_id == order.diff_id {
                Ok(unpacked)
            } else {
                Err(UnpackError::DiffId {
                    expected: order.diff_id.clone(),
                    found: diff_id,
                })
            }
        })
    })
}

#[cfg(test)]
mod tests;
