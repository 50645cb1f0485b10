//! Seccomp profiles that a node's administrator or a pod's author names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| drop(copepod::oci::profile::SeccompProfile::parse(json)));
