//! OCI `linux.resources`.

use serde::Deserialize;

/// Limits of a container.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Resources {}
