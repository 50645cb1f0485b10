//! Records that daemon and shim exchange in a bundle.
#![no_main]

use std::fs;

use copepod_proto::bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let top = tempfile::tempdir().expect("a bundle");
    for name in [bundle::OPTIONS, bundle::START, bundle::EXIT] {
        fs::write(top.path().join(name), bytes).expect("the record");
    }
    drop(bundle::read_options(top.path()));
    drop(bundle::read_start(top.path()));
    drop(bundle::read_exit(top.path()));
});
