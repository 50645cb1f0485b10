//! The log writer, from outside: whole logs, rotation, death and a stalled disk.

#[path = "support/shim.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code, shared by several binaries none of which uses all of it"
)]
mod support;

use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use copepod_proto::shim::ReopenLogRequest;
use rustix::process::{Pid, Signal, kill_process};
use support::{Log, Setup, Shim, context, possible, records, until};

/// Standard output's bytes, put together from records.
fn output(records: &[(String, String, String)]) -> String {
    let of_stdout = records.iter().filter(|(stream, ..)| stream == "stdout");
    of_stdout
        .map(|(_, tag, text)| if tag == "F" { format!("{text}\n") } else { text.clone() })
        .collect()
}

fn numbers(to: u32) -> String {
    (1..=to).map(|n| format!("{n}\n")).collect()
}

#[tokio::test]
async fn the_log_is_whole_when_the_exit_is_known() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("seq 1 200000; printf end")).await;
    assert_eq!(shim.wait().await, 0);
    let log = shim.log();
    assert!(output(&log) == numbers(200_000) + "end");
    assert_eq!(log.last().unwrap(), &("stdout".into(), "P".into(), "end".into()));
}

#[tokio::test]
async fn reopening_under_a_flood_loses_and_doubles_nothing() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("seq 1 3000000")).await;
    let mut parts = Vec::new();
    for n in 0..10 {
        let rotated = shim.log_path().with_extension(n.to_string());
        std::fs::rename(shim.log_path(), &rotated).unwrap();
        shim.own.reopen_log(context(), &ReopenLogRequest::new()).await.unwrap();
        // Nothing more goes to the old one.
        parts.push(std::fs::read_to_string(&rotated).unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(std::fs::read_to_string(&rotated).unwrap().len(), parts[n].len());
    }
    assert_eq!(shim.wait().await, 0);
    parts.push(std::fs::read_to_string(shim.log_path()).unwrap());
    assert!(
        parts.iter().filter(|part| !part.is_empty()).count() > 2,
        "the flood spans rotations"
    );
    assert!(output(&records(&parts.concat())) == numbers(3_000_000));
}

#[tokio::test]
async fn a_killed_log_writer_is_replaced_and_the_container_does_not_notice() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh(
        "n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo $n; sleep 0.02; done; exit 4",
    ))
    .await;
    until("it writes", || shim.log().len() > 5).await;
    let first = shim.writer();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    until("another writer", || {
        support::children(shim.pid()).len() == 2 && shim.writer() != first
    })
    .await;
    assert_eq!(shim.wait().await, 4);
    let log = output(&shim.log());
    assert!(log == numbers(60), "{log}");
}

#[tokio::test]
async fn a_stalled_log_stalls_neither_state_nor_exec_nor_kill() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("echo up; while :; do echo flood; done")).await;
    until("it writes", || !shim.log().is_empty()).await;
    // A stopped writer is what a writer in an unending write looks like to everybody else.
    let writer = Pid::from_raw(shim.writer()).unwrap();
    kill_process(writer, Signal::STOP).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    assert_eq!(shim.state().await.status.enum_value(), Ok(api::Status::RUNNING));
    let (code, out, _) = shim.exec_sync("probe", &["/bin/echo", "ok"]).await;
    assert_eq!((code, out.as_str()), (0, "ok\n"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    shim.kill(9).await;
    // The exit is announced without the rest of the log, late but surely.
    assert_eq!(shim.wait().await, 137);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    kill_process(writer, Signal::CONT).unwrap();
}

#[tokio::test]
async fn a_container_without_a_log_runs_all_the_same() {
    if !possible() {
        return;
    }
    let mut setup = Setup::sh("seq 1 100000; exit 2");
    setup.log = Log::None;
    let shim = Shim::run(setup).await;
    assert_eq!(shim.wait().await, 2);
    shim.own
        .reopen_log(context(), &ReopenLogRequest::new())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_refuses_create_by_name() {
    if !possible() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", scratch.path().join("0.log")).unwrap();
    let mut setup = Setup::sh("echo x");
    setup.log = Log::At(scratch.path().to_owned(), "0.log".into());
    let shim = Shim::spawn(&setup);
    let error = shim.try_create().await.unwrap_err().to_string();
    assert!(error.contains("0.log") && error.contains("symbolic link"), "{error}");
    // Mended, it works: Create may be asked for again.
    std::fs::remove_file(scratch.path().join("0.log")).unwrap();
    shim.try_create().await.unwrap();
    shim.start().await.unwrap();
    assert_eq!(shim.wait().await, 0);
    assert!(
        std::fs::read_to_string(scratch.path().join("0.log"))
            .unwrap()
            .ends_with("stdout F x\n")
    );
}

#[tokio::test]
async fn a_full_disk_holds_the_container_up_and_loses_nothing() {
    if !possible() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path();
    rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), c"size=256k").unwrap();
    let mut setup = Setup::sh("seq 1 100000");
    setup.log = Log::At(path.to_owned(), "0.log".into());
    let shim = Shim::run(setup).await;
    let log = path.join("0.log");
    until("the disk is full", || {
        std::fs::metadata(&log).unwrap().len() >= 256 * 1024
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shim.state().await.status.enum_value(), Ok(api::Status::RUNNING));
    rustix::mount::mount_remount(path, rustix::mount::MountFlags::empty(), c"size=64m").unwrap();
    assert_eq!(shim.wait().await, 0);
    let whole = output(&records(&std::fs::read_to_string(&log).unwrap())) == numbers(100_000);
    drop(shim);
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(whole);
}
