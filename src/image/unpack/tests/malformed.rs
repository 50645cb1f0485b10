//! The formats themselves: headers, sizes, compression and ends, right and wrong.

use std::sync::atomic::AtomicU64;

use super::*;

#[test]
fn gnu_and_old_archives_are_read() {
    let name = format!("{}/{}", "a".repeat(120), "b".repeat(120));
    let jail = good(
        Archive::default()
            .add(
                head("././@LongLink", b'L').size(name.len() as u64 + 1),
                format!("{name}\0").as_bytes(),
            )
            .add(head("a", b'0').raw(257, b"ustar  \0").size(1), b"1")
            .add(
                head("././@LongLink", b'K').size(151),
                format!("{}\0", "t".repeat(150)).as_bytes(),
            )
            .add(head("link", b'2').link("short"), b"")
            .add(head("old/", 0).raw(257, &[0; 8]), b"")
            .add(head("old/f", 0).raw(257, &[0; 8]).size(1), b"2")
            .add(head("f", b'0').raw(345, b"old/prefix").size(1), b"3")
            .add(head("g", b'g').size(17), record("comment", "12345").as_bytes()),
    );
    assert_eq!(jail.read(&name), "1");
    assert_eq!(fs::read_link(jail.root().join("link")).unwrap().as_os_str().len(), 150);
    assert_eq!(
        (jail.read("old/f").as_str(), jail.read("old/prefix/f").as_str()),
        ("2", "3")
    );
}

#[test]
fn l9_sparse_files_are_refused_by_name() {
    let jail = Jail::new();
    for archive in [
        Archive::default().add(head("s", b'S').raw(257, b"ustar  \0"), b""),
        Archive::default().pax(&[("GNU.sparse.major", "1")]).file("s", ""),
    ] {
        let error = jail.unpack(&archive.done()).unwrap_err().to_string();
        assert!(error.contains("sparse"), "{error}");
    }
}

#[test]
fn l10_cve_2026_33055_two_sizes_are_refused() {
    let inner = Archive::default().file("hidden", "x").open_end();
    let size = inner.len().to_string();
    refuses(
        Archive::default()
            .pax(&[("size", &size)])
            .add(head("f", b'0').size(512), &inner),
    );
    refuses(
        Archive::default()
            .pax(&[("size", "0")])
            .add(head("f", b'0').size(inner.len() as u64), &inner),
    );
    // Not said in the header at all: the extended one counts, for parsers that know it.
    let jail = good(Archive::default().pax(&[("size", &size)]).add(head("f", b'0'), &inner));
    assert_eq!(fs::metadata(jail.root().join("f")).unwrap().len(), inner.len() as u64);
    assert!(!jail.root().join("hidden").exists());
    refuses(
        Archive::default()
            .pax(&[("path", "a")])
            .pax(&[("path", "b")])
            .file("f", ""),
    );
    refuses(
        Archive::default()
            .pax(&[("path", "a")])
            .add(head("L", b'L').size(2), b"b\0")
            .file("f", ""),
    );
    refuses(Archive::default().pax(&[("path", "a")]));
    refuses(Archive::default().add(head("d", b'5').size(512), &[0; 512]));
    refuses(
        Archive::default()
            .add(head("g", b'g').size(12), record("path", "ab").as_bytes())
            .file("f", ""),
    );
}

