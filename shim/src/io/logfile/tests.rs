use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use copepod_proto::bundle::LogTarget;

use super::{OpenLogError, open_log};

fn target(directory: &Path, path: &str) -> LogTarget {
    LogTarget {
        directory: directory.to_owned(),
        path: PathBuf::from(path),
        max_line_bytes: 16_384,
    }
}

#[test]
fn makes_missing_parents_and_appends() {
    let scratch = tempfile::tempdir().unwrap();
    let log = target(scratch.path(), "a/b/0.log");
    rustix::io::write(open_log(&log).unwrap(), b"one\n").unwrap();
    rustix::io::write(open_log(&log).unwrap(), b"two\n").unwrap();
    assert_eq!(std::fs::read(scratch.path().join("a/b/0.log")).unwrap(), b"one\ntwo\n");
    let mode = |path: &str| {
        std::fs::metadata(scratch.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("a") & 0o700, mode("a/b/0.log") & 0o600), (0o700, 0o600));
}

#[test]
fn the_log_directory_itself_may_be_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("real")).unwrap();
    symlink("real", scratch.path().join("link")).unwrap();
    open_log(&target(&scratch.path().join("link"), "0.log")).unwrap();
    assert!(scratch.path().join("real/0.log").exists());
}

#[test]
fn refuses_paths_that_leave_the_directory() {
    let scratch = tempfile::tempdir().unwrap();
    for path in ["", ".", "..", "../x", "a/../../x", "/etc/x"] {
        let refused = open_log(&target(scratch.path(), path));
        assert!(matches!(refused, Err(OpenLogError::Path { .. })), "{path}: {refused:?}");
    }
}

#[test]
fn follows_no_link_below_the_directory() {
    let (scratch, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("victim"), b"canary").unwrap();
    symlink(outside.path(), scratch.path().join("parent")).unwrap();
    symlink(outside.path().join("victim"), scratch.path().join("file")).unwrap();
    symlink(outside.path().join("new"), scratch.path().join("dangling")).unwrap();
    assert!(matches!(
        open_log(&target(scratch.path(), "parent/new")),
        Err(OpenLogError::Parent { .. })
    ));
    assert!(matches!(
        open_log(&target(scratch.path(), "file")),
        Err(OpenLogError::File { .. })
    ));
    assert!(matches!(
        open_log(&target(scratch.path(), "dangling")),
        Err(OpenLogError::File { .. })
    ));
    assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"canary");
    assert!(!outside.path().join("new").exists());
}

#[test]
fn refuses_what_is_not_a_regular_file() {
    let scratch = tempfile::tempdir().unwrap();
    let fifo = scratch.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(
        open_log(&target(scratch.path(), "fifo")),
        Err(OpenLogError::NotRegular { .. })
    ));
    std::fs::create_dir(scratch.path().join("directory")).unwrap();
    assert!(open_log(&target(scratch.path(), "directory")).is_err());
}
