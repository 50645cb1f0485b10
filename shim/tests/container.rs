//! A container's life through the task API, seen from outside.

#[path = "support/shim.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code, shared by several binaries none of which uses all of it"
)]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use containerd_shim_protos::api;
use copepod_proto::bundle;
use support::{Setup, Shim, alive, children, context, possible, status, until};

#[tokio::test]
async fn a_container_is_created_started_waited_for_and_deleted() {
    if !possible() {
        return;
    }
    let mut shim = Shim::create(Setup::sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!(shim.state().await.status.enum_value(), Ok(api::Status::CREATED));
    assert_eq!(shim.log(), [], "nothing runs before Start");
    shim.start().await.unwrap();
    let started = bundle::read_start(&shim.bundle()).unwrap().expect("a start record");
    assert_eq!(started.pid, shim.init);
    assert_eq!(shim.wait().await, 7);
    // The exit record and the whole log are there by the time anybody hears of the exit.
    let exit = bundle::read_exit(&shim.bundle()).unwrap().expect("an exit record");
    assert_eq!((exit.exit_code, exit.oom_killed, exit.start_error), (7, false, None));
    assert_eq!(exit.started_at, started.started_at);
    assert!(exit.exited_at >= exit.started_at);
    let mut log = shim.log();
    log.sort();
    assert_eq!(
        log,
        [
            ("stderr".into(), "F".into(), "err".into()),
            ("stdout".into(), "F".into(), "out".into())
        ]
    );
    // Late waiters hear it too.
    assert_eq!(shim.wait().await, 7);
    let state = shim.state().await;
    assert_eq!(
        (state.status.enum_value(), state.exit_status),
        (Ok(api::Status::STOPPED), 7)
    );
    let deleted = shim.delete().await.unwrap();
    assert_eq!(
        (deleted.exit_status, deleted.pid),
        (7, u32::try_from(shim.init).unwrap())
    );
    assert_eq!(
        shim.delete().await.unwrap().exit_status,
        7,
        "deleting again says the same"
    );
    shim.shutdown().await;
    assert!(!shim.bundle().join("task.sock").exists());
}

#[tokio::test]
async fn a_signal_is_128_and_its_number() {
    if !possible() {
        return;
    }
    for signal in [9, 15] {
        let shim = Shim::run(Setup::sh("trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done")).await;
        until("the trap is set", || !shim.log().is_empty()).await;
        shim.kill(signal).await;
        assert_eq!(shim.wait().await, 128 + signal);
        shim.delete().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_a_start_error_with_status_128() {
    if !possible() {
        return;
    }
    let mut setup = Setup::sh("");
    setup.args = vec!["/bin/no-such-program"];
    let shim = Shim::create(setup).await;
    let error = shim.start().await.unwrap_err().to_string();
    assert!(
        error.contains("no-such-program") || error.contains("No such file"),
        "{error}"
    );
    let exit = bundle::read_exit(&shim.bundle()).unwrap().expect("an exit record");
    assert_eq!((exit.exit_code, exit.started_at), (128, 0));
    assert!(exit.start_error.is_some());
    assert_eq!(shim.wait().await, 128);
    assert!(
        bundle::read_start(&shim.bundle()).unwrap().is_none(),
        "it never started"
    );
}

#[tokio::test]
async fn a_created_container_can_be_deleted_without_having_run() {
    if !possible() {
        return;
    }
    let shim = Shim::create(Setup::sh("echo ran")).await;
    assert_eq!(shim.delete().await.unwrap().exit_status, 137);
    assert_eq!(shim.log(), []);
    assert!(!alive(shim.init));
}

#[tokio::test]
async fn verbs_are_refused_in_the_wrong_phase_and_for_another_container() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 60")).await;
    let refused = |error: ttrpc::Error| {
        let ttrpc::Error::RpcStatus(status) = error else {
            panic!("{error:?}");
        };
        (status.code(), status.message)
    };
    let (code, text) = refused(shim.start().await.unwrap_err());
    assert_eq!(
        (code, text.as_str()),
        (ttrpc::Code::FAILED_PRECONDITION, "start: the container is running")
    );
    let (code, text) = refused(shim.delete().await.unwrap_err());
    assert_eq!(
        (code, text.as_str()),
        (ttrpc::Code::FAILED_PRECONDITION, "delete: the container is running")
    );
    let other = api::StateRequest {
        id: "other".into(),
        ..Default::default()
    };
    assert_eq!(
        refused(shim.task.state(context(), &other).await.unwrap_err()).0,
        ttrpc::Code::NOT_FOUND
    );
    let update = api::UpdateTaskRequest {
        id: shim.id.clone(),
        ..Default::default()
    };
    let (code, text) = refused(shim.task.update(context(), &update).await.unwrap_err());
    assert_eq!(code, ttrpc::Code::UNIMPLEMENTED);
    assert_eq!(text, "UpdateContainerResources is not supported by this shim yet");
    let bad = api::KillRequest {
        id: shim.id.clone(),
        signal: 900,
        ..Default::default()
    };
    assert_eq!(
        refused(shim.task.kill(context(), &bad).await.unwrap_err()).0,
        ttrpc::Code::INVALID_ARGUMENT
    );
}

#[tokio::test]
async fn the_shim_has_one_thread_private_sockets_and_no_inherited_descriptor() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 60")).await;
    for process in [shim.pid(), shim.writer()] {
        assert_eq!(status(process, "Threads"), "1");
    }
    for socket in ["task.sock", "fd.sock"] {
        let mode = std::fs::metadata(shim.bundle().join(socket))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{socket}");
    }
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", shim.pid())).unwrap();
    // CAP_SYS_RESOURCE is bit 24; without it (a test machine without that capability) the score cannot be lowered.
    let capabilities = u64::from_str_radix(&status(shim.pid(), "CapEff"), 16).unwrap();
    assert_eq!(score.trim(), if capabilities >> 24 & 1 == 1 { "-998" } else { "0" });
    let request = api::ConnectRequest {
        id: shim.id.clone(),
        ..Default::default()
    };
    let connected = shim.task.connect(context(), &request).await.unwrap();
    assert_eq!(
        (connected.shim_pid, connected.task_pid),
        (shim.process.id(), u32::try_from(shim.init).unwrap())
    );
}

#[tokio::test]
async fn a_second_shim_for_the_same_bundle_is_refused() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 60")).await;
    let second = std::process::Command::new(support::binary())
        .args(["serve", "--id", "x", "--bundle"])
        .arg(shim.bundle())
        .output()
        .unwrap();
    let word = String::from_utf8(second.stdout).unwrap();
    assert!(word.starts_with("error: another shim serves "), "{word}");
    assert!(!second.status.success());
    assert_eq!(
        shim.state().await.status.enum_value(),
        Ok(api::Status::RUNNING),
        "the first one is unharmed"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_a_whole_container() {
    if !possible() {
        return;
    }
    let shim = Shim::spawn(&Setup::sh("sleep 60"));
    // The request is written and the connection closed at once.
    let impatient = ttrpc::r#async::Client::new(support::ttrpc_socket(&shim.bundle().join("task.sock")));
    let task = containerd_shim_protos::shim_async::TaskClient::new(impatient);
    let at = |name: &str| shim.scratch.path().join(name).display().to_string();
    let options = vec![
        format!("lowerdir={}", at("lower")),
        format!("upperdir={}", at("upper")),
        format!("workdir={}", at("work")),
    ];
    let mount = api::Mount {
        type_: "overlay".into(),
        source: "overlay".into(),
        options,
        ..Default::default()
    };
    let request = api::CreateTaskRequest {
        id: shim.id.clone(),
        rootfs: vec![mount],
        ..Default::default()
    };
    let _cut = tokio::time::timeout(Duration::from_micros(300), task.create(context(), &request)).await;
    drop(task);
    tokio::time::sleep(Duration::from_millis(200)).await;
    match shim.state().await.status.enum_value() {
        Ok(api::Status::CREATED) => shim.start().await.unwrap(),
        Ok(api::Status::UNKNOWN) => {
            shim.try_create().await.unwrap();
            shim.start().await.unwrap();
        }
        other => panic!("half a container: {other:?}"),
    }
}

#[tokio::test]
async fn the_end_of_the_first_process_ends_everything() {
    if !possible() {
        return;
    }
    let mut setup = Setup::sh("(setsid sleep 300 >/dev/null 2>&1 &) ; (setsid sleep 300 &) ; exit 3");
    // Without a PID namespace of its own the kernel does not do it for us.
    setup.namespaces = serde_json::json!([{"type": "mount"}]);
    let shim = Shim::run(setup).await;
    let begun = std::time::Instant::now();
    assert_eq!(shim.wait().await, 3);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "a daemon that holds the log open delayed the exit"
    );
    let request = api::PidsRequest {
        id: shim.id.clone(),
        ..Default::default()
    };
    assert!(shim.task.pids(context(), &request).await.unwrap().processes.is_empty());
    shim.delete().await.unwrap();
    until("orphans are reaped", || children(shim.pid()).is_empty()).await;
}
