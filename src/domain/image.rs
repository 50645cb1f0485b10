//! Images: immutable layered packages with tags and digests (CRI contract §9).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;

/// A SHA-256 digest `sha256:` + 64 lowercase hexadecimal digits. Only well-formed ones exist, so it may become a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The text is not a digest that we can verify.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a digest: expected sha256: and 64 lowercase hexadecimal digits")]
pub struct InvalidDigest(pub String);

impl Digest {
    /// From the 32 bytes of a finished hash.
    #[must_use]
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// `sha256:…`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        // Long input is quoted shortened: it may be a hostile 10 kB.
        let invalid = || InvalidDigest(text.chars().take(100).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let well_formed = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid())
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Digest of an image's configuration: the image's identity everywhere (contract §9.1).
pub type ImageId = Digest;

/// Digest of a layer's uncompressed tar.
pub type DiffId = Digest;

/// Credentials of a request (CRI `AuthConfig`), for the registry they name. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User for basic auth.
    pub username: String,
    /// Its password.
    pub password: String,
    /// base64 of `user:password`.
    pub auth: String,
    /// The host these are for; empty is any.
    pub server_address: String,
    /// OAuth refresh token.
    pub identity_token: String,
    /// Bearer token to send as it is.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// What the image's configuration says about running it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `USER`, unparsed.
    pub user: String,
    /// Environment, `KEY=value`.
    pub env: Vec<String>,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Cmd.
    pub cmd: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Declared volumes.
    pub volumes: BTreeSet<String>,
    /// Stop signal, by name or number.
    pub stop_signal: String,
    /// Labels: data of the image's author, never ours to act on (CVE-2026-53488).
    pub labels: BTreeMap<String, String>,
}

/// A layer that is on disk, whole and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of its uncompressed tar; its identity.
    pub diff_id: DiffId,
    /// Directory name below the layer store; short, because overlay options are (house §8).
    pub dir: String,
    /// Bytes it takes on disk.
    pub bytes: u64,
    /// Inodes it takes.
    pub inodes: u64,
}

/// The original descriptor of a layer, kept so that an image stays portable (house decision 16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescriptor {
    /// Media type, as in the manifest.
    pub media_type: String,
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Size of the compressed blob in bytes.
    pub size: u64,
}

/// An image that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Full references with tag, `registry/repository:tag`.
    pub tags: BTreeSet<String>,
    /// `registry/repository@sha256:…`, one for each repository it was pulled from.
    pub digests: BTreeSet<String>,
    /// Layers, lowest first.
    pub layers: Vec<DiffId>,
    /// Their descriptors, in the same order.
    pub descriptors: Vec<LayerDescriptor>,
    /// What it says about running it.
    pub config: ImageConfig,
    /// Bytes on disk of its layers and documents; what removing it may free.
    pub size: u64,
    /// Configuration, byte for byte.
    pub config_json: Vec<u8>,
    /// Manifest, byte for byte.
    pub manifest_json: Vec<u8>,
    /// Index the manifest came from, byte for byte, if any.
    pub index_json: Option<Vec<u8>>,
    /// When it was first recorded here.
    pub pulled_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_sha256_digest() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<Digest>().unwrap().hex().len(), 64);
        for text in [
            "",
            "sha256:",
            "sha512:aa",
            &good.to_uppercase(),
            &good.replace("sha256:", "sha256:/"),
            &format!("{good}0"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
