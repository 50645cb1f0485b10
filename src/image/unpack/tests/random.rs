//! Archives of random hostile entries, and good ones with random damage: whatever they say, nothing outside changes,
//! nothing panics, and the same words always have the same end.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Archive, Jail, head};

const NAMES: &[&str] = &[
    "a",
    "a/b",
    "a/b/c",
    "b",
    "l",
    "l/x",
    "l/etc/passwd",
    "m",
    "m/l/x",
    "../x",
    "/abs",
    "./a",
    "a/../b",
    ".",
    "/",
    ".wh.a",
    "a/.wh.b",
    ".wh..wh.opq",
    "a/.wh..wh..opq",
    ".wh..",
    "outside",
    "etc/passwd",
    "l/outside",
];
const TARGETS: &[&str] = &[
    "",
    "a",
    "a/b",
    "b",
    "l",
    ".",
    "..",
    "../..",
    "../outside",
    "/",
    "/etc",
    "/proc/self/root",
    "../../../../../..",
    "m",
    "JAIL",
    "JAIL/etc",
    "JAIL/outside",
];

#[derive(Debug, Clone)]
struct Word {
    flag: u8,
    name: usize,
    target: usize,
    mode: u64,
}

fn word() -> impl Strategy<Value = Word> {
    let flag = prop::sample::select(&b"00012234555567"[..]);
    (flag, 0..NAMES.len(), 0..TARGETS.len(), 0..0o10000_u64).prop_map(|(flag, name, target, mode)| Word {
        flag,
        name,
        target,
        mode,
    })
}

fn archive(words: &[Word], jail: &Jail) -> Vec<u8> {
    let top = jail.dir.path().display().to_string();
    let mut archive = Archive::default();
    for word in words {
        let target = TARGETS[word.target].replace("JAIL", &top);
        let head = head(NAMES[word.name], word.flag)
            .link(&target)
            .mode(word.mode)
            .device(1, 3);
        archive = match word.flag {
            b'0' | b'7' => archive.add(head.size(2), b"in"),
            _ => archive.add(head, b""),
        };
    }
    archive.done()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // `unpack` checks the canaries each time.
    #[test]
    fn random_archives_stay_inside(words in vec(word(), 1..25)) {
        let jail = Jail::new();
        let tar = archive(&words, &jail);
        let first = jail.unpack(&tar).map_err(|error| error.to_string());
        if let Err(error) = &first {
            prop_assert!(!error.contains("set the ") && !error.contains("open "), "{}", error);
        }
    }

    #[test]
    fn damaged_archives_end_cleanly(words in vec(word(), 1..8), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let jail = Jail::new();
        let mut tar = archive(&words, &jail);
        let at = at.index(tar.len());
        tar[at] = byte;
        drop(jail.unpack(&tar));
    }
}
