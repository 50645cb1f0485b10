//! Containers: states, exit codes and reasons, logs, exec, and what a container may see (CRI contract §4, §6–§8).

use std::fs;
use std::time::{Duration, Instant};

use copepod_proto::cri;
use tonic::Code;

use crate::harness::{Daemon, busybox, run};
use crate::request;

fn messages(log: &str) -> Vec<&str> {
    log.lines()
        .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default())
        .collect()
}

#[test]
fn exit_codes_and_reasons() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let cases = [
            ("zero", "exit 0", 0, "Completed"),
            ("seven", "exit 7", 7, "Error"),
            ("killed", "kill -9 $$; sleep 5", 137, "Error"),
        ];
        for (name, script, code, reason) in cases {
            // As PID 1 of its namespace a shell is immune to its own signals: a child's death counts instead.
            let script = if name == "killed" {
                "sh -c 'kill -9 $$'; exit $?"
            } else {
                script
            };
            let container = client
                .create(&pod, &config, request::container(name, script))
                .await
                .unwrap();
            let created = client.status(&container).await.unwrap();
            assert_eq!(
                (created.state(), created.started_at),
                (cri::ContainerState::ContainerCreated, 0)
            );
            client.start(&container).await.unwrap();
            let status = client.ended(&container).await;
            assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{name}");
            assert!(status.created_at > 0 && status.started_at >= status.created_at);
            assert!(status.finished_at >= status.started_at);
            assert_eq!(
                client.start(&container).await.unwrap_err().code(),
                Code::FailedPrecondition
            );
        }
        let again = client
            .create(&pod, &config, request::container("zero", "exit 0"))
            .await
            .unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists);
    });
    daemon.finish();
}

#[test]
fn what_cannot_be_executed_fails_at_start_and_stays_as_start_error() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let mut spec = request::container("missing", "");
        spec.command = vec!["/no/such/program".to_owned()];
        let container = client.create(&pod, &config, spec).await.unwrap();
        let error = client.start(&container).await.unwrap_err();
        assert!(error.message().contains("/no/such/program"), "{error}");
        let status = client.status(&container).await.unwrap();
        assert_eq!(
            (status.state(), status.exit_code),
            (cri::ContainerState::ContainerExited, 128)
        );
        assert_eq!(status.reason, "StartError");
        assert!(status.message.contains("/no/such/program") && status.started_at > 0);
        client.stop(&container, 1).await.unwrap();
        client.remove(&container).await.unwrap();
    });
    daemon.finish();
}

#[test]
fn the_kernels_oom_killer_is_named() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let mut spec = request::container("greedy", "exec dd if=/dev/zero of=/dev/null bs=64M");
        spec.linux.as_mut().unwrap().resources = Some(cri::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            memory_swap_limit_in_bytes: 16 << 20,
            ..Default::default()
        });
        let container = client.create(&pod, &config, spec).await.unwrap();
        client.start(&container).await.unwrap();
        let status = client.ended(&container).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    });
    daemon.finish();
}

#[test]
fn the_log_is_complete_when_the_end_is_seen() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; echo err >&2; printf tail";
        let container = client
            .create(&pod, &config, request::container("talk", script))
            .await
            .unwrap();
        client.start(&container).await.unwrap();
        let status = client.ended(&container).await;
        let log = fs::read_to_string(&status.log_path).unwrap();
        let lines = messages(&log);
        assert_eq!(lines.iter().filter(|line| line.starts_with("line ")).count(), 5000);
        assert!(log.lines().any(|line| line.contains(" stderr F err")));
        assert!(
            log.lines().any(|line| line.ends_with(" stdout P tail")),
            "an unterminated end is partial"
        );
    });
    daemon.finish();
}

#[test]
fn reopening_a_log_under_flood_loses_nothing() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let script = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done";
        let (_, container) = client.running(&config, request::container("flood", script)).await;
        let path = client.status(&container).await.unwrap().log_path;
        let mut parts = Vec::new();
        for number in 0..5 {
            let rotated = format!("{path}.{number}");
            fs::rename(&path, &rotated).unwrap();
            let request = cri::ReopenContainerLogRequest {
                container_id: container.clone(),
            };
            match client.runtime.reopen_container_log(request).await {
                Ok(_) => parts.push(rotated),
                Err(status) => {
                    // It has ended: the renamed file is the last one.
                    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                    fs::rename(&rotated, &path).unwrap();
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        client.ended(&container).await;
        parts.push(path);
        let whole: String = parts
            .iter()
            .map(|part| fs::read_to_string(part).unwrap_or_default())
            .collect();
        let numbers: Vec<u32> = messages(&whole).iter().map(|line| line.parse().unwrap()).collect();
        assert!(
            numbers.iter().copied().eq(0..60000),
            "a gap or a repetition among {} lines",
            numbers.len()
        );
    });
    daemon.finish();
}

