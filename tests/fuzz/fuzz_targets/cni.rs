//! CNI network lists and plugins' results.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| copepod::network::fuzzing::cni(text));
