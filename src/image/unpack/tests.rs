use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::image::tests::archive::{Archive, gzip, head, record, zstd};
use crate::image::verify::digest_of;

/// A root to unpack into, inside of a tree that nothing may touch.
struct Jail {
    dir: tempfile::TempDir,
}

const CANARY: &str = "canary";

impl Jail {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), CANARY).unwrap();
        fs::write(dir.path().join("outside"), CANARY).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    fn unpack_as(&self, blob: &[u8], tar: &[u8], compression: Compression) -> Result<Unpacked, UnpackError> {
        let order = Order {
            digest: digest_of(blob),
            size: blob.len() as u64,
            compression,
            diff_id: digest_of(tar),
        };
        self.unpack_order(blob, &order)
    }

    fn unpack_order(&self, blob: &[u8], order: &Order) -> Result<Unpacked, UnpackError> {
        let root = File::open(self.root()).unwrap();
        let result = layer(blob, root.as_fd(), order, &Budget::default());
        self.check();
        result
    }

    fn unpack(&self, tar: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_as(tar, tar, Compression::None)
    }

    /// Everything outside of the root is as it was, whatever an archive said.
    fn check(&self) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["etc", "outside", "root"]);
        assert_eq!(fs::read_dir(self.dir.path().join("etc")).unwrap().count(), 1);
        for file in ["etc/passwd", "outside"] {
            let path = self.dir.path().join(file);
            assert_eq!(fs::read_to_string(&path).unwrap(), CANARY);
            let found = fs::metadata(&path).unwrap();
            assert_eq!(
                (found.mode() & 0o7777, found.uid(), found.nlink()),
                (0o644, 0, 1),
                "{file}"
            );
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }
}

fn good(archive: Archive) -> Jail {
    let jail = Jail::new();
    jail.unpack(&archive.done()).unwrap();
    jail
}

#[track_caller]
fn refuses(archive: Archive) {
    let jail = Jail::new();
    let error = jail.unpack(&archive.done()).expect_err("it must be refused");
    assert!(error.is_of_content(), "{error}");
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

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
fn l1_names_that_climb_are_refused_and_absolute_ones_stay_inside() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(300);
    for name in ["../x", "a/../../x", "..", "a/..", "/../x", "./../x", "a/../b"] {
        refuses(Archive::default().file(name, ""));
        refuses(Archive::default().dir(name));
        refuses(Archive::default().symlink(name, "x"));
    }
    for name in [&long, &deep, &"p/".repeat(3000), "x\0y"] {
        refuses(Archive::default().pax(&[("path", name)]).file("n", ""));
    }
    refuses(Archive::default().file("", ""));
    refuses(Archive::default().file("slash/", "x"));
    let jail = good(
        Archive::default()
            .file("/abs", "1")
            .file("//./etc//passwd", "2")
            .dir("/")
            .dir("./")
            .dir("."),
    );
    assert_eq!(
        (jail.read("abs").as_str(), jail.read("etc/passwd").as_str()),
        ("1", "2")
    );
}

#[test]
fn cve_2021_29136_the_root_can_only_be_a_directory() {
    for name in [".", "./", "/", "//"] {
        for flag in *b"0123467" {
            if !(flag == b'0' && name.ends_with('/')) {
                refuses(Archive::default().add(head(name, flag).link("/etc").device(1, 3), b""));
            }
        }
    }
}

#[test]
fn l2_writing_through_symbolic_links_stays_inside() {
    let jail = Jail::new();
    let outside = jail.outside();
    let up = "../../../../../../../../../../..";
    let tmp = jail.dir.path().display().to_string();
    let archive = Archive::default()
        .symlink("abs", &tmp)
        .symlink("up", &format!("{up}{tmp}"))
        .symlink("file", &outside)
        .file("abs/etc/passwd", "in")
        .file("up/new", "in")
        .add(head("abs/dev", b'3').device(1, 3), b"")
        .dir("up/etc/d")
        .hardlink("abs/h", "up/new")
        .file("abs/.wh.outside", "")
        // The link itself is replaced, never followed.
        .add(head("file", b'0').mode(0o777).ids(1, 1).size(2), b"in");
    jail.unpack(&archive.done()).unwrap();
    let inside = jail.root().join(tmp.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(inside.join("etc/passwd")).unwrap(), "in");
    assert_eq!(fs::read_to_string(inside.join("h")).unwrap(), "in");
    assert!(is_whiteout(&inside.join("outside")) && inside.join("etc/d").is_dir());
    assert_eq!(jail.read("file"), "in");
}

#[test]
fn l2_link_loops_and_long_chains_are_refused() {
    refuses(Archive::default().symlink("loop", "loop").file("loop/x", ""));
    refuses(
        Archive::default()
            .symlink("a", "b/b")
            .symlink("b", "a/a")
            .file("a/x", ""),
    );
    let mut chain = Archive::default().dir("l0");
    for n in 1..=45 {
        chain = chain.symlink(&format!("l{n}"), &format!("l{}", n - 1));
    }
    refuses(chain.clone().file("l45/x", ""));
    let jail = good(chain.file("l30/x", "deep"));
    assert_eq!(jail.read("l0/x"), "deep");
    refuses(Archive::default().file("f", "").file("f/x", ""));
    refuses(Archive::default().symlink("empty", "").file("x", ""));
}

