//! copepod: a Kubernetes container runtime. The map of this crate is `src/README.md`; what each floor may know is
//! enforced by `tests/tidy.rs`.

pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod cri;
pub mod domain;
pub mod image;
pub mod network;
pub mod oci;
pub mod ops;
pub mod runtime;
pub mod snapshot;
pub mod state;
pub mod telemetry;
