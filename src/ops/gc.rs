//! Layers that no image and no container needs any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::error::chain;
use crate::domain::filter::ContainerFilter;
use crate::ops::{Inner, Records};
use crate::state::Change;

/// Removes unneeded layers. Skipped while an image is being pulled, whose layers may be among them: the pull comes back
/// here when it is done. What fails is logged and left for the sweep at the next start. Nothing is removed while records
/// are unreadable: a layer may be needed by one of them.
pub(crate) async fn layers(ops: &Arc<Inner>) {
    if ops.records == Records::SomeUnreadable {
        tracing::debug!("layers are kept while some records cannot be read");
        return;
    }
    ops.images.look_again.store(true, Ordering::SeqCst);
    while ops.images.look_again.load(Ordering::SeqCst) {
        // Whoever holds it looks at the mark when it is done.
        let Ok(_no_pulls) = ops.images.pulls.try_write() else {
            return;
        };
        ops.images.look_again.store(false, Ordering::SeqCst);
        remove_unneeded(ops).await;
    }
}

async fn remove_unneeded(ops: &Arc<Inner>) {
    let _change = ops.images.change.lock().await;
    let unneeded = ops.images.take_unneeded(|needed| {
        for entry in ops.table.containers(&ContainerFilter::default()) {
            needed.extend(entry.container().layers.iter().cloned());
        }
    });
    if unneeded.is_empty() {
        return;
    }
    // First the record: a directory without a record is swept at the next start, a record without a directory would be
    // a broken image.
    let changes = unneeded.iter().map(|layer| Change::DeleteLayer(layer.diff_id.clone()));
    if let Err(error) = ops.commit("forget unneeded layers", changes.collect()).await {
        tracing::warn!(error = error.chain());
        for layer in unneeded {
            ops.images.put_layer(layer);
        }
        return;
    }
    for layer in unneeded {
        if let Err(error) = ops.image.remove_layer(&layer.dir).await {
            tracing::warn!(layer = %layer.diff_id, error = chain(&error), "layer stays on disk until the next start");
        }
    }
}
