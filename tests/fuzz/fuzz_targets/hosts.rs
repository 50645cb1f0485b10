//! A registry's hosts.toml.
#![no_main]

use std::fs;

use copepod::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let top = tempfile::tempdir().expect("a directory");
    let own = top.path().join("registry.example");
    fs::create_dir(&own).expect("the registry's directory");
    fs::write(own.join("hosts.toml"), text).expect("the file");
    let reference: Reference = "registry.example/a/b:c".parse().expect("a reference");
    copepod::image::fuzzing::hosts(top.path(), &reference);
});
