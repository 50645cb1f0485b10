//! PullImage: the driver fetches and verifies, here the result becomes one commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::domain::error::Failure;
use crate::domain::image::{Image, ImageId};
use crate::image::{KnownLayers as _, Pulled};
use crate::ops::request::PullImage;
use crate::ops::{Inner, Ops, driver, gc};
use crate::state::Change;

/// The runbook. The download lives as long as the caller does (a cancelled pull stops, contract §9.2); what comes after
/// is run to its end.
pub(crate) async fn pull(ops: &Ops, request: PullImage) -> Result<ImageId, Failure> {
    let PullImage { image: name, auth } = request;
    let inner = Arc::clone(&ops.inner);
    let pulls = Arc::clone(&inner.images.pulls).read_owned().await;
    let fetched = inner.image.pull(&name, auth, &inner.images).await;
    let pulled = match fetched {
        Ok(pulled) => pulled,
        Err(error) => {
            drop(pulls);
            // A layer that became unneeded while this pull ran was left to it.
            gc::layers(&inner).await;
            return Err(driver::pull(&name, error));
        }
    };
    ops.verb(async move {
        let recorded = record(&inner, pulled).await;
        drop(pulls);
        gc::layers(&inner).await;
        recorded
    })
    .await
}

async fn record(ops: &Inner, pulled: Pulled) -> Result<ImageId, Failure> {
    let _change = ops.images.change.lock().await;
    let new_layers: Vec<_> = pulled
        .layers
        .iter()
        // Of a recorded one the files may have been lost: then it was fetched again, to another place.
        .filter(|layer| {
            ops.images
                .layer(&layer.diff_id)
                .is_none_or(|known| known.dir != layer.dir)
        })
        .collect();
    let mut changes: Vec<_> = new_layers
        .iter()
        .map(|&layer| Change::PutLayer(layer.clone()))
        .collect();
    let robbed = robbed(ops, &pulled);
    let image = image(ops.images.exact(&pulled.id).as_deref(), &pulled);
    for image in robbed.iter().chain([&image]) {
        changes.push(Change::PutImage(Box::new(image.clone())));
    }
    ops.state
        .commit(changes)
        .await
        .map_err(|error| driver::state("record the image", error))?;
    for layer in new_layers {
        ops.images.put_layer(layer.clone());
    }
    if let Some(image) = robbed {
        ops.images.put(image);
    }
    let id = image.id.clone();
    tracing::info!(op = "PullImage", image = %id, tags = ?image.tags, bytes = image.size, "image is here");
    ops.images.put(image);
    Ok(id)
}

/// The image that had the tag until now, without it (contract §9.2: it may be left without any name).
fn robbed(ops: &Inner, pulled: &Pulled) -> Option<Image> {
    let tag = pulled.tag.as_ref()?;
    let former = ops.images.tagged(tag).filter(|former| former.id != pulled.id)?;
    let mut former = Arc::unwrap_or_clone(former);
    former.tags.remove(tag);
    Some(former)
}

/// The record: what was pulled, joined with what was known of the same image.
fn image(known: Option<&Image>, pulled: &Pulled) -> Image {
    let (mut tags, mut digests) = match known {
        Some(image) => (image.tags.clone(), image.digests.clone()),
        None => (BTreeSet::new(), BTreeSet::new()),
    };
    tags.extend(pulled.tag.clone());
    digests.insert(pulled.digest.clone());
    let documents = pulled.config_json.len() + pulled.manifest_json.len();
    let documents = documents + pulled.index_json.as_ref().map_or(0, Vec::len);
    Image {
        id: pulled.id.clone(),
        tags,
        digests,
        layers: pulled.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        descriptors: pulled.descriptors.clone(),
        config: pulled.config.clone(),
        size: pulled.layers.iter().map(|layer| layer.bytes).sum::<u64>() + documents as u64,
        config_json: pulled.config_json.clone(),
        manifest_json: pulled.manifest_json.clone(),
        index_json: pulled.index_json.clone(),
        pulled_at: known.map_or_else(Timestamp::now, |image| image.pulled_at),
    }
}