#[test]
fn cve_2025_47290_a_parent_that_becomes_a_link_between_entries_is_looked_up_anew() {
    let jail = Jail::new();
    let target = jail.dir.path().join("etc").display().to_string();
    let archive = Archive::default()
        .dir("etc")
        .file("etc/a", "1")
        .symlink("etc", &target)
        .file("etc/passwd", "2")
        // A link to its own directory, replaced through itself.
        .symlink("self", ".")
        .file("self/b", "3")
        .symlink("self/self", &target)
        .file("self/passwd", "4");
    jail.unpack(&archive.done()).unwrap();
    let inside = jail.root().join(target.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(inside.join("passwd")).unwrap(), "4");
}

#[test]
fn l3_hard_links_only_to_earlier_files_of_the_layer() {
    let outside = Jail::new();
    for target in [
        "../outside",
        "/etc/shadow",
        "later",
        "dir",
        "l",
        "null",
        "self",
        ".wh.x",
        "x",
        "",
        ".",
        "dir/../f",
    ] {
        refuses(
            Archive::default()
                .file("f", "")
                .dir("dir")
                .symlink("l", &outside.outside())
                .add(head("null", b'3').device(1, 3), b"")
                .file(".wh.x", "")
                .hardlink("self", target)
                .file("later", ""),
        );
    }
    let jail = good(
        Archive::default()
            .file("f", "1")
            .hardlink("f", "f")
            .file("g", "2")
            .hardlink("g", "f"),
    );
    assert_eq!((jail.read("f").as_str(), jail.read("g").as_str()), ("1", "1"));
    refuses(Archive::default().file("d/f", "1").hardlink("d", "d/f"));
}

#[test]
fn l4_whiteouts_in_any_order_hide_only_what_is_below() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.x/y", "a/.wh..wh..opq/y"] {
        refuses(Archive::default().dir("a").file(name, ""));
    }
    refuses(Archive::default().dir(".wh.d"));
    refuses(Archive::default().symlink(".wh.d", "/"));
    let first = Archive::default()
        .file(".wh.file", "")
        .file(".wh.dir", "")
        .file(".wh.made", "")
        .file(".wh.gone", "");
    let files = |archive: Archive| {
        archive
            .file("file", "1")
            .dir("dir")
            .file("dir/a", "2")
            .file("made/a", "3")
    };
    let then = files(Archive::default())
        .file(".wh.file", "")
        .file(".wh.dir", "")
        .file(".wh.made", "")
        .file(".wh.gone", "");
    for archive in [files(first), then] {
        let jail = good(archive.file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", ""));
        let root = jail.root();
        assert_eq!((jail.read("file").as_str(), jail.read("dir/a").as_str()), ("1", "2"));
        assert_eq!(jail.read("made/a"), "3");
        assert!(is_opaque(&root.join("dir")) && is_opaque(&root.join("made")));
        assert!(is_whiteout(&root.join("gone")));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
    }
}

#[test]
fn l5_opaque_directories_and_overlay_s_own_marks() {
    let before = Archive::default().dir("d").file("d/.wh..wh..opq", "").file("d/a", "1");
    let after = Archive::default().file("d/a", "1").file("d/.wh..wh..opq", "");
    for archive in [before, after] {
        let jail = good(archive);
        assert!(is_opaque(&jail.root().join("d")) && !is_opaque(&jail.root()));
        assert_eq!(jail.read("d/a"), "1");
    }
    refuses(Archive::default().file(".wh..wh..opq", ""));
    refuses(Archive::default().add(head("w", b'3').device(0, 0), b""));
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.x",
        "user.overlay.opaque",
    ] {
        let key = format!("SCHILY.xattr.{name}");
        refuses(Archive::default().pax(&[(&key, "y")]).dir("d"));
        refuses(Archive::default().pax(&[(&key, "y")]).file("f", ""));
        refuses(Archive::default().pax(&[(&key, "y")]).symlink("l", "x"));
    }
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

#[test]
fn l13_names_are_kept_byte_for_byte() {
    use std::os::unix::ffi::OsStrExt;
    let name = b"a\xff\xfe\n\x1b[31m";
    let jail = good(Archive::default().add(head("", b'0').raw(0, name), b""));
    assert!(jail.root().join(std::ffi::OsStr::from_bytes(name)).exists());
    let refused = Archive::default()
        .add(head("", b'3').raw(0, b"\xff\n").device(0, 0), b"")
        .done();
    let error = Jail::new().unpack(&refused).unwrap_err().to_string();
    assert!(error.contains(r#""\xff\n""#), "{error}");
}

#[test]
fn cve_2021_32760_modes_are_never_set_through_links() {
    let jail = Jail::new();
    let archive = Archive::default()
        .symlink("l", &jail.outside())
        .add(head("l2", b'2').link(&jail.outside()).mode(0o777).ids(1, 1), b"")
        .hardlink("h", "l2");
    assert!(jail.unpack(&archive.done()).is_err());
    let archive = Archive::default().add(head("l2", b'2').link(&jail.outside()).mode(0o4777).ids(1, 1), b"");
    let _fresh = fs::remove_file(jail.root().join("l2"));
    jail.unpack(&archive.done()).unwrap();
}

#[test]
fn parents_that_are_missing_are_made_inside_even_behind_links() {
    let jail = good(
        Archive::default()
            .file("a/b/c", "1")
            .symlink("var/run", "/run/../run/./deep")
            .file("var/run/pid", "2"),
    );
    assert_eq!(
        (jail.read("a/b/c").as_str(), jail.read("run/deep/pid").as_str()),
        ("1", "2")
    );
    assert_eq!(fs::metadata(jail.root().join("a")).unwrap().mode() & 0o7777, 0o755);
    let jail = Jail::new();
    symlink(jail.dir.path(), jail.root().join("planted")).unwrap();
    jail.unpack(&Archive::default().file("planted/etc/passwd", "in").done())
        .unwrap();
}

mod differential;
mod malformed;
mod random;
