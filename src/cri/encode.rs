//! From domain values to wire messages.

pub(super) mod container;
pub(super) mod image;
pub(super) mod info;
pub(super) mod node;
pub(super) mod pod;
pub(super) mod resources;
pub(super) mod stats;
#[cfg(test)]
mod tests;
