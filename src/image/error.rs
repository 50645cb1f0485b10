//! Why an image could not be pulled, in sentences for people and kinds for programs.

use std::io;
use std::path::PathBuf;

use crate::domain::image::{DiffId, Digest};

use super::auth::CredentialsError;
use super::hosts::HostsError;
use super::manifest::ManifestError;
use super::reference::InvalidReference;
use super::registry::error::RegistryError;
use super::unpack::error::UnpackError;

/// Why an image could not be pulled, or its layers not kept. Every sentence names thing, reason and remedy.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference can't be read.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The registry's hosts file can't be used.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The credentials can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No configured host may serve this.
    #[error("no host for {registry} has the capability {capability:?}; add it in hosts.toml")]
    NoHost {
        /// The registry.
        registry: String,
        /// What is needed: `resolve` or `pull`.
        capability: &'static str,
    },
    /// The registry did not give it.
    #[error("pull {image}")]
    Registry {
        /// The whole reference.
        image: String,
        /// Why not.
        source: RegistryError,
    },
    /// A manifest, index or configuration is not usable.
    #[error("pull {image}: use {document}")]
    Document {
        /// The whole reference.
        image: String,
        /// Which document: kind and digest.
        document: String,
        /// Why not.
        source: ManifestError,
    },
    /// A document's bytes are not the ones asked for.
    #[error(
        "pull {image}: {host} sent a {kind} that is not {expected} but {found}; it is damaged there or forged, push it again"
    )]
    WrongDocument {
        /// The whole reference.
        image: String,
        /// Who sent it.
        host: String,
        /// Manifest, index or configuration.
        kind: &'static str,
        /// Digest and size it must have.
        expected: String,
        /// What came.
        found: String,
    },
    /// Indexes lead to indexes without end.
    #[error(
        "pull {image}: its indexes are nested more than 4 deep or lead to themselves; push it again with one index"
    )]
    Nesting {
        /// The whole reference.
        image: String,
    },
    /// A layer could not be fetched whole, verified and unpacked.
    #[error("pull {image}: layer {digest}")]
    Layer {
        /// The whole reference.
        image: String,
        /// Digest of the compressed layer.
        digest: Digest,
        /// Why not.
        source: UnpackError,
    },
    /// The layer store can't be used.
    #[error("{doing} {}", path.display())]
    Store {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A layer changed under a pull; only a bug of ours does that.
    #[error("layer {diff_id} was given up by the pull that fetched it; pull again")]
    LayerGone {
        /// The layer.
        diff_id: DiffId,
    },
    /// The daemon is going away.
    #[error("the pull of {image} was cut off by the daemon's end; pull again")]
    Cancelled {
        /// The whole reference.
        image: String,
    },
}

/// What a failed pull means to those who act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullErrorKind {
    /// The request can't be right: reference or credentials malformed.
    Invalid,
    /// hosts.toml or a file it names can't be used.
    Configuration,
    /// No such repository, tag or blob.
    NotFound,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// The registry can't be reached or does not work now.
    RegistryUnavailable,
    /// What came is not what its digest says, or no proper image.
    Corrupt,
    /// There is no image for this machine.
    NoPlatform,
    /// Not an image that we can unpack.
    Unsupported,
    /// No space left.
    DiskFull,
    /// The caller or the daemon went away.
    Cancelled,
    /// This machine's disk or kernel failed us.
    LocalIo,
}

impl PullError {
    /// What it means to those who act on it.
    #[must_use]
    pub fn kind(&self) -> PullErrorKind {
        match self {
            Self::Reference(_) | Self::Credentials(_) => PullErrorKind::Invalid,
            Self::Hosts(_) | Self::NoHost { .. } => PullErrorKind::Configuration,
            Self::Registry { source, .. } => registry_kind(source),
            Self::Document { source, .. } => document_kind(source),
            Self::WrongDocument { .. } | Self::Nesting { .. } => PullErrorKind::Corrupt,
            Self::Layer { source, .. } => source.kind(),
            Self::Store { source, .. } if is_full(source) => PullErrorKind::DiskFull,
            Self::Store { .. } | Self::LayerGone { .. } => PullErrorKind::LocalIo,
            Self::Cancelled { .. } => PullErrorKind::Cancelled,
        }
    }
}

/// Whether an error says that the disk, or our part of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn registry_kind(error: &RegistryError) -> PullErrorKind {
    match error {
        RegistryError::NotFound { .. } => PullErrorKind::NotFound,
        RegistryError::Denied { .. } => PullErrorKind::Unauthorized,
        RegistryError::Unreachable { .. }
        | RegistryError::NoAnswer { .. }
        | RegistryError::Broken { .. }
        | RegistryError::Stalled { .. }
        | RegistryError::Busy { .. }
        | RegistryError::Status { .. }
        | RegistryError::Redirect { .. }
        | RegistryError::Protocol { .. }
        | RegistryError::Realm { .. } => PullErrorKind::RegistryUnavailable,
        RegistryError::TooBig { .. } => PullErrorKind::Corrupt,
        RegistryError::TrustFile { .. } | RegistryError::TrustPem { .. } => PullErrorKind::Configuration,
        RegistryError::Client { .. } => PullErrorKind::LocalIo,
    }
}

fn document_kind(error: &ManifestError) -> PullErrorKind {
    match error {
        ManifestError::Json { .. }
        | ManifestError::Shape { .. }
        | ManifestError::Ambiguous { .. }
        | ManifestError::Digest { .. }
        | ManifestError::TooMany { .. }
        | ManifestError::Layers { .. } => PullErrorKind::Corrupt,
        ManifestError::MediaType { .. }
        | ManifestError::SchemaOne
        | ManifestError::Artifact { .. }
        | ManifestError::Layer { .. } => PullErrorKind::Unsupported,
        ManifestError::NoPlatform { .. } => PullErrorKind::NoPlatform,
    }
}