#[test]
fn exec_gives_output_and_code_and_ends_at_its_time_out() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (_, container) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        let done = client.exec(&container, "echo out; echo err >&2; exit 3").await.unwrap();
        assert_eq!(
            (done.stdout.as_slice(), done.stderr.as_slice(), done.exit_code),
            (&b"out\n"[..], &b"err\n"[..], 3)
        );
        // Daemonised children of a timed-out exec end with it.
        let begun = Instant::now();
        let error = client
            .exec_within(&container, "setsid sleep 4321 & sleep 4322", 1)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(
            client.output(&container, "pgrep sleep | wc -l").await,
            "1",
            "only the container's own sleep is left"
        );
        // A background child that keeps the pipes must not hold the call.
        let begun = Instant::now();
        client.exec(&container, "sleep 30 & echo hi").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        let missing = cri::ExecSyncRequest {
            container_id: container.clone(),
            cmd: vec!["/nope".into()],
            timeout: 5,
        };
        assert!(
            client
                .runtime
                .exec_sync(missing)
                .await
                .unwrap_err()
                .message()
                .contains("/nope")
        );
        client.stop(&container, 0).await.unwrap();
        assert_eq!(
            client.exec(&container, "true").await.unwrap_err().code(),
            Code::FailedPrecondition
        );
    });
    daemon.finish();
}

#[test]
fn cve_2022_31030_output_of_an_exec_is_bounded() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (_, container) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        let mut roomy = client.clone();
        roomy.runtime = roomy.runtime.max_decoding_message_size(64 << 20);
        let done = roomy
            .exec(&container, "dd if=/dev/zero bs=1M count=40 2>/dev/null")
            .await
            .unwrap();
        assert_eq!(done.stdout.len() + done.stderr.len(), 15 << 20);
        assert_eq!(done.exit_code, 0, "the command itself runs to its end");
    });
    daemon.finish();
}

#[test]
fn a_stop_signals_waits_and_kills() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let polite = request::container(
            "polite",
            "trap 'exit 5' TERM; touch /ready; while :; do sleep 0.1; done",
        );
        let (pod, polite) = client.running(&config, polite).await;
        // Before its trap is set a first process does not even see the signal.
        client.output(&polite, "until [ -e /ready ]; do sleep 0.02; done").await;
        client.stop(&polite, 10).await.unwrap();
        assert_eq!(client.status(&polite).await.unwrap().exit_code, 5);
        let stubborn = request::container("stubborn", "trap '' TERM; while :; do sleep 0.1; done");
        let stubborn = client.create(&pod, &config, stubborn).await.unwrap();
        client.start(&stubborn).await.unwrap();
        let begun = Instant::now();
        // A later call with a shorter time-out shortens the wait of the first.
        let (mut first, id) = (client.clone(), stubborn.clone());
        let waiting = tokio::spawn(async move { first.stop(&id, 60).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.stop(&stubborn, 1).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(client.status(&stubborn).await.unwrap().exit_code, 137);
        client.stop(&stubborn, 10).await.unwrap();
        client.stop("0123", 10).await.unwrap();
    });
    daemon.finish();
}

#[test]
fn what_a_default_container_sees_of_itself() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let mut spec = request::container("c", "exec sleep 1000");
        let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.masked_paths = vec!["/proc/kcore".to_owned(), "/proc/scsi".to_owned()];
        security.readonly_paths = vec!["/proc/sys".to_owned()];
        security.no_new_privs = true;
        let (_, container) = client.running(&config, spec).await;
        let status = client.output(&container, "cat /proc/1/status").await;
        let field = |name: &str| {
            status
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(field("CapInh:"), "CapInh:\t0000000000000000", "CVE-2022-24769");
        assert_eq!(field("CapAmb:"), "CapAmb:\t0000000000000000");
        assert_eq!(field("CapBnd:"), "CapBnd:\t00000000a80425fb");
        assert_eq!(field("Seccomp:"), "Seccomp:\t2");
        assert_eq!(field("NoNewPrivs:"), "NoNewPrivs:\t1");
        assert_eq!(
            client
                .output(&container, "head -c 1 /proc/kcore | wc -c; ls /proc/scsi | wc -l")
                .await,
            "0\n0"
        );
        assert!(
            client
                .exec(&container, "echo 1 > /proc/sys/vm/swappiness")
                .await
                .unwrap()
                .exit_code
                != 0
        );
        let fds = client
            .output(&container, "for fd in /proc/1/fd/*; do readlink $fd; done")
            .await;
        let ours = |target: &str| target == "/dev/null" || target.starts_with("pipe:");
        assert!(fds.lines().all(ours), "CVE-2024-21626: {fds}");
        // Blocked by the default profile, whatever the capabilities (yardstick §1.7).
        assert!(client.exec(&container, "unshare -U true").await.unwrap().exit_code != 0);
    });
    daemon.finish();
}

