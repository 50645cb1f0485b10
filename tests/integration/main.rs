//! The daemon and its shims as users meet them: real binaries, a real registry, crictl and the CRI itself. As root.
//!
//! Every test has a daemon of its own (root, state, socket, bridge, subnet) and proves that it leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::large_futures,
    reason = "test code, helpers included: a panic is its verdict, and a test's stack has room"
)]

mod bad_input;
mod breaker;
mod cancelled;
mod container;
mod crictl;
mod daemon;
mod harness;
mod lost;
mod network;
mod owner;
mod pod;
mod promises;
mod pull;
mod request;
mod security;
mod streams;
mod survival;
mod traces;
