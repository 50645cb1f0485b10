//! Images and layers that are here, in memory, and which of them nobody may remove just now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::domain::error::{Failure, Kind};
use crate::domain::image::{DiffId, Digest, Image, ImageId, Layer};
use crate::image::KnownLayers;
use crate::image::reference::Reference;
use crate::ops::table::lock;

/// Shortest part of an id that means an image: shorter ones are names.
const MIN_PREFIX: usize = 3;

/// The images.
#[derive(Debug, Default)]
pub(crate) struct Images {
    held: Arc<Mutex<Held>>,
    /// Pulls hold it shared from their first look at the layers until these are recorded; removal of layers holds it
    /// alone, and waits for no pull: the last pull looks again.
    pub(crate) pulls: Arc<tokio::sync::RwLock<()>>,
    /// Somebody wants unneeded layers looked for, since the last time that was begun.
    pub(crate) look_again: AtomicBool,
    /// One change of the records at a time: a change is computed from what is here.
    pub(crate) change: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    images: BTreeMap<ImageId, Arc<Image>>,
    /// Tags and digests.
    names: BTreeMap<String, ImageId>,
    layers: BTreeMap<DiffId, Layer>,
    /// Layers of containers under construction, which the table does not show yet.
    building: BTreeMap<DiffId, usize>,
}

/// Keeps layers while a container is built from them.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Mutex<Held>>,
    layers: Vec<DiffId>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        for layer in &self.layers {
            if let Some(count) = held.building.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    held.building.remove(layer);
                }
            }
        }
    }
}

impl KnownLayers for Images {
    fn layer(&self, diff_id: &DiffId) -> Option<Layer> {
        lock(&self.held).layers.get(diff_id).cloned()
    }
}

impl Images {
    /// With what is recorded.
    pub(crate) fn new(images: Vec<Image>, layers: Vec<Layer>) -> Self {
        let this = Self::default();
        for layer in layers {
            this.put_layer(layer);
        }
        for image in images {
            this.put(image);
        }
        this
    }

    /// Adds or replaces an image.
    pub(crate) fn put(&self, image: Image) {
        let mut held = lock(&self.held);
        let id = image.id.clone();
        held.forget_names(&id);
        for name in image.tags.iter().chain(&image.digests) {
            held.names.insert(name.clone(), id.clone());
        }
        held.images.insert(id, Arc::new(image));
    }

    /// Removes an image; its layers stay.
    pub(crate) fn remove(&self, id: &ImageId) {
        let mut held = lock(&self.held);
        held.forget_names(id);
        held.images.remove(id);
    }

    /// Adds a layer.
    pub(crate) fn put_layer(&self, layer: Layer) {
        lock(&self.held).layers.insert(layer.diff_id.clone(), layer);
    }

    /// Takes out every layer that no image needs, no container under construction, and none of those that `listed`
    /// adds. All under one lock: whoever wants to build from such a layer either has it before, or finds it gone.
    pub(crate) fn take_unneeded(&self, listed: impl FnOnce(&mut BTreeSet<DiffId>)) -> Vec<Layer> {
        let mut held = lock(&self.held);
        let mut needed: BTreeSet<_> = held.building.keys().cloned().collect();
        needed.extend(held.images.values().flat_map(|image| image.layers.iter().cloned()));
        listed(&mut needed);
        let unneeded = held.layers.extract_if(.., |diff_id, _| !needed.contains(diff_id));
        unneeded.map(|(_, layer)| layer).collect()
    }

    /// The image with exactly this id.
    pub(crate) fn exact(&self, id: &ImageId) -> Option<Arc<Image>> {
        lock(&self.held).images.get(id).cloned()
    }

    /// The image that has this full tag.
    pub(crate) fn tagged(&self, tag: &str) -> Option<Arc<Image>> {
        let held = lock(&self.held);
        held.names.get(tag).and_then(|id| held.images.get(id)).cloned()
    }

    /// Every image, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Image>> {
        lock(&self.held).images.values().cloned().collect()
    }

    /// Every layer.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        lock(&self.held).layers.values().cloned().collect()
    }

    /// The image that `text` means: a full id, a name in any usual form, or the beginning of an id (contract §9.2). An
    /// exact name wins over the beginning of an id, since it can mean only one image.
    ///
    /// # Errors
    /// `InvalidArgument`: empty, or the beginning of several ids.
    pub(crate) fn find(&self, text: &str) -> Result<Option<Arc<Image>>, Failure> {
        if text.is_empty() {
            return Err(Failure::new(
                Kind::InvalidArgument,
                "the image name is empty: give a name or an id",
            ));
        }
        let held = lock(&self.held);
        if let Some(image) = full_id(text).and_then(|id| held.images.get(&id)) {
            return Ok(Some(Arc::clone(image)));
        }
        if let Some(image) = named(text).and_then(|name| held.names.get(&name)) {
            return Ok(held.images.get(image).cloned());
        }
        held.by_prefix(text)
    }

    /// Keeps the image's layers until the hold is dropped.
    ///
    /// # Errors
    /// The image was removed meanwhile.
    pub(crate) fn hold(&self, image: &Image) -> Result<(Hold, Vec<Layer>), Failure> {
        let mut held = lock(&self.held);
        let layers: Option<Vec<_>> = image.layers.iter().map(|id| held.layers.get(id).cloned()).collect();
        let layers = layers.ok_or_else(|| {
            Failure::new(
                Kind::NotFound,
                format!(
                    "image {} was removed while a container was made from it: pull it again",
                    image.id
                ),
            )
        })?;
        for id in &image.layers {
            *held.building.entry(id.clone()).or_default() += 1;
        }
        drop(held);
        let hold = Hold {
            held: Arc::clone(&self.held),
            layers: image.layers.clone(),
        };
        Ok((hold, layers))
    }
}

impl Held {
    fn forget_names(&mut self, id: &ImageId) {
        if let Some(image) = self.images.get(id).cloned() {
            for name in image.tags.iter().chain(&image.digests) {
                // A tag that has moved on belongs to another image by now.
                if self.names.get(name) == Some(id) {
                    self.names.remove(name);
                }
            }
        }
    }

    fn by_prefix(&self, text: &str) -> Result<Option<Arc<Image>>, Failure> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_prefix =
            (MIN_PREFIX..64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return Ok(None);
        }
        let mut matching = self.images.values().filter(|image| image.id.hex().starts_with(hex));
        let first = matching.next().cloned();
        match matching.next() {
            None => Ok(first),
            Some(_) => Err(Failure::new(
                Kind::InvalidArgument,
                format!("image id {text:?} is ambiguous: give more of its digits"),
            )),
        }
    }
}

fn full_id(text: &str) -> Option<ImageId> {
    text.parse::<Digest>()
        .or_else(|_| format!("sha256:{text}").parse())
        .ok()
}

/// The full name that an image is known by here: `registry/repository@digest` if it has a digest, else with its tag.
fn named(text: &str) -> Option<String> {
    let reference = text.parse::<Reference>().ok()?;
    match reference.digest() {
        Some(digest) => Some(reference.digested(digest)),
        None => reference.tagged(),
    }
}

#[cfg(test)]
mod tests;
