mod fake;
mod real;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use copepod_proto::bundle::{ExitRecord, StartRecord, VERSION, write_exit, write_start};
use tokio::time::timeout;

use self::fake::{Fake, FakeShim, Script};
use super::bundle::{ShimProcess, read_shim, write_shim};
use super::*;
use crate::domain::container::Signal;
use crate::domain::exec::ExecOutput;
use crate::domain::mount::FsMount;

const SOON: Duration = Duration::from_secs(10);

/// A driver whose directories exist and whose shim is whatever the test puts there.
fn runtime(state: &std::path::Path) -> (Runtime, tokio::sync::mpsc::UnboundedReceiver<TaskExit>) {
    fs::create_dir_all(state.join("c")).unwrap();
    let (announcer, exits) = Announcer::new();
    let config = Config {
        shim: "/nonexistent".into(),
        state: state.to_owned(),
        instance: "test".into(),
        force_fallbacks: Vec::new(),
    };
    let runtime = Runtime {
        config,
        cgroups: Arc::new(Cgroups::detect().unwrap()),
        shim: "/nonexistent".into(),
        shim_cgroups: Vec::new(),
        announcer: Arc::new(announcer),
    };
    (runtime, exits)
}

fn end(code: i32) -> ExitRecord {
    ExitRecord {
        version: VERSION,
        exit_code: code,
        oom_killed: false,
        started_at: 5,
        exited_at: 9,
        start_error: None,
    }
}

async fn adopted(runtime: &Runtime, id: &ContainerId) -> Arc<Task> {
    match runtime.adopt(id).await.unwrap() {
        Adopted::Running(task, pid, started) => {
            assert_eq!((pid, started), (77, Timestamp(5)));
            task
        }
        other @ (Adopted::Created(_) | Adopted::Ended(_) | Adopted::Lost) => panic!("{other:?}"),
    }
}

/// A running container with a fake shim, adopted.
async fn running(script: Script) -> (tempfile::TempDir, Runtime, Fake, Arc<Task>, ContainerId) {
    let (top, runtime, fake, id, _exits) = served(script).await;
    let task = adopted(&runtime, &id).await;
    (top, runtime, fake, task, id)
}

type Served = (
    tempfile::TempDir,
    Runtime,
    Fake,
    ContainerId,
    tokio::sync::mpsc::UnboundedReceiver<TaskExit>,
);

