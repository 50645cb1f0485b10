use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::image::tests::archive::Archive;
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

mod attributes;
mod differential;
mod escapes;
mod streams;
