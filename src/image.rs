//! Registries in, verified layers out. Knows nothing of records, snapshots or containers.

use std::path::{Path, PathBuf};

use crate::domain::image::{DiffId, Digest, ImageConfig, Layer, LayerDescriptor};

/// Where images come from and where layers go.
#[derive(Debug, Clone)]
pub struct Config {
    /// A certs.d tree: `<host>/hosts.toml`, read at every pull.
    pub config_dir: PathBuf,
    /// `root/layers`: one directory per layer.
    pub layers: PathBuf,
    /// `root/ingest`: what is in flight.
    pub ingest: PathBuf,
    /// Layers fetched at once, over all pulls.
    pub max_concurrent_layers: usize,
}

/// Credentials of a request (CRI `AuthConfig`), for the registry they name.
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

/// A verified image, its layers on disk and synced.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Digest of the configuration.
    pub id: Digest,
    /// `registry/repository:tag` when pulled by tag.
    pub tag: Option<String>,
    /// `registry/repository@sha256:…` of what the reference resolved to (index or manifest).
    pub digest: String,
    /// Configuration, byte for byte, and what it says.
    pub config_json: Vec<u8>,
    /// What it says about running.
    pub config: ImageConfig,
    /// Manifest, byte for byte.
    pub manifest_json: Vec<u8>,
    /// Index, byte for byte.
    pub index_json: Option<Vec<u8>>,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// Their descriptors, in the same order.
    pub descriptors: Vec<LayerDescriptor>,
}

/// The driver.
#[derive(Debug)]
pub struct Puller {
    config: Config,
}

/// Which layers are there already.
pub trait KnownLayers: Send + Sync {
    /// The layer with this diff id, if it is recorded.
    fn layer(&self, diff_id: &DiffId) -> Option<Layer>;
}

/// Why an image could not be pulled. Real variants live with the code.
#[derive(Debug, thiserror::Error)]
pub enum PullError {}

impl Puller {
    /// Opens the stores; makes their directories.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(config: Config) -> Result<Self, PullError> {
        Ok(Self { config })
    }

    /// Fetches `reference` (any form a user may write) unless its layers are known. What it leaves on failure is only
    /// what [`Puller::sweep`] removes.
    ///
    /// # Errors
    /// Names the registry, repository or layer and what to do.
    pub async fn pull(
        &self,
        _reference: &str,
        _auth: Option<Credentials>,
        _known: &dyn KnownLayers,
    ) -> Result<Pulled, PullError> {
        todo!()
    }

    /// Where a layer's files are.
    #[must_use]
    pub fn layer_path(&self, layer: &Layer) -> PathBuf {
        self.config.layers.join(&layer.dir)
    }

    /// Removes a layer's directory in the background, at once invisible (renamed away first).
    ///
    /// # Errors
    /// It cannot be renamed.
    pub async fn remove_layer(&self, _dir: &str) -> Result<(), PullError> {
        todo!()
    }

    /// At start: removes layers that `keep` does not know and everything in flight or half removed.
    ///
    /// # Errors
    /// The directories cannot be read.
    pub async fn sweep(&self, _keep: &[Layer]) -> Result<(), PullError> {
        todo!()
    }

    /// Directory for ImageFsInfo's mount point.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.config.layers
    }
}
