//! Doors of this room for the fuzz targets below `tests/fuzz`; in no other build.

use super::Recorded;
use super::record::{Kind, decode};

/// A record of each kind.
pub fn record(key: &str, bytes: &[u8]) {
    for kind in Kind::ALL {
        let _outcome = decode(kind, key, bytes, &mut Recorded::default());
    }
}
