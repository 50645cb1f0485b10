//! Manifests, indexes and configurations: what a registry says an image is, read within limits and without guessing.
//!
//! Pure: bytes in, values out. A document that could be two things is neither (CVE-2021-41190).

use std::collections::BTreeSet;

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::image::{DiffId, Digest, ImageConfig, LayerDescriptor};

/// Most nested braces and brackets (yardstick R2).
const MAX_DEPTH: usize = 64;
/// Most layers of an image (yardstick R2).
const MAX_LAYERS: usize = 512;
/// Most entries of an index (yardstick R2).
const MAX_MANIFESTS: usize = 4096;
/// Most volumes that a configuration may declare (yardstick C2).
const MAX_VOLUMES: usize = 256;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a document fetched from `manifests/` turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// A list of manifests for platforms.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// A reference from one document to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Media type that the target must have.
    pub(super) media_type: String,
    /// Digest of its bytes.
    pub(super) digest: Digest,
    /// Their number.
    pub(super) size: u64,
}

/// An index.
#[derive(Debug)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    link: Link,
    /// `None` where the index does not say.
    platform: Option<Platform>,
    /// Such as attestations: not there to be run.
    is_image: bool,
}

/// An operating system and CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

/// A manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The configuration.
    pub(super) config: Link,
    /// Layers, lowest first, with how they are compressed.
    pub(super) layers: Vec<(LayerDescriptor, Compression)>,
}

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

/// A configuration, checked against its manifest and this host.
#[derive(Debug)]
pub(super) struct Config {
    /// Digests of the layers' tars, lowest first.
    pub(super) diff_ids: Vec<DiffId>,
    /// What it says about running.
    pub(super) image: ImageConfig,
}

/// A document is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON as we accept it.
    #[error("it is no acceptable JSON: {reason}")]
    Json {
        /// What is wrong.
        reason: &'static str,
    },
    /// JSON, but not of this document.
    #[error("it does not have the fields it must have")]
    Shape {
        /// Which.
        source: serde_json::Error,
    },
    /// Its kind is unknown.
    #[error("its media type {media_type:?} is not supported; supported are OCI and Docker schema 2 images and indexes")]
    MediaType {
        /// The type, shortened.
        media_type: String,
    },
    /// It claims two kinds.
    #[error("it is ambiguous: {reason}; have it built and pushed again")]
    Ambiguous {
        /// How.
        reason: &'static str,
    },
    /// Docker's schema 1.
    #[error("it is in Docker's schema 1, which is not supported; push it again with a current tool")]
    SchemaOne,
    /// Not an image: an artifact.
    #[error("its configuration has media type {media_type:?}: it is an artifact and no image that can run")]
    Artifact {
        /// The type, shortened.
        media_type: String,
    },
    /// A layer of a kind we can't unpack.
    #[error("layer {digest} has media type {media_type:?}, which is not supported; supported are tar, gzip and zstd")]
    Layer {
        /// The layer.
        digest: Digest,
        /// The type, shortened.
        media_type: String,
    },
    /// A digest or size that can't be.
    #[error("it refers to content by {value:?}, which is no sha256 digest")]
    Digest {
        /// What it has.
        value: String,
    },
    /// Too many entries.
    #[error("it has {count} {what}, more than the {limit} that are supported")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Layers and diff ids differ in number.
    #[error("its manifest has {layers} layers but its configuration {diff_ids} diff ids")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// Nothing for this machine.
    #[error(
        "it has nothing for {wanted}; it has {offered}. Push an image for this platform, or run the pod on another node"
    )]
    NoPlatform {
        /// What this machine is.
        wanted: String,
        /// What there is.
        offered: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    media_type: Option<String>,
    schema_version: Option<u64>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

/// Reads a manifest or index. `content_type` is what the transport said, `expected` what the document that led here
/// says it must be.
///
/// # Errors
/// See [`ManifestError`].
pub(super) fn parse(bytes: &[u8], content_type: &str, expected: Option<&str>) -> Result<Found, ManifestError> {
    check_json(bytes)?;
    let probe: Probe = shaped(bytes)?;
    if probe.fs_layers.is_some() || probe.schema_version == Some(1) {
        return Err(ManifestError::SchemaOne);
    }
    let is_index = probe.manifests.is_some();
    if is_index && (probe.layers.is_some() || probe.config.is_some()) {
        return Err(ManifestError::Ambiguous {
            reason: "it has both manifests and layers or a configuration",
        });
    }
    // Servers of static files don't know the type; then the document's own word counts.
    let neutral = matches!(
        content_type,
        "" | "application/json" | "application/octet-stream" | "text/plain"
    );
    let said = [
        (!neutral).then_some(content_type),
        expected,
        probe.media_type.as_deref(),
    ];
    let mut kinds = BTreeSet::new();
    for media_type in said.into_iter().flatten() {
        kinds.insert(is_index_type(media_type)?);
    }
    match (kinds.len(), kinds.contains(&is_index)) {
        (0, _) => Err(ManifestError::MediaType {
            media_type: content_type.to_owned(),
        }),
        (1, true) if is_index => index(bytes).map(Found::Index),
        (1, true) => manifest(bytes).map(Found::Manifest),
        (_, _) => Err(ManifestError::Ambiguous {
            reason: "its media types and its fields disagree",
        }),
    }
}

fn is_index_type(media_type: &str) -> Result<bool, ManifestError> {
    match media_type {
        OCI_INDEX | DOCKER_INDEX => Ok(true),
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(false),
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Err(ManifestError::SchemaOne),
        other => Err(ManifestError::MediaType {
            media_type: shortened(other),
        }),
    }
}

fn index(bytes: &[u8]) -> Result<Index, ManifestError> {
    let index: ImageIndex = shaped(bytes)?;
    at_most("manifests", index.manifests().len(), MAX_MANIFESTS)?;
    let entries = index.manifests().iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Index { entries })
}

