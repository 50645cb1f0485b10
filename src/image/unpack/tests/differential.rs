//! Benign trees packed by GNU tar in each of its formats must come out of our unpacker as out of GNU tar itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Compression, Jail, gzip, xattr};

/// Everything of a file that an image keeps.
type Facts = (u32, u32, u32, i64, i64, u64, u64, Vec<u8>, Option<Vec<u8>>);

fn facts(top: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![top.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let size = if kind.is_file() { meta.len() } else { 0 };
        let device = if kind.is_char_device() || kind.is_block_device() {
            meta.rdev()
        } else {
            0
        };
        let links = if kind.is_file() { meta.nlink() } else { 0 };
        let capability = xattr(&path, "user.kept");
        let time = (meta.mtime(), meta.mtime_nsec());
        let relative = path.strip_prefix(top).unwrap().to_owned();
        found.insert(
            relative,
            (
                meta.mode(),
                meta.uid(),
                meta.gid(),
                time.0,
                time.1,
                size + device,
                links,
                content,
                capability,
            ),
        );
    }
    found
}

fn grow(top: &Path) {
    fs::create_dir_all(top.join("usr/lib/deep/er")).unwrap();
    symlink("usr/lib", top.join("lib")).unwrap();
    symlink("/absolute/and/dangling", top.join("dangling")).unwrap();
    for (name, length) in [("empty", 0), ("small", 5), ("block", 512), ("big", 700_001)] {
        let content: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
        fs::write(top.join("usr/lib").join(name), content).unwrap();
    }
    fs::hard_link(top.join("usr/lib/small"), top.join("usr/hard")).unwrap();
    let long = "long-".repeat(40);
    fs::write(top.join("usr").join(&long), "long").unwrap();
    symlink(format!("{long}{long}"), top.join("usr/long-link")).unwrap();
    fs::write(top.join("usr/späce \"q\" \\ b"), "odd").unwrap();
    fs::write(top.join("usr/setuid"), "s").unwrap();
    chown(top.join("usr/setuid"), Some(12), Some(3_000_000)).unwrap();
    fs::set_permissions(top.join("usr/setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(top.join("usr/lib/deep"), fs::Permissions::from_mode(0o1700)).unwrap();
    rustix::fs::setxattr(
        top.join("usr/setuid"),
        "user.kept",
        b"v\0w",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("fifo"),
        fifo,
        rustix::fs::Mode::from(0o640),
        0,
    )
    .unwrap();
    let device = rustix::fs::FileType::CharacterDevice;
    let numbers = rustix::fs::makedev(5, 261);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("tty"),
        device,
        rustix::fs::Mode::from(0o620),
        numbers,
    )
    .unwrap();
}

fn tar(args: &[&str]) {
    let done = Command::new("tar")
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn unpacks_as_gnu_tar_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(path("tree")).unwrap();
    grow(Path::new(&path("tree")));
    for (format, more) in [("gnu", "--no-xattrs"), ("pax", "--xattrs")] {
        let (archive, theirs) = (path(format), path(&format!("{format}-theirs")));
        tar(&[
            "-C",
            &path("tree"),
            "--format",
            format,
            more,
            "--numeric-owner",
            "-cf",
            &archive,
            ".",
        ]);
        fs::create_dir(&theirs).unwrap();
        tar(&[
            "-C",
            &theirs,
            more,
            "--xattrs-include=user.*",
            "--numeric-owner",
            "-xpf",
            &archive,
        ]);
        let bytes = fs::read(&archive).unwrap();
        let jail = Jail::new();
        jail.unpack_as(&gzip(&bytes), &bytes, Compression::Gzip).unwrap();
        let (ours, theirs) = (facts(&jail.root()), facts(Path::new(&theirs)));
        assert!(ours.len() > 17);
        for (name, expected) in &theirs {
            assert_eq!(ours.get(name), Some(expected), "{format}: {}", name.display());
        }
        assert_eq!(ours.len(), theirs.len());
    }
}
