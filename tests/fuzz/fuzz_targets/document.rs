//! Indexes, manifests and configurations of a registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| copepod::image::fuzzing::document(input.1, input.0));
