//! Requests on the CRI socket, from wire bytes to domain values.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| copepod::cri::fuzzing::requests(bytes));
