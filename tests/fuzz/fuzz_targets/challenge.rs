//! `WWW-Authenticate` of a registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| copepod::image::fuzzing::challenge(header));
