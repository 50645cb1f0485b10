//! What an archive tries to reach outside of its root: climbing names, links, hard links, whiteouts.

use super::*;
use crate::image::tests::archive::head;

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