fn entry(descriptor: &Descriptor) -> Result<Entry, ManifestError> {
    let attests = descriptor
        .annotations()
        .as_ref()
        .is_some_and(|notes| notes.contains_key("vnd.docker.reference.type"));
    let platform = descriptor.platform().as_ref().map(|platform| Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone().unwrap_or_default(),
    });
    let link = link(descriptor)?;
    Ok(Entry {
        is_image: !attests && is_index_type(&link.media_type).is_ok(),
        link,
        platform,
    })
}

fn link(descriptor: &Descriptor) -> Result<Link, ManifestError> {
    let text = descriptor.digest().to_string();
    let digest = text.parse().map_err(|_| ManifestError::Digest {
        value: shortened(&text),
    })?;
    Ok(Link {
        media_type: descriptor.media_type().to_string(),
        digest,
        size: descriptor.size(),
    })
}

fn manifest(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let manifest: ImageManifest = shaped(bytes)?;
    at_most("layers", manifest.layers().len(), MAX_LAYERS)?;
    let config = link(manifest.config())?;
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        return Err(ManifestError::Artifact {
            media_type: shortened(&config.media_type),
        });
    }
    let layers = manifest.layers().iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest { config, layers })
}

fn layer(descriptor: &Descriptor) -> Result<(LayerDescriptor, Compression), ManifestError> {
    let Link {
        media_type,
        digest,
        size,
    } = link(descriptor)?;
    let compression = match media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
        other => {
            let media_type = shortened(other);
            return Err(ManifestError::Layer { digest, media_type });
        }
    };
    let descriptor = LayerDescriptor {
        media_type,
        digest,
        size,
    };
    Ok((descriptor, compression))
}