#[test]
fn users_groups_and_capabilities() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let mut spec = request::container("c", "exec sleep 1000");
        let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.run_as_user = Some(cri::Int64Value { value: 1000 });
        security.run_as_group = Some(cri::Int64Value { value: 2000 });
        security.supplemental_groups = vec![3000];
        let (pod, container) = client.running(&config, spec).await;
        assert_eq!(client.output(&container, "id -u; id -g").await, "1000\n2000");
        let groups = client.output(&container, "grep ^Groups /proc/self/status").await;
        let groups: Vec<_> = groups.split_whitespace().skip(1).collect();
        assert_eq!(groups, ["2000", "3000"]);
        let caps = client
            .output(&container, "grep -E '^Cap(Eff|Prm|Amb)' /proc/self/status")
            .await;
        assert!(
            caps.lines().all(|line| line.ends_with("0000000000000000")),
            "CVE-2016-8867: {caps}"
        );
        let user = client.status(&container).await.unwrap().user.unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid), (1000, 2000));

        let mut spec = request::container("none", "exec sleep 1000");
        let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.capabilities = Some(cri::Capability {
            drop_capabilities: vec!["ALL".into()],
            ..Default::default()
        });
        let container = client.create(&pod, &config, spec).await.unwrap();
        client.start(&container).await.unwrap();
        assert_eq!(
            client.output(&container, "grep ^CapBnd /proc/self/status").await,
            "CapBnd:\t0000000000000000"
        );

        let mut spec = request::container("group", "true");
        let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.run_as_group = Some(cri::Int64Value { value: 1 });
        assert_eq!(
            client.create(&pod, &config, spec).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    });
    daemon.finish();
}

#[test]
fn volumes_are_bound_and_status_echoes_them() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let (real, link) = (daemon.top().join("volume"), daemon.top().join("link"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join("file"), "content").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let config = request::pod(daemon.top());
        let mut spec = request::container("c", "exec sleep 1000");
        let mount = |path: &str, readonly| cri::Mount {
            container_path: path.to_owned(),
            host_path: link.to_str().unwrap().to_owned(),
            readonly,
            ..Default::default()
        };
        spec.mounts = vec![mount("/rw/deep", false), mount("/ro", true)];
        let (_, container) = client.running(&config, spec.clone()).await;
        assert_eq!(
            client
                .output(&container, "cat /rw/deep/file; echo new > /rw/deep/made; cat /ro/made")
                .await,
            "contentnew"
        );
        assert!(client.exec(&container, "touch /ro/x").await.unwrap().exit_code != 0);
        assert_eq!(fs::read_to_string(real.join("made")).unwrap(), "new\n");
        assert_eq!(client.status(&container).await.unwrap().mounts, spec.mounts);
    });
    daemon.finish();
}

#[test]
fn statistics_count() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let script =
            "head -c 3000000 /dev/zero > /file; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; exec sleep 1000";
        let (_, container) = client.running(&config, request::container("c", script)).await;
        let begun = Instant::now();
        loop {
            let request = cri::ContainerStatsRequest {
                container_id: container.clone(),
            };
            let stats = client
                .runtime
                .container_stats(request)
                .await
                .unwrap()
                .into_inner()
                .stats
                .unwrap();
            assert_eq!(stats.attributes.unwrap().id, container);
            let (cpu, memory, layer) = (stats.cpu.unwrap(), stats.memory.unwrap(), stats.writable_layer.unwrap());
            assert!(cpu.timestamp > 0 && memory.timestamp > 0);
            let used = |value: Option<cri::UInt64Value>| value.map_or(0, |value| value.value);
            if used(cpu.usage_core_nano_seconds) > 0
                && used(memory.working_set_bytes) > 0
                && used(layer.used_bytes) >= 3_000_000
            {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the counters stand still");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let listed = client
            .runtime
            .list_container_stats(cri::ListContainerStatsRequest::default())
            .await
            .unwrap();
        assert_eq!(listed.into_inner().stats.len(), 1);
    });
    daemon.finish();
}
