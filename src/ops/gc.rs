//! Layers that no image and no container needs any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::filter::ContainerFilter;
use crate::domain::image::Layer;
use crate::ops::Inner;
use crate::state::Change;

/// Removes unneeded layers. Skipped while an image is being pulled, whose layers may be among them: the pull comes back
/// here when it is done. What fails is logged and left for the sweep at the next start.
pub(crate) async fn layers(ops: &Arc<Inner>) {
    let Ok(_no_pulls) = ops.images.pulls.try_write() else {
        return;
    };
    let _change = ops.images.change.lock().await;
    let unneeded = unneeded(ops);
    if unneeded.is_empty() {
        return;
    }
    // First the record: a directory without a record is swept at the next start, a record without a directory would be
    // a broken image.
    let changes = unneeded.iter().map(|layer| Change::DeleteLayer(layer.diff_id.clone()));
    if let Err(error) = ops.state.commit(changes.collect()).await {
        tracing::warn!(error = %crate::ops::driver::state("forget unneeded layers", error).chain());
        return;
    }
    for layer in unneeded {
        ops.images.remove_layer(&layer.diff_id);
        if let Err(error) = ops.image.remove_layer(&layer.dir).await {
            tracing::warn!(layer = %layer.diff_id, %error, "layer stays on disk until the next start");
        }
    }
}

fn unneeded(ops: &Inner) -> Vec<Layer> {
    let mut needed = BTreeSet::new();
    for image in ops.images.all() {
        needed.extend(image.layers.iter().cloned());
    }
    for entry in ops.table.containers(&ContainerFilter::default()) {
        needed.extend(entry.container().layers.iter().cloned());
    }
    let mut layers = ops.images.layers();
    layers.retain(|layer| !needed.contains(&layer.diff_id) && !ops.images.is_building(&layer.diff_id));
    layers
}
