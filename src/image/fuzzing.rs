//! Doors of this room for the fuzz targets below `tests/fuzz`; in no other build.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::manifest::{self, Compression, Found, Platform};
use super::reference::Reference;
use super::unpack::{self, Budget, Order};
use super::{hosts, registry, verify};

/// A document of a registry: index, manifest or, with `layers` of them, configuration.
pub fn document(bytes: &[u8], layers: u8) {
    let host = Platform::host();
    if let Ok(Found::Index(index)) = manifest::parse(bytes, "", None) {
        let _chosen = index.choose(&host);
    }
    let _config = manifest::config(bytes, layers.into(), &host);
}

/// A `WWW-Authenticate` header.
pub fn challenge(header: &str) {
    let _challenges = registry::challenge::parse(header);
}

/// A hosts.toml, found below `config_dir`.
pub fn hosts(config_dir: &Path, reference: &Reference) {
    let _endpoints = hosts::endpoints(config_dir, reference);
}

/// A layer, whose digests are made to fit, unpacked into an empty directory.
pub fn layer(bytes: &[u8], root: BorrowedFd<'_>) {
    let digest = verify::digest_of(bytes);
    let order = Order {
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        compression: Compression::None,
        diff_id: digest.clone(),
        digest,
    };
    let _unpacked = unpack::layer(bytes, root, &order, &Budget::default());
}
