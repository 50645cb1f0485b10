//! RemoveImage: by any name, with every name it has (contract §9.2).

use std::sync::Arc;

use crate::domain::error::Failure;
use crate::ops::{Inner, driver, gc};
use crate::state::Change;

/// The runbook.
pub(crate) async fn remove(ops: &Arc<Inner>, name: &str) -> Result<(), Failure> {
    let change = ops.images.change.lock().await;
    let Some(image) = ops.images.find(name)? else {
        return Ok(());
    };
    ops.state
        .commit(vec![Change::DeleteImage(image.id.clone())])
        .await
        .map_err(|error| driver::state("forget the image", error))?;
    ops.images.remove(&image.id);
    drop(change);
    tracing::info!(op = "RemoveImage", image = %image.id, tags = ?image.tags, "image removed");
    gc::layers(ops).await;
    Ok(())
}
