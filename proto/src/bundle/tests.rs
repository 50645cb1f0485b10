use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{
    EXIT, ExitRecord, LogTarget, MAX_RECORD, OPTIONS, RecordError, ShimOptions, StartRecord, VERSION, read_exit,
    read_options, read_start, write_exit, write_options, write_start,
};

fn exit() -> ExitRecord {
    ExitRecord {
        version: VERSION,
        exit_code: 137,
        oom_killed: true,
        started_at: 1,
        exited_at: i64::MAX,
        start_error: Some("exec \"/x\": no such file".into()),
    }
}

fn options() -> ShimOptions {
    ShimOptions {
        version: VERSION,
        log: Some(LogTarget {
            directory: "/var/log/pods/p".into(),
            path: "c/0.log".into(),
            max_line_bytes: 16384,
        }),
        tty: false,
        stdin: true,
        stdin_once: true,
        shim_cgroups: vec!["/sys/fs/cgroup/pids/x".into()],
        seccomp_cache: None,
        force_fallbacks: vec!["clone3".into()],
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_record_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let start = StartRecord {
        version: VERSION,
        pid: 4711,
        started_at: 1_700_000_000_000_000_000,
    };
    write_options(dir.path(), &options()).unwrap();
    write_start(dir.path(), &start).unwrap();
    write_exit(dir.path(), &exit()).unwrap();
    assert_eq!(read_options(dir.path()).unwrap(), Some(options()));
    assert_eq!(read_start(dir.path()).unwrap(), Some(start));
    assert_eq!(read_exit(dir.path()).unwrap(), Some(exit()));
    assert_eq!(names(dir.path()), ["exit.json", "shim.json", "start.json"]);
}

#[test]
fn a_missing_record_is_none_and_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_exit(dir.path()).unwrap(), None);
    assert_eq!(read_exit(&dir.path().join("no-such-bundle")).unwrap(), None);
}

#[test]
fn writing_replaces_the_file_and_keeps_it_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(EXIT);
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    write_exit(dir.path(), &exit()).unwrap();
    assert_eq!(read_exit(dir.path()).unwrap(), Some(exit()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_newer_record_is_refused_by_name_even_when_its_fields_differ() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(EXIT), r#"{"version": 2, "code": "renamed"}"#).unwrap();
    let error = read_exit(dir.path()).unwrap_err();
    assert!(matches!(error, RecordError::Newer { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("exit.json has version 2"), "{error}");
}

#[test]
fn a_broken_record_says_what_was_done_and_keeps_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    for broken in [
        "",
        "{",
        "[]",
        r#"{"exit_code": 0}"#,
        r#"{"version": 1}"#,
        r#"{"version": -1}"#,
    ] {
        fs::write(dir.path().join(OPTIONS), broken).unwrap();
        let error = read_options(dir.path()).unwrap_err();
        assert!(matches!(error, RecordError::Parse { .. }), "{broken:?}: {error}");
        assert!(
            error.to_string().starts_with("parse /") && error.source().is_some(),
            "{error}"
        );
    }
    fs::write(
        dir.path().join(OPTIONS),
        vec![b' '; usize::try_from(MAX_RECORD).unwrap() + 1],
    )
    .unwrap();
    assert!(matches!(
        read_options(dir.path()).unwrap_err(),
        RecordError::TooLarge { .. }
    ));
    let unwritable = write_exit(&dir.path().join("no-such-bundle"), &exit()).unwrap_err();
    assert!(matches!(unwritable, RecordError::Write { .. }), "{unwritable}");
}

#[test]
fn a_failed_write_leaves_the_old_record_and_no_litter() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that is not empty cannot be renamed over.
    fs::create_dir_all(dir.path().join(EXIT).join("in-the-way")).unwrap();
    let error = write_exit(dir.path(), &exit()).unwrap_err();
    assert!(matches!(error, RecordError::Rename { .. }), "{error}");
    assert_eq!(names(dir.path()), [EXIT]);
}
