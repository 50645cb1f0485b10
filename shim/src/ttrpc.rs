//! The wire: takes requests apart, calls the verb, puts the answer together. The only place that names rust-protobuf
//! and ttrpc types, besides the listener.
//!
//! ttrpc drops a handler's future when its client goes away. A verb that changes something therefore runs in a task of
//! its own, which the handler only joins: a client that dies in the middle of Create leaves a created container or
//! none, never half of one.

pub(crate) mod decode;
pub(crate) mod listener;
pub(crate) mod shim;
pub(crate) mod status;
pub(crate) mod task;

use crate::ops::error::OpError;

/// Runs a verb to its end whatever becomes of the caller.
async fn detached<T: Send + 'static>(
    verb: impl Future<Output = Result<T, OpError>> + Send + 'static,
) -> Result<T, OpError> {
    // The task is never aborted and a panic aborts the process, so joining fails only while the runtime ends.
    tokio::spawn(verb).await.unwrap_or(Err(OpError::CutShort))
}
