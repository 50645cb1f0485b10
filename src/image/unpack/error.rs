//! Why a layer was not unpacked.

use std::io;

use crate::domain::image::{DiffId, Digest};
use crate::image::error::{PullErrorKind, is_full};

/// A layer was not unpacked. Entry names are escaped: they are the image's.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not as many bytes as the manifest says.
    #[error("it should have {expected} bytes but {found} came; it is damaged at the registry, push it again")]
    Size {
        /// In the manifest.
        expected: u64,
        /// How many came, or `more`.
        found: String,
    },
    /// Not the bytes the manifest names.
    #[error("its bytes have digest {found}; it is damaged at the registry or forged, push it again")]
    Digest {
        /// What came.
        found: Digest,
    },
    /// Not the tar the configuration names.
    #[error("its tar has digest {found} but the image's configuration says {expected}; build and push the image again")]
    DiffId {
        /// In the configuration.
        expected: DiffId,
        /// What came.
        found: DiffId,
    },
    /// It can't be decompressed.
    #[error("decompress it as {format}; build and push the image again")]
    Inflate {
        /// How its media type says it is compressed.
        format: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It is packed otherwise than its media type says.
    #[error("its media type says {said} but its bytes are {found}; push it again with the right type")]
    Mislabelled {
        /// By the media type.
        said: &'static str,
        /// By its first bytes.
        found: &'static str,
    },
    /// It is no proper tar.
    #[error("its tar is malformed: {reason}; build and push the image again")]
    Archive {
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry that must not be.
    #[error("its entry {entry} is refused: {reason}")]
    Refused {
        /// Name of the entry, escaped and shortened.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry that we can't unpack.
    #[error("its entry {entry} is not supported: {reason}; build the image without it")]
    Unsupported {
        /// Name of the entry, escaped and shortened.
        entry: String,
        /// What it is.
        reason: &'static str,
    },
    /// An image that would take too much.
    #[error("the image has more {what} than any image may have here; it may be a decompression bomb")]
    TooMuch {
        /// Of what.
        what: &'static str,
    },
    /// The file system of the store would be full.
    #[error("the image store's file system has only {free} MiB left; free space or move root to a larger one")]
    NoSpace {
        /// MiB left.
        free: u64,
    },
    /// A file could not be made.
    #[error("{doing} {entry}")]
    Write {
        /// What was being done.
        doing: &'static str,
        /// Name of the entry, escaped and shortened.
        entry: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The stream broke.
    #[error("read its bytes")]
    Read {
        /// How.
        source: io::Error,
    },
    /// No thread to inflate on.
    #[error("start a thread to decompress it")]
    Thread {
        /// Why not.
        source: io::Error,
    },
    /// A fault of ours while it was decompressed.
    #[error("decompressing it failed in a way it must not; report this with the image's name")]
    Panicked,
}

impl UnpackError {
    /// Whether the layer's own bytes are to blame, and not this machine.
    pub(super) fn is_of_content(&self) -> bool {
        match self {
            Self::Size { .. }
            | Self::Digest { .. }
            | Self::DiffId { .. }
            | Self::Inflate { .. }
            | Self::Mislabelled { .. }
            | Self::Archive { .. }
            | Self::Refused { .. }
            | Self::Unsupported { .. }
            | Self::TooMuch { .. } => true,
            Self::NoSpace { .. } | Self::Write { .. } | Self::Read { .. } | Self::Thread { .. } | Self::Panicked => {
                false
            }
        }
    }

    /// Whether other bytes came than were asked for, which is the sender's fault and not the image's.
    pub(in crate::image) fn is_of_bytes(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Digest { .. })
    }

    pub(in crate::image) fn kind(&self) -> PullErrorKind {
        match self {
            Self::Unsupported { .. } | Self::Mislabelled { .. } => PullErrorKind::Unsupported,
            Self::NoSpace { .. } => PullErrorKind::DiskFull,
            Self::Write { source, .. } if is_full(source) => PullErrorKind::DiskFull,
            Self::Size { .. }
            | Self::Digest { .. }
            | Self::DiffId { .. }
            | Self::Inflate { .. }
            | Self::Archive { .. }
            | Self::Refused { .. }
            | Self::TooMuch { .. } => PullErrorKind::Corrupt,
            Self::Write { .. } | Self::Read { .. } | Self::Thread { .. } | Self::Panicked => PullErrorKind::LocalIo,
        }
    }
}

/// An entry's name for people: escaped, in quotes, shortened.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 120;
    let escaped = name[..name.len().min(LONGEST)].escape_ascii();
    let dots = if name.len() > LONGEST { "…" } else { "" };
    format!("\"{escaped}{dots}\"")
}
