//! A container's standard input and its terminal, while nobody is attached.

use std::fs;
use std::time::Duration;

use copepod_proto::cri;

use crate::harness::{Daemon, busybox, run};
use crate::request;

fn with_stdin(name: &str, script: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        stdin: true,
        ..request::container(name, script)
    }
}

#[test]
fn a_container_with_stdin_waits_for_input_although_nobody_is_attached() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (pod, waiting) = client.running(&config, with_stdin("cat", "exec cat")).await;
        let closed = client
            .create(&pod, &config, request::container("closed", "cat; echo ended; exit 7"))
            .await
            .unwrap();
        client.start(&closed).await.unwrap();
        assert_eq!(
            client.ended(&closed).await.exit_code,
            7,
            "without stdin there is no input"
        );
        let input = client.output(&waiting, "readlink /proc/1/fd/0").await;
        assert!(input.starts_with("pipe:"), "{input}");

        daemon.kill();
        daemon.spawn();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut client = daemon.client().await;
        let running = cri::ContainerState::ContainerRunning;
        assert_eq!(client.status(&waiting).await.unwrap().state(), running);
        client.stop(&waiting, 0).await.unwrap();
        assert_eq!(client.ended(&waiting).await.exit_code, 137);
    });
    daemon.finish();
}

#[test]
fn its_user_may_open_the_input_pipe_again() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let mut spec = with_stdin("c", "exec 3</dev/stdin && echo opened && exec sleep 1000");
        let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.run_as_user = Some(cri::Int64Value { value: 1234 });
        let (_, container) = client.running(&config, spec).await;
        let path = client.status(&container).await.unwrap().log_path;
        crate::harness::wait_until("the container's word", || {
            fs::read_to_string(&path).unwrap_or_default().contains("F opened")
        });
    });
    daemon.finish();
}

#[test]
fn a_terminal_is_logged_as_standard_output_and_takes_execs() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        for stdin in [false, true] {
            let script = "tty; [ -c /dev/console ] && echo console; echo wrong >&2; exec sleep 1000";
            let spec = cri::ContainerConfig {
                tty: true,
                stdin,
                ..request::container(&format!("tty-{stdin}"), script)
            };
            let pod_config = request::pod(daemon.top());
            let (_, container) = client.running(&pod_config, spec).await;
            let path = client.status(&container).await.unwrap().log_path;
            let text = || fs::read_to_string(&path).unwrap_or_default();
            crate::harness::wait_until("the last line", || text().contains("wrong\r\n"));
            let lines: Vec<String> = text()
                .split_terminator('\n')
                .map(|line| line.split_once(' ').expect("a time comes first").1.to_owned())
                .collect();
            // The terminal turns line feeds into two characters, and the log keeps what the terminal gives.
            let expected = ["/dev/pts/0", "console", "wrong"].map(|said| format!("stdout F {said}\r"));
            assert_eq!(lines, expected, "stdin {stdin}");

            let done = client.exec(&container, "echo out; echo err >&2; tty").await.unwrap();
            assert_eq!(
                (done.stdout, done.stderr),
                (b"out\nnot a tty\n".to_vec(), b"err\n".to_vec())
            );
            client.stop(&container, 0).await.unwrap();
            assert_eq!(client.ended(&container).await.exit_code, 137);
        }
    });
    daemon.finish();
}

#[test]
fn a_terminals_program_that_ends_takes_nothing_of_its_output_along() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        for round in 0..10 {
            let spec = cri::ContainerConfig {
                tty: true,
                ..request::container(&format!("c{round}"), "seq 1 2000; exit 3")
            };
            let container = client.create(&pod, &config, spec).await.unwrap();
            client.start(&container).await.unwrap();
            let status = client.ended(&container).await;
            assert_eq!(status.exit_code, 3);
            let log = fs::read_to_string(&status.log_path).unwrap();
            assert_eq!(log.lines().count(), 2000, "round {round}");
        }
    });
    daemon.finish();
}
