use std::time::{Duration, UNIX_EPOCH};

use super::{Batch, Framer, Stamp, Stream};

const LIMIT: usize = 128 * 1024;

/// Frames `pieces` with whole-batch flushes, then ends the stream.
fn frame(pieces: &[&[u8]], max_line: usize, limit: usize) -> Vec<u8> {
    let (mut framer, mut batch, mut out) = (Framer::new(Stream::Stdout, max_line), Batch::new(limit), Vec::new());
    let stamp = Stamp::new(UNIX_EPOCH);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            rest = framer.push(rest, &stamp, &mut batch);
            if rest.is_empty() {
                break;
            }
            assert!(!batch.bytes().is_empty(), "an empty batch takes any record");
            out.extend_from_slice(batch.bytes());
            batch.clear();
        }
    }
    while !framer.finish(&stamp, &mut batch) {
        out.extend_from_slice(batch.bytes());
        batch.clear();
    }
    out.extend_from_slice(batch.bytes());
    out
}

/// (tag, content) of every record; panics on anything that is not the format.
fn parse(log: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let lines: Vec<&[u8]> = log.split(|&byte| byte == b'\n').collect();
    let (last, records) = lines.split_last().unwrap();
    assert!(last.is_empty(), "the log ends with a newline");
    records
        .iter()
        .map(|record| {
            let rest = record
                .strip_prefix(b"1970-01-01T00:00:00.000000000Z stdout ")
                .expect("time and stream");
            assert_eq!(rest[1], b' ');
            (rest[0], rest[2..].to_vec())
        })
        .collect()
}

fn joined(records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (tag, content) in records {
        all.extend_from_slice(content);
        if *tag == b'F' {
            all.push(b'\n');
        }
    }
    all
}

#[test]
fn a_line_is_one_full_record() {
    assert_eq!(
        frame(&[b"hello\n"], 16_384, LIMIT),
        b"1970-01-01T00:00:00.000000000Z stdout F hello\n"
    );
}

#[test]
fn records_follow_the_contract() {
    type Case = (&'static [&'static [u8]], usize, &'static [(u8, &'static [u8])]);
    let table: &[Case] = &[
        (&[b""], 8, &[]),
        (&[b"\n"], 8, &[(b'F', b"")]),
        (&[b"a\n\nb\n"], 8, &[(b'F', b"a"), (b'F', b""), (b'F', b"b")]),
        (&[b"ab", b"cd\n"], 8, &[(b'F', b"abcd")]),
        (&[b"no newline"], 16, &[(b'P', b"no newline")]),
        (&[b"keep\r\n"], 8, &[(b'F', b"keep\r")]),
        // Exactly the limit is one record, whether or not the newline comes with it.
        (&[b"12345678\n"], 8, &[(b'F', b"12345678")]),
        (&[b"12345678", b"\n"], 8, &[(b'F', b"12345678")]),
        (&[b"123456789\n"], 8, &[(b'P', b"12345678"), (b'F', b"9")]),
        (
            &[b"xxxxxxxxxx", b"xxxxxxxxxx", b"\n"],
            8,
            &[(b'P', b"xxxxxxxx"), (b'P', b"xxxxxxxx"), (b'F', b"xxxx")],
        ),
    ];
    for (pieces, max_line, expected) in table {
        let got = parse(&frame(pieces, *max_line, LIMIT));
        let expected: Vec<(u8, Vec<u8>)> = expected.iter().map(|(tag, text)| (*tag, text.to_vec())).collect();
        assert_eq!(got, expected, "{pieces:?} at {max_line}");
    }
}

#[test]
fn the_records_put_together_are_the_input() {
    // A small generator instead of a crate: the seed is printed by the assertion.
    for seed in 1..400_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below).unwrap()
        };
        let (max_line, limit) = (next(40) + 1, next(200) + 1);
        let mut pieces = Vec::new();
        for _ in 0..next(30) {
            let newline_every = next(50) + 1;
            pieces.push(
                (0..next(120))
                    .map(|_| {
                        if next(newline_every as u64 + 1) == 0 {
                            b'\n'
                        } else {
                            u8::try_from(next(256)).unwrap()
                        }
                    })
                    .collect::<Vec<u8>>(),
            );
        }
        let borrowed: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let records = parse(&frame(&borrowed, max_line, limit));
        assert_eq!(joined(&records), pieces.concat(), "seed {seed}");
        assert!(
            records.iter().all(|(_, content)| content.len() <= max_line),
            "seed {seed}"
        );
        let partials_end_full = records
            .windows(2)
            .all(|pair| pair[0].0 == b'F' || pair[0].1.len() == max_line);
        assert!(
            partials_end_full,
            "only a full-length record is partial before the end, seed {seed}"
        );
    }
}

#[test]
fn times_are_rfc_3339_with_nanoseconds() {
    for (seconds, nanos, text) in [
        (0, 0, "1970-01-01T00:00:00.000000000Z"),
        (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
        (1_709_251_199, 999_999_999, "2024-02-29T23:59:59.999999999Z"),
        (1_709_251_200, 0, "2024-03-01T00:00:00.000000000Z"),
        (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        (253_402_300_799, 0, "9999-12-31T23:59:59.000000000Z"),
    ] {
        let stamp = Stamp::new(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(std::str::from_utf8(&stamp.0).unwrap(), text);
    }
}
