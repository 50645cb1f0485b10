//! What an entry says of itself: kinds, ids, modes, extended attributes, names in every form, and which of two counts.

use super::*;
use crate::image::tests::archive::{head, record};

#[test]
fn every_kind_of_entry_with_its_attributes() {
    let long = format!("d/{}", "n".repeat(200));
    let jail = good(
        Archive::default()
            .add(head("./", b'5').mode(0o751).ids(3, 4), b"")
            .add(head("d", b'5').mode(0o1777).ids(5, 6).mtime(77), b"")
            .add(
                head("d/f", b'0').mode(0o4755).ids(1000, 1001).size(5).mtime(99),
                b"hello",
            )
            .hardlink("d/h", "d/f")
            .add(head("d/l", b'2').link("f").ids(9, 9).mtime(55), b"")
            .add(head("null", b'3').mode(0o666).device(1, 3), b"")
            .add(head("disk", b'4').mode(0o660).device(8, 1), b"")
            .add(head("pipe", b'6').mode(0o622), b"")
            .pax(&[
                ("path", &long),
                ("mtime", "3.5"),
                ("uid", "70000"),
                ("SCHILY.xattr.user.k", "v"),
            ])
            .add(head("short", b'0').size(1), b"x"),
    );
    let root = jail.root();
    let of = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!((of("").mode() & 0o7777, of("").uid(), of("").gid()), (0o751, 3, 4));
    assert_eq!(
        (of("d").mode() & 0o7777, of("d").uid(), of("d").mtime()),
        (0o1777, 5, 77)
    );
    let file = of("d/f");
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid(), file.mtime(), file.nlink()),
        (0o4755, 1000, 1001, 99, 2)
    );
    assert_eq!(of("d/h").ino(), file.ino());
    assert_eq!((of("d/l").uid(), of("d/l").mtime()), (9, 55));
    assert_eq!(fs::read_link(root.join("d/l")).unwrap(), Path::new("f"));
    let null = of("null");
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    assert_eq!(null.mode() & 0o7777, 0o666);
    assert!(of("disk").file_type().is_block_device() && of("pipe").file_type().is_fifo());
    let pax = of(&long);
    assert_eq!((pax.uid(), pax.mtime(), pax.mtime_nsec()), (70000, 3, 500_000_000));
    assert_eq!(xattr(&root.join(&long), "user.k").as_deref(), Some(&b"v"[..]));
}

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
fn l7_ids_and_modes_beyond_what_there_is() {
    let jail = good(Archive::default().add(head("f", b'0').mode(0o7_777_777).ids(0, 0), b""));
    assert_eq!(fs::metadata(jail.root().join("f")).unwrap().mode() & 0o7777, 0o7777);
    for id in [
        "-1",
        "4294967295",
        "4294967296",
        "9223372036854775808",
        "99999999999999999999",
        "root",
    ] {
        refuses(Archive::default().pax(&[("uid", id)]).file("f", ""));
        refuses(Archive::default().pax(&[("gid", id)]).file("f", ""));
    }
    refuses(Archive::default().add(head("f", b'0').raw(108, b"\xff\xff\xff\xff\xff\xff\xff\xff"), b""));
}

#[test]
fn l8_attributes_are_kept_dropped_or_bounded() {
    // A version 2 capability: cap_net_raw=ep.
    let capability = "\u{1}\0\0\u{2}\0\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let jail = good(
        Archive::default()
            .pax(&[
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.security.selinux", "label"),
                ("SCHILY.xattr.system.posix_acl_access", "acl"),
                ("SCHILY.xattr.user.a", "1"),
            ])
            .add(head("f", b'0').ids(5, 5), b""),
    );
    let file = jail.root().join("f");
    assert_eq!(
        xattr(&file, "security.capability").as_deref(),
        Some(capability.as_bytes())
    );
    assert_eq!(xattr(&file, "user.a").as_deref(), Some(&b"1"[..]));
    assert_eq!(xattr(&file, "system.posix_acl_access"), None);
    assert_ne!(xattr(&file, "security.selinux").as_deref(), Some(&b"label"[..]));
    let many: Vec<_> = (0..300).map(|n| (format!("SCHILY.xattr.user.{n}"), "v")).collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    refuses(Archive::default().pax(&many).file("f", ""));
}

#[test]
fn l12_the_last_entry_of_a_name_counts() {
    let jail = Jail::new();
    let outside = jail.dir.path().display().to_string();
    let archive = Archive::default()
        .file("file-dir", "1")
        .dir("file-dir")
        .file("dir-file/a/b", "1")
        .file("dir-file", "2")
        .dir("dir-link")
        .file("dir-link/x", "1")
        .symlink("dir-link", &outside)
        .symlink("link-dir", &outside)
        .dir("link-dir")
        .file("link-dir/etc/passwd", "in")
        .dir("dir-dir")
        .file("dir-dir/kept", "1")
        .add(head("dir-dir", b'5').mode(0o700), b"")
        .file("twice", "1")
        .file("twice", "22");
    jail.unpack(&archive.done()).unwrap();
    let root = jail.root();
    assert!(root.join("file-dir").is_dir() && root.join("dir-file").is_file());
    assert!(root.join("dir-link").is_symlink() && !root.join("link-dir").is_symlink());
    assert_eq!(
        (jail.read("link-dir/etc/passwd").as_str(), jail.read("twice").as_str()),
        ("in", "22")
    );
    assert_eq!(jail.read("dir-dir/kept"), "1");
    assert_eq!(fs::metadata(root.join("dir-dir")).unwrap().mode() & 0o7777, 0o700);
}