async fn served(script: Script) -> Served {
    let top = tempfile::tempdir().unwrap();
    let (runtime, exits) = runtime(top.path());
    let id = ContainerId::generate();
    let dir = runtime.bundle(&id);
    fs::create_dir(&dir).unwrap();
    let spec = format!(r#"{{"linux":{{"cgroupsPath":"/copepod-test-runtime/{id}"}}}}"#);
    fs::write(dir.join("config.json"), spec).unwrap();
    let started = StartRecord {
        version: VERSION,
        pid: 77,
        started_at: 5,
    };
    write_start(&dir, &started).unwrap();
    let fake = FakeShim::serve(&dir, script).await;
    (top, runtime, fake, id, exits)
}

#[tokio::test]
async fn an_exit_is_told_once_with_what_the_record_says() {
    let (_top, runtime, fake, id, mut exits) = served(Script::default()).await;
    let _task = adopted(&runtime, &id).await;
    write_exit(&runtime.bundle(&id), &end(3)).unwrap();
    fake.exit(3);
    let told = timeout(SOON, exits.recv()).await.unwrap().unwrap();
    assert_eq!((&told.id, told.exit.as_ref().unwrap().code), (&id, 3));
    runtime
        .cleanup(&id, &runtime.bundle_cgroup(&id).unwrap())
        .await
        .unwrap();
    assert!(exits.try_recv().is_err(), "told twice");
    assert!(!runtime.bundle(&id).exists());
}

#[tokio::test]
async fn a_dead_shim_with_a_record_is_an_exit_and_without_one_is_lost() {
    for record in [Some(end(137)), None] {
        let (_top, runtime, fake, id, mut exits) = served(Script::default()).await;
        let _task = adopted(&runtime, &id).await;
        if let Some(record) = &record {
            write_exit(&runtime.bundle(&id), record).unwrap();
        }
        fake.die().await;
        let told = timeout(SOON, exits.recv()).await.unwrap().unwrap();
        assert_eq!(
            told.exit.map(|end| end.code),
            record.as_ref().map(|record| record.exit_code)
        );
        // A daemon that starts now finds the same.
        match (runtime.adopt(&id).await.unwrap(), record) {
            (Adopted::Ended(end), Some(record)) => assert_eq!(end.code, record.exit_code),
            (Adopted::Lost, None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn x6_a_shim_that_does_not_answer_is_not_lost() {
    let (_top, runtime, _fake, id, _exits) = served(Script {
        silent: true,
        ..Script::default()
    })
    .await;
    let error = runtime.adopt(&id).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Silent { .. }), "{error}");
}

#[tokio::test]
async fn an_unfinished_record_is_trouble_and_not_lost() {
    let top = tempfile::tempdir().unwrap();
    let (runtime, _exits) = runtime(top.path());
    let id = ContainerId::generate();
    fs::create_dir(runtime.bundle(&id)).unwrap();
    fs::write(runtime.bundle(&id).join("exit.json"), "{\"version\":99}").unwrap();
    assert!(matches!(runtime.adopt(&id).await, Err(RuntimeError::Record { .. })));
}

#[tokio::test]
async fn a_broken_connection_to_a_living_shim_is_made_anew() {
    let (_top, runtime, fake, id, mut exits) = served(Script::default()).await;
    let _task = adopted(&runtime, &id).await;
    fake.hang_up();
    write_exit(&runtime.bundle(&id), &end(4)).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fake.exit(4);
    let told = timeout(SOON, exits.recv()).await.unwrap().unwrap();
    assert_eq!(told.exit.unwrap().code, 4);
}

#[tokio::test]
async fn a_start_error_is_told_apart() {
    let (_top, runtime, _fake, task, id) = running(Script {
        start_error: Some("exec /nope: no such file".into()),
        ..Script::default()
    })
    .await;
    let record = ExitRecord {
        start_error: Some("exec /nope: no such file".into()),
        ..end(128)
    };
    write_exit(&runtime.bundle(&id), &record).unwrap();
    let error = task.start().await.unwrap_err();
    assert_eq!(error.start_error(), Some("exec /nope: no such file"));
    assert!(!error.is_timeout());
}

#[tokio::test]
async fn signalling_what_has_ended_is_fine() {
    let (_top, _runtime, _fake, task, _id) = running(Script {
        kill_refused: true,
        ..Script::default()
    })
    .await;
    task.signal(Signal::TERM).await.unwrap();
    task.kill().await.unwrap();
}

fn exec() -> ExecSpec {
    ExecSpec {
        process: b"{}".to_vec(),
        stdin: false,
    }
}

#[tokio::test]
async fn an_exec_gives_code_and_both_streams() {
    let (_top, _runtime, fake, task, _id) = running(Script::exec("printf out; printf err >&2; exit 7")).await;
    let output = task.exec_collect(exec(), Some(SOON), 1000).await.unwrap();
    let expected = ExecOutput {
        code: 7,
        stdout: b"out".to_vec(),
        stderr: b"err".to_vec(),
    };
    assert_eq!(output, expected);
    assert_eq!(fake.killed(), 0);
    let mut times: Vec<_> = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        task.exec_collect(exec(), Some(SOON), 1000).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("exec with a fake shim: median {:?}", times[10]);
}

#[tokio::test]
async fn output_is_bounded_together_and_the_command_still_ends() {
    let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 0";
    let (_top, _runtime, _fake, task, _id) = running(Script::exec(script)).await;
    let output = task.exec_collect(exec(), Some(SOON), 4_000_000).await.unwrap();
    assert_eq!((output.code, output.stdout.len() + output.stderr.len()), (0, 4_000_000));
}

#[tokio::test]
async fn a_time_out_kills_and_says_so() {
    let (_top, _runtime, fake, task, _id) = running(Script::exec("exec sleep 100")).await;
    let begun = Instant::now();
    let error = task
        .exec_collect(exec(), Some(Duration::from_millis(200)), 1000)
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(fake.killed(), 1);
}

#[tokio::test]
async fn an_exec_that_nobody_waits_for_is_killed() {
    let (_top, _runtime, fake, task, _id) = running(Script::exec("exec sleep 100")).await;
    let gave_up = timeout(Duration::from_millis(200), task.exec_collect(exec(), None, 1000)).await;
    assert!(gave_up.is_err());
    let until = Instant::now() + SOON;
    while fake.killed() == 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fake.killed(), 1);
}

#[tokio::test]
async fn background_children_do_not_hold_the_answer() {
    let (_top, _runtime, _fake, task, _id) = running(Script::exec("sleep 3 & echo early; exit 0")).await;
    let begun = Instant::now();
    let output = task.exec_collect(exec(), Some(SOON), 1000).await.unwrap();
    assert_eq!(output.stdout, b"early\n");
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn cleanup_ends_a_hung_shim_and_nobody_else() {
    let top = tempfile::tempdir().unwrap();
    let (runtime, mut exits) = runtime(top.path());
    let id = ContainerId::generate();
    let mut hung = Command::new("sleep").arg("100").spawn().unwrap();
    let mut stranger = Command::new("sleep").arg("100").spawn().unwrap();
    let pid = hung.id().cast_signed();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::STOP,
    )
    .unwrap();
    let dir = runtime.bundle(&id);
    fs::create_dir(&dir).unwrap();
    write_shim(&dir, shim::examine(pid).unwrap()).unwrap();
    runtime.announcer.expect(&id);
    let reaped = std::thread::spawn(move || hung.wait().unwrap());
    runtime.cleanup(&id, "").await.unwrap();
    reaped.join().unwrap();
    assert_eq!(
        exits.try_recv().unwrap(),
        TaskExit {
            id: id.clone(),
            exit: None
        }
    );
    // The same number, another start: a process that came later.
    fs::create_dir(&dir).unwrap();
    let pid = stranger.id().cast_signed();
    let earlier = ShimProcess {
        started: shim::examine(pid).unwrap().started - 1,
        pid,
    };
    write_shim(&dir, earlier).unwrap();
    assert_eq!(read_shim(&dir), Some(earlier));
    runtime.cleanup(&id, "").await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    runtime.cleanup(&id, "").await.unwrap();
}

#[tokio::test]
async fn a_state_directory_that_is_too_long_is_refused_with_the_room_it_has() {
    let config = |state: &str| Config {
        shim: "/nonexistent/shim".into(),
        state: state.into(),
        instance: "test".into(),
        force_fallbacks: Vec::new(),
    };
    let error = Runtime::open(config("/a/very/long/name/of/a/state/directory"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`state` may have 30 at most"), "{error}");
    let error = Runtime::open(config("/run/copepod")).await.unwrap_err();
    assert!(matches!(error, RuntimeError::ShimMissing { .. }), "{error}");
}

/// A "shim" that is a script: enough to be opened, started and refused.
fn script(top: &std::path::Path, serve: &str) -> PathBuf {
    let path = top.join("shim.sh");
    let text = format!(
        "#!/bin/sh\ncase $1 in\n--version) echo containerd-shim-copepod-v1 {};;\nserve) {serve};;\npin) cat >&2; echo '{{\"error\":\"make namespaces: EPERM\",\"errno\":1}}'; exit 1;;\nesac\n",
        env!("CARGO_PKG_VERSION")
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_shim_that_does_not_get_ready_leaves_nothing() {
    for (serve, says) in [
        ("echo 'error: bind: no room'", "bind: no room"),
        ("echo oh dear >&2; exit 3", "it ended, saying: oh dear"),
        ("exit 0", "it ended without a word"),
    ] {
        let top = tempfile::tempdir().unwrap();
        let config = Config {
            shim: script(top.path(), serve),
            state: top.path().join("s"),
            instance: format!("test-{}", std::process::id()),
            force_fallbacks: Vec::new(),
        };
        let (runtime, _exits) = Runtime::open(config.clone()).await.unwrap();
        // Opening again, as after a restart, finds its mounts and makes none on top.
        let (again, _exits) = Runtime::open(config).await.unwrap();
        assert!(
            fs::write(&again.shim, "x").is_err(),
            "the copy of the shim can be written"
        );
        let id = ContainerId::generate();
        let build = Build {
            id: id.clone(),
            spec: b"{}".to_vec(),
            rootfs: FsMount {
                fstype: "overlay".into(),
                source: "overlay".into(),
                options: Vec::new(),
            },
            stdio: Stdio::default(),
        };
        let error = runtime.create(build).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(runtime.bundles().unwrap().is_empty());
        let target = top.path().join("s/ns/net");
        let pin = Pin {
            net: Some(target.clone()),
            sysctls: BTreeMap::new(),
            ..Pin::default()
        };
        let error = runtime.pin(&pin).await.unwrap_err();
        assert_eq!(error.to_string(), "make the pod's namespaces: make namespaces: EPERM");
        assert!(!target.exists());
        runtime.close().unwrap();
        assert!(
            !fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(top.path().to_str().unwrap())
        );
    }
}
