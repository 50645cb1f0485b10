//! A layer's tar into an empty directory. Nothing appears beside that directory.
#![no_main]

use std::fs::{self, File};
use std::os::fd::AsFd;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let top = tempfile::tempdir().expect("a directory");
    let root = top.path().join("root");
    fs::create_dir(&root).expect("an empty root");
    let opened = File::open(&root).expect("the root");
    copepod::image::fuzzing::layer(bytes, opened.as_fd());
    let beside = fs::read_dir(top.path()).expect("the directory").count();
    assert_eq!(beside, 1, "the layer left its root");
});
