//! Floor 1: what the daemon tells about itself.

pub mod log;
