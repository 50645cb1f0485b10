//! Wall-clock time as the CRI tells it: unix nanoseconds (contract §2.4). Deadlines use `tokio::time`, which is
//! monotonic; this is only for what people and clients read.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time, in nanoseconds since the unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Now, never 0: the CRI reads 0 as "never".
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(1))
    }

    /// The number itself, for the wire.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.0
    }
}
