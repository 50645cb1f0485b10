//! Doors of this room for the fuzz targets below `tests/fuzz`; in no other build.

use super::cni;

/// A network list, or the result that a plugin printed.
pub fn cni(text: &str) {
    cni::fuzz(text);
}
