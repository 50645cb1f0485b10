//! Floor 1: what copepod is about, as plain values. Pure: no clock, no file, no await. Wire types become these in
//! `cri::decode` and nothing above deals with the wire again.

pub mod container;
pub mod error;
pub mod exec;
pub mod filter;
pub mod image;
pub mod mount;
pub mod network;
pub mod pod;
pub mod resources;
pub mod security;
pub mod stats;
