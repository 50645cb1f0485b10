//! Registries in, verified layers out. Knows nothing of records, snapshots or containers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::domain::image::{Credentials, DiffId, Digest, ImageConfig, Layer, LayerDescriptor};

use content::Content;
use error::PullError;
use pull::Pull;
use reference::Reference;
use registry::client::Clients;
use registry::{Session, Target};

mod auth;
mod content;
pub mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hosts;
mod manifest;
mod pull;
pub mod reference;
mod registry;
mod unpack;
mod verify;

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
    content: Arc<Content>,
    clients: Clients,
    slots: Arc<Semaphore>,
}

/// Which layers are there already.
pub trait KnownLayers: Send + Sync {
    /// The layer with this diff id, if it is recorded.
    fn layer(&self, diff_id: &DiffId) -> Option<Layer>;
}

impl Puller {
    /// Opens the stores; makes their directories.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(config: Config) -> Result<Self, PullError> {
        // TLS needs a provider of cryptography, once per process; another one that is there already is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        Ok(Self {
            content: Content::open(config.layers.clone(), config.ingest.clone())?,
            clients: Clients::default(),
            slots: Arc::new(Semaphore::new(config.max_concurrent_layers.max(1))),
            config,
        })
    }

    /// Fetches `reference` (any form a user may write) unless its layers are known. What it leaves on failure is only
    /// what [`Puller::sweep`] removes; a failed or dropped pull removes it itself as soon as its threads notice.
    ///
    /// The layers it returns stay until [`Puller::remove_layer`], even one called meanwhile for the same directory.
    ///
    /// # Errors
    /// Names the registry, repository or layer and what to do.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<Credentials>,
        known: &dyn KnownLayers,
    ) -> Result<Pulled, PullError> {
        let reference: Reference = reference.parse()?;
        let target = Target {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            login: auth::login(auth.as_ref(), &reference)?,
        };
        let mut sessions = Vec::new();
        for endpoint in hosts::endpoints(&self.config.config_dir, &reference)? {
            let session = Session::new(endpoint, &target, &self.clients);
            let session = session.map_err(|source| PullError::Registry {
                image: reference.to_string(),
                source,
            })?;
            sessions.push(Arc::new(session));
        }
        let pull = Pull {
            reference,
            sessions,
            content: Arc::clone(&self.content),
            slots: Arc::clone(&self.slots),
        };
        pull.run(known).await
    }

    /// Where a layer's files are.
    #[must_use]
    pub fn layer_path(&self, layer: &Layer) -> PathBuf {
        self.config.layers.join(&layer.dir)
    }

    /// Removes a layer's directory in the background, at once invisible (renamed away first). One that a pull in
    /// flight uses stays if that pull succeeds, which returns it again. One that is gone already is fine.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub async fn remove_layer(&self, dir: &str) -> Result<(), PullError> {
        self.content.give_up(dir)
    }

    /// At start: removes layers that `keep` does not know and everything in flight or half removed.
    ///
    /// # Errors
    /// The directories cannot be read.
    pub async fn sweep(&self, keep: &[Layer]) -> Result<(), PullError> {
        self.content.sweep(keep)
    }

    /// Directory for ImageFsInfo's mount point.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.config.layers
    }
}

#[cfg(test)]
mod tests;