#[test]
fn l11_broken_headers_are_refused() {
    refuses(Archive::default().raw(&[b'x'; 512]));
    refuses(Archive::default().add(head("L", b'L').size(2 << 20), b""));
    refuses(Archive::default().add(head("x", b'x').size(1 << 40), b""));
    refuses(Archive::default().add(head("f", b'0').raw(124, b"77777777778\0"), b""));
    refuses(Archive::default().add(
        head("f", b'0').raw(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        b"",
    ));
    refuses(Archive::default().add(
        head("f", b'0').raw(124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        b"",
    ));
    refuses(Archive::default().add(head("f", b'?'), b""));
    refuses(Archive::default().add(head("f", b'3').device(1 << 12, 0), b""));
    refuses(Archive::default().add(head("L", b'L').size(1), b"a"));
    let mut flipped = Archive::default().file("f", "x").done();
    flipped[0] ^= 1;
    assert!(matches!(Jail::new().unpack(&flipped), Err(UnpackError::Archive { .. })));
    let cut = Archive::default().file("f", &"x".repeat(600)).open_end();
    for length in [100, 512, 700, 1100] {
        assert!(Jail::new().unpack(&cut[..length]).is_err(), "{length}");
    }
}

#[test]
fn l14_bombs_end_at_the_budget() {
    let jail = Jail::new();
    let mut archive = Archive::default();
    for n in 0..20 {
        archive = archive.file(&format!("f{n}"), "x");
    }
    let tar = archive.done();
    let order = Order {
        digest: digest_of(&tar),
        size: tar.len() as u64,
        compression: Compression::None,
        diff_id: digest_of(&tar),
    };
    for (bytes, inodes) in [(10 * 4096, 1000), (1 << 30, 10)] {
        let budget = Budget {
            bytes: AtomicU64::new(bytes),
            inodes: AtomicU64::new(inodes),
        };
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let result = layer(&tar[..], root.as_fd(), &order, &budget);
        assert!(matches!(result, Err(UnpackError::TooMuch { .. })));
        assert!(fs::read_dir(dir.path()).unwrap().count() <= 11);
    }
    jail.check();
    // Ten thousand times smaller than it says: nothing is allocated or written for what does not come.
    let lie = Archive::default()
        .add(head("f", b'0').size(0o7_777_777_777), b"x")
        .done();
    assert!(jail.unpack(&lie).is_err());
}

#[test]
fn l15_gzip_members_garbage_and_ends() {
    let tar = Archive::default().file("f", &"x".repeat(2000)).done();
    let whole = |blob: &[u8], tar: &[u8]| Jail::new().unpack_as(blob, tar, Compression::Gzip);
    let two = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    whole(&two, &tar).unwrap();
    whole(&[gzip(&tar), vec![0; 700]].concat(), &tar).unwrap();
    let after_end = [&tar[..], b"junk after the end"].concat();
    whole(&gzip(&after_end), &after_end).unwrap();
    for end in [0, 512] {
        let open = [&tar[..tar.len() - 1024], &vec![0; end]].concat();
        whole(&gzip(&open), &open).unwrap();
    }
    let mut wrong_sum = gzip(&tar);
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    assert!(matches!(whole(&wrong_sum, &tar), Err(UnpackError::Inflate { .. })));
    let short = gzip(&tar);
    assert!(matches!(
        whole(&short[..short.len() - 9], &tar),
        Err(UnpackError::Inflate { .. })
    ));
    let lone = [&Archive::default().file("a", "").open_end()[..], &[0; 512], &tar[..]].concat();
    assert!(matches!(whole(&gzip(&lone), &lone), Err(UnpackError::Archive { .. })));
    // A second archive behind the end is hashed and not unpacked.
    let second = [tar.clone(), Archive::default().file("hidden", "").done()].concat();
    let jail = Jail::new();
    jail.unpack(&second).unwrap();
    assert!(!jail.root().join("hidden").exists());
}

#[test]
fn l16_zstd_frames_windows_and_labels() {
    let tar = Archive::default().file("f", &"x".repeat(2000)).done();
    let whole = |blob: &[u8], as_what| Jail::new().unpack_as(blob, &tar, as_what);
    let skippable = [
        &b"\x50\x2a\x4d\x18\x04\0\0\0junk"[..],
        &zstd(&tar[..512]),
        &zstd(&tar[512..]),
    ]
    .concat();
    whole(&skippable, Compression::Zstd).unwrap();
    // A frame header that wants a window of 2 GiB.
    let mut huge = b"\x28\xb5\x2f\xfd\x00\xa8".to_vec();
    huge.extend([0x01, 0, 0]);
    assert!(matches!(
        whole(&huge, Compression::Zstd),
        Err(UnpackError::Inflate { .. })
    ));
    for (blob, said) in [
        (gzip(&tar), Compression::Zstd),
        (zstd(&tar), Compression::Gzip),
        (tar.clone(), Compression::Gzip),
        (gzip(&tar), Compression::None),
        (b"\xfd7zXZ\0junk".to_vec(), Compression::Gzip),
    ] {
        assert!(matches!(whole(&blob, said), Err(UnpackError::Mislabelled { .. })));
    }
}

#[test]
fn r4_r5_r7_wrong_bytes_sizes_and_diff_ids_are_told_apart() {
    let tar = Archive::default().file("f", "x").done();
    let blob = gzip(&tar);
    let order = |digest: &[u8], size: usize, diff_id: &[u8]| Order {
        digest: digest_of(digest),
        size: size as u64,
        compression: Compression::Gzip,
        diff_id: digest_of(diff_id),
    };
    let jail = || Jail::new();
    let cases = [
        (order(b"other", blob.len(), &tar), "digest"),
        (order(&blob, blob.len() - 1, &tar), "more came"),
        (order(&blob, blob.len() + 1, &tar), "came; it is damaged"),
        (order(&blob, 0, &tar), "more came"),
        (order(&blob, usize::MAX >> 1, &tar), "came; it is damaged"),
        (order(&blob, blob.len(), b"other"), "configuration says"),
    ];
    for (order, part) in cases {
        let error = jail().unpack_order(&blob, &order).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    // Damage is told as damage, not as what the damaged bytes happen to look like.
    let mut damaged = blob.clone();
    damaged[15] ^= 0xff;
    let error = jail()
        .unpack_order(&damaged, &order(&blob, blob.len(), &tar))
        .unwrap_err();
    assert!(matches!(error, UnpackError::Digest { .. }), "{error}");
}