impl Index {
    /// The entry for `host`: the best variant of its architecture, the first of equals.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn choose(&self, host: &Platform) -> Result<&Link, ManifestError> {
        let ranked = self.entries.iter().filter(|entry| entry.is_image).filter_map(|entry| {
            let rank = match &entry.platform {
                Some(platform) => host.runs(platform)?,
                // It may be for us; its configuration will tell.
                None => usize::MAX,
            };
            Some((rank, &entry.link))
        });
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, link)| link)
            .ok_or_else(|| ManifestError::NoPlatform {
                wanted: host.to_string(),
                offered: self.offered(),
            })
    }

    fn offered(&self) -> String {
        const SHOWN: usize = 12;
        let platforms: BTreeSet<String> = self
            .entries
            .iter()
            .filter(|entry| entry.is_image)
            .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
            .collect();
        if platforms.is_empty() {
            return "no image at all".to_owned();
        }
        let shown: Vec<_> = platforms.into_iter().take(SHOWN).map(|text| shortened(&text)).collect();
        shown.join(", ")
    }
}

impl Platform {
    /// This machine's, in the names that images use (Go's).
    pub(super) fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", "v1"),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// How well `image` runs here, 0 is best; `None` if it does not.
    fn runs(&self, image: &Self) -> Option<usize> {
        if image.os != self.os || image.architecture != self.architecture {
            return None;
        }
        // An arm CPU of version 7 runs code for 6 and 5 as well.
        let variants: &[&str] = match self.architecture.as_str() {
            "arm" => &["v7", "", "v6", "v5"],
            "arm64" => &["v8", ""],
            "amd64" => &["v1", ""],
            _ => &[""],
        };
        variants.iter().position(|variant| *variant == image.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

/// Reads a configuration and checks it against the number of layers of its manifest and against `host`.
///
/// # Errors
/// See [`ManifestError`].
pub(super) fn config(bytes: &[u8], layers: usize, host: &Platform) -> Result<Config, ManifestError> {
    check_json(bytes)?;
    let document: ImageConfiguration = shaped(bytes)?;
    let other_system = *document.os() != Os::Linux && !document.os().to_string().is_empty();
    let ours = Arch::from(host.architecture.as_str());
    let other_cpu = *document.architecture() != ours && !document.architecture().to_string().is_empty();
    if other_system || other_cpu {
        return Err(ManifestError::NoPlatform {
            wanted: format!("{}/{}", host.os, host.architecture),
            offered: shortened(&format!("{}/{}", document.os(), document.architecture())),
        });
    }
    let diff_ids = document.rootfs().diff_ids();
    if diff_ids.len() != layers {
        return Err(ManifestError::Layers {
            layers,
            diff_ids: diff_ids.len(),
        });
    }
    let parse = |text: &String| {
        text.parse()
            .map_err(|_| ManifestError::Digest { value: shortened(text) })
    };
    Ok(Config {
        diff_ids: diff_ids.iter().map(parse).collect::<Result<_, _>>()?,
        image: run_config(&document)?,
    })
}

fn run_config(document: &ImageConfiguration) -> Result<ImageConfig, ManifestError> {
    let Some(config) = document.config() else {
        return Ok(ImageConfig::default());
    };
    let volumes = config.volumes().clone().unwrap_or_default();
    at_most("volumes", volumes.len(), MAX_VOLUMES)?;
    // CVE-2026-57231: an entry without a value must never be taken from anybody's environment.
    let env = config.env().iter().flatten().filter(|entry| {
        let named = entry.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        named && !entry.contains('\0')
    });
    Ok(ImageConfig {
        user: config.user().clone().unwrap_or_default(),
        env: env.cloned().collect(),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        volumes: volumes.into_iter().collect(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
        labels: config.labels().clone().unwrap_or_default().into_iter().collect(),
    })
}

fn shaped<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|source| ManifestError::Shape { source })
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count > limit {
        return Err(ManifestError::TooMany { what, count, limit });
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// UTF-8 without a byte order mark, not nested deeper than documents of this kind ever are.
fn check_json(bytes: &[u8]) -> Result<(), ManifestError> {
    let json = |reason| Err(ManifestError::Json { reason });
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return json("it starts with a byte order mark");
    }
    if std::str::from_utf8(bytes).is_err() {
        return json("it is not UTF-8");
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return json("it is nested too deeply");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
