//! Framing of a container's output: the records' contents put together are the output, byte for byte.
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;

// The shim is a binary, and this file of it is pure.
#[path = "../../../shim/src/io/log.rs"]
#[allow(dead_code, unreachable_pub, reason = "the shim uses all of it")]
mod log;

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (max_line, chunk, bytes) = input;
    let stamp = log::Stamp::new(SystemTime::UNIX_EPOCH);
    let mut framer = log::Framer::new(log::Stream::Stdout, max_line.into());
    let mut batch = log::Batch::new(512);
    let mut written = Vec::new();
    for piece in bytes.chunks(usize::from(chunk).max(1)) {
        let mut rest = piece;
        loop {
            rest = framer.push(rest, &stamp, &mut batch);
            written.extend_from_slice(batch.bytes());
            batch.clear();
            if rest.is_empty() {
                break;
            }
        }
    }
    while !framer.finish(&stamp, &mut batch) {
        written.extend_from_slice(batch.bytes());
        batch.clear();
    }
    written.extend_from_slice(batch.bytes());
    assert_eq!(contents(&written), bytes);
});

/// What a reader of the log makes of it (CRI contract, section 7). A record's head has a fixed length.
fn contents(log: &[u8]) -> Vec<u8> {
    const HEAD: usize = log::OVERHEAD - 1;
    let mut all = Vec::new();
    for record in log.split_inclusive(|&byte| byte == b'\n') {
        let (head, content) = record.split_at(HEAD);
        let content = content.strip_suffix(b"\n").expect("a record ends with a newline");
        all.extend_from_slice(content);
        if head.ends_with(b" F ") {
            all.push(b'\n');
        }
    }
    all
}
