//! Floor 0: what every other room stands on and what knows none of them.

pub mod clock;
pub mod cmd;
pub mod device;
pub mod error;
pub mod fs;
pub mod id;
pub mod lock;
pub mod task;
