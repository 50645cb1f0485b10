//! Records of the state database.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| copepod::state::fuzzing::record(input.0, input.1));
