//! Records as they lie in the database: an envelope with a version around JSON, one shape per kind. The only room that
//! knows them; golden files hold each shape, so that no change to a domain type changes the disk unnoticed.

#[cfg(test)]
pub(in crate::state) mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Change, Intent, StateError};
use crate::base::clock::Timestamp;
use crate::domain::image::{DiffId, Image, ImageConfig, ImageId, LayerDescriptor};

/// Version of the records that this program writes; a higher one is set aside, unread.
pub(super) const VERSION: u32 = 1;

/// A kind of record; each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Container,
    Image,
    Layer,
    Intent,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Pod, Self::Container, Self::Image, Self::Layer, Self::Intent];

    /// Name of the table.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Container => "containers",
            Self::Image => "images",
            Self::Layer => "layers",
            Self::Intent => "intents",
        }
    }
}

/// One change as the database sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) kind: Kind,
    pub(super) key: String,
    /// The record; `None` removes it.
    pub(super) bytes: Option<Vec<u8>>,
}

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("not a record: {0}")]
    Envelope(serde_json::Error),
    #[error("record version {found} is newer than {VERSION}, which this copepod knows")]
    Newer { found: u32 },
    #[error("record version {found} was never written")]
    Unknown { found: u32 },
    #[error("unreadable: {0}")]
    Content(serde_json::Error),
    #[error("it calls itself {key}")]
    Key { key: String },
    #[error("its documents are not base64: {0}")]
    Documents(base64::DecodeError),
}

/// Encodes one change.
pub(super) fn encode(change: &Change) -> Result<Write, StateError> {
    let put = |kind: Kind, key: &str, bytes: Result<Vec<u8>, serde_json::Error>| match bytes {
        Ok(bytes) => Ok(Write {
            kind,
            key: key.to_owned(),
            bytes: Some(bytes),
        }),
        Err(source) => Err(StateError::Encode {
            key: format!("{}/{key}", kind.table()),
            source,
        }),
    };
    let delete = |kind: Kind, key: &str| {
        Ok(Write {
            kind,
            key: key.to_owned(),
            bytes: None,
        })
    };
    match change {
        Change::PutPod(pod) => put(Kind::Pod, pod.id.as_str(), seal(&**pod)),
        Change::DeletePod(id) => delete(Kind::Pod, id.as_str()),
        Change::PutContainer(container) => put(Kind::Container, container.id.as_str(), seal(&**container)),
        Change::DeleteContainer(id) => delete(Kind::Container, id.as_str()),
        Change::PutImage(image) => put(Kind::Image, image.id.as_str(), seal(&ImageRecord::from(&**image))),
        Change::DeleteImage(id) => delete(Kind::Image, id.as_str()),
        Change::PutLayer(layer) => put(Kind::Layer, layer.diff_id.as_str(), seal(layer)),
        Change::DeleteLayer(id) => delete(Kind::Layer, id.as_str()),
        Change::Begin(intent) => put(Kind::Intent, intent_key(intent), seal(&**intent)),
        Change::End(id) => delete(Kind::Intent, id.as_str()),
    }
}

/// Decodes one record into the list of its kind.
///
/// # Errors
/// It is newer, or not what this program writes; `recorded` is unchanged then.
pub(super) fn decode(kind: Kind, key: &str, bytes: &[u8], recorded: &mut super::Recorded) -> Result<(), DecodeError> {
    match kind {
        Kind::Pod => {
            let pod: crate::domain::pod::Pod = unseal(bytes)?;
            same(key, pod.id.as_str())?;
            recorded.pods.push(pod);
        }
        Kind::Container => {
            let container: crate::domain::container::Container = unseal(bytes)?;
            same(key, container.id.as_str())?;
            recorded.containers.push(container);
        }
        Kind::Image => {
            let image = Image::try_from(unseal::<ImageRecord>(bytes)?).map_err(DecodeError::Documents)?;
            same(key, image.id.as_str())?;
            recorded.images.push(image);
        }
        Kind::Layer => {
            let layer: crate::domain::image::Layer = unseal(bytes)?;
            same(key, layer.diff_id.as_str())?;
            recorded.layers.push(layer);
        }
        Kind::Intent => {
            let intent: Intent = unseal(bytes)?;
            same(key, intent_key(&intent))?;
            recorded.intents.push(intent);
        }
    }
    Ok(())
}

fn intent_key(intent: &Intent) -> &str {
    let Intent::RunPod { id, .. } = intent;
    id.as_str()
}

fn same(key: &str, inside: &str) -> Result<(), DecodeError> {
    if key == inside {
        Ok(())
    } else {
        Err(DecodeError::Key { key: inside.to_owned() })
    }
}

/// The envelope. `v` comes first so that a reader meets it before anything that may have changed.
#[derive(Serialize)]
struct Sealed<'a, T> {
    v: u32,
    data: &'a T,
}

#[derive(Deserialize)]
struct SealedVersion {
    v: u32,
}

#[derive(Deserialize)]
struct SealedData<T> {
    data: T,
}

fn seal<T: Serialize>(data: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Sealed { v: VERSION, data })
}

fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let SealedVersion { v } = serde_json::from_slice(bytes).map_err(DecodeError::Envelope)?;
    match v {
        VERSION => serde_json::from_slice::<SealedData<T>>(bytes)
            .map(|sealed| sealed.data)
            .map_err(DecodeError::Content),
        0 => Err(DecodeError::Unknown { found: v }),
        found => Err(DecodeError::Newer { found }),
    }
}

/// An image; its documents are bytes that must come back exactly, and JSON has no bytes: an array of numbers would
/// take three times the room of base64.
#[derive(Serialize, Deserialize)]
struct ImageRecord {
    id: ImageId,
    tags: std::collections::BTreeSet<String>,
    digests: std::collections::BTreeSet<String>,
    layers: Vec<DiffId>,
    descriptors: Vec<LayerDescriptor>,
    config: ImageConfig,
    size: u64,
    config_base64: String,
    manifest_base64: String,
    index_base64: Option<String>,
    pulled_at: Timestamp,
}

impl From<&Image> for ImageRecord {
    fn from(image: &Image) -> Self {
        let Image {
            id,
            tags,
            digests,
            layers,
            descriptors,
            config,
            size,
            config_json,
            manifest_json,
            index_json,
            pulled_at,
        } = image.clone();
        Self {
            id,
            tags,
            digests,
            layers,
            descriptors,
            config,
            size,
            config_base64: BASE64.encode(config_json),
            manifest_base64: BASE64.encode(manifest_json),
            index_base64: index_json.map(|bytes| BASE64.encode(bytes)),
            pulled_at,
        }
    }
}

impl TryFrom<ImageRecord> for Image {
    type Error = base64::DecodeError;

    fn try_from(record: ImageRecord) -> Result<Self, base64::DecodeError> {
        let ImageRecord {
            id,
            tags,
            digests,
            layers,
            descriptors,
            config,
            size,
            config_base64,
            manifest_base64,
            index_base64,
            pulled_at,
        } = record;
        Ok(Self {
            id,
            tags,
            digests,
            layers,
            descriptors,
            config,
            size,
            config_json: BASE64.decode(config_base64)?,
            manifest_json: BASE64.decode(manifest_base64)?,
            index_json: index_base64.map(|text| BASE64.decode(text)).transpose()?,
            pulled_at,
        })
    }
}
