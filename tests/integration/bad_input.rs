//! Hostile and careless requests: the right code, a sentence that names the thing, and nothing left (yardstick §2.5).

use copepod_proto::cri;
use tonic::Code;

use crate::harness::{Daemon, busybox, run};
use crate::request;

/// Text that must never become part of a path or a log line as it is.
fn hostile() -> Vec<String> {
    let long = "a".repeat(10_000);
    ["..", "a/b", "../../etc", "a\nb", "a\0b", "\u{1b}[31m", &long, "ü"]
        .map(str::to_owned)
        .into()
}

#[test]
fn q1_hostile_ids_are_refused_or_unknown() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        for id in hostile() {
            for status in [
                client.status(&id).await.map(drop),
                client.pod_status(&id).await.map(drop),
                client.start(&id).await,
            ] {
                let status = status.unwrap_err();
                assert!(
                    matches!(status.code(), Code::InvalidArgument | Code::NotFound),
                    "{id:.20?}: {status}"
                );
                assert!(status.message().len() < 1_000 && !status.message().contains('\u{1b}'));
            }
        }
        assert_eq!(client.status("").await.unwrap_err().code(), Code::InvalidArgument);
        for id in ["0000", &"f".repeat(64)] {
            client.stop_pod(id).await.unwrap();
            client.remove_pod(id).await.unwrap();
            client.remove(id).await.unwrap();
            assert_eq!(client.start(id).await.unwrap_err().code(), Code::NotFound);
        }
    });
    daemon.finish();
}

#[test]
fn q2_q3_q4_q5_q6_bad_pods_leave_nothing() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let good = request::pod(daemon.top());
        let mut bad = Vec::new();
        let mut vary = |what: &'static str, change: &dyn Fn(&mut cri::PodSandboxConfig)| {
            let mut config = good.clone();
            change(&mut config);
            bad.push((what, config));
        };
        vary("no metadata", &|config| config.metadata = None);
        vary("no name", &|config| config.metadata.as_mut().unwrap().name.clear());
        vary("no uid", &|config| config.metadata.as_mut().unwrap().uid.clear());
        vary("name with newline", &|config| {
            config.metadata.as_mut().unwrap().name = "a\nb".into()
        });
        vary("long name", &|config| {
            config.metadata.as_mut().unwrap().name = "a".repeat(10_000)
        });
        vary("long hostname", &|config| config.hostname = "h".repeat(65));
        vary("relative log directory", &|config| config.log_directory = "logs".into());
        vary("climbing log directory", &|config| {
            config.log_directory = "/var/../../etc".into()
        });
        vary("climbing cgroup", &|config| {
            config.linux.as_mut().unwrap().cgroup_parent = "/a/../../b".into()
        });
        vary("relative cgroup", &|config| {
            config.linux.as_mut().unwrap().cgroup_parent = "a".into()
        });
        let sysctl = |key: &str, value: &str| {
            let (key, value) = (key.to_owned(), value.to_owned());
            move |config: &mut cri::PodSandboxConfig| {
                config
                    .linux
                    .as_mut()
                    .unwrap()
                    .sysctls
                    .insert(key.clone(), value.clone());
            }
        };
        vary("host sysctl", &sysctl("kernel.core_pattern", "|/x"));
        vary(
            "cve_2022_0811",
            &sysctl("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x"),
        );
        vary("climbing sysctl", &sysctl("net/../kernel/core_pattern", "x"));
        vary("newline in sysctl", &sysctl("kernel.shm_rmid_forced", "1\n2"));
        vary("cve_2022_0532", &|config| {
            let linux = config.linux.as_mut().unwrap();
            linux.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
            let node = cri::NamespaceOption {
                network: cri::NamespaceMode::Node.into(),
                ..request::private_pid()
            };
            linux.security_context.as_mut().unwrap().namespace_options = Some(node);
        });
        vary("group without user", &|config| {
            let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
            security.run_as_group = Some(cri::Int64Value { value: 5 });
        });
        for (what, config) in &bad {
            let status = client.run_pod(config).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        }
        let request = cri::RunPodSandboxRequest {
            config: Some(good.clone()),
            runtime_handler: "no-such".into(),
        };
        let status = client.runtime.run_pod_sandbox(request).await.unwrap_err();
        assert!(
            status.code() == Code::InvalidArgument && status.message().contains("no-such"),
            "{status}"
        );
        daemon.assert_nothing_left();
        client.run_pod(&good).await.unwrap();
    });
    daemon.finish();
}

#[test]
fn bad_containers_leave_nothing_and_the_good_one_follows() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let quiet = daemon.traces();
        let good = request::container("c", "exec sleep 1000");
        let mut bad = Vec::new();
        let mut vary = |what: &'static str, code: Code, change: &dyn Fn(&mut cri::ContainerConfig)| {
            let mut spec = good.clone();
            change(&mut spec);
            bad.push((what, code, spec));
        };
        let user = |spec: &mut cri::ContainerConfig, value| {
            let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
            security.run_as_user = Some(cri::Int64Value { value });
        };
        vary("no metadata", Code::InvalidArgument, &|spec| spec.metadata = None);
        vary("no name", Code::InvalidArgument, &|spec| {
            spec.metadata.as_mut().unwrap().name.clear()
        });
        vary("no image", Code::InvalidArgument, &|spec| spec.image = None);
        vary("absent image", Code::NotFound, &|spec| {
            spec.image.as_mut().unwrap().image = "example.com/absent:1".into()
        });
        vary("climbing log", Code::InvalidArgument, &|spec| {
            spec.log_path = "../../etc/passwd".into()
        });
        vary("absolute log", Code::InvalidArgument, &|spec| {
            spec.log_path = "/etc/passwd".into()
        });
        vary("cve_2024_40635 negative", Code::InvalidArgument, &|spec| user(spec, -1));
        vary("cve_2024_40635 huge", Code::InvalidArgument, &|spec| {
            user(spec, 4_294_967_296)
        });
        vary("unknown capability", Code::InvalidArgument, &|spec| {
            let security = spec.linux.as_mut().unwrap().security_context.as_mut().unwrap();
            security.capabilities = Some(cri::Capability {
                add_capabilities: vec!["FLY".into()],
                ..Default::default()
            });
        });
        vary("relative mount", Code::InvalidArgument, &|spec| {
            spec.mounts = vec![cri::Mount {
                container_path: "a".into(),
                host_path: "/tmp".into(),
                ..Default::default()
            }];
        });
        vary("climbing mount", Code::InvalidArgument, &|spec| {
            spec.mounts = vec![cri::Mount {
                container_path: "/a/../..".into(),
                host_path: "/tmp".into(),
                ..Default::default()
            }];
        });
        vary("unknown user name", Code::InvalidArgument, &|spec| {
            spec.linux
                .as_mut()
                .unwrap()
                .security_context
                .as_mut()
                .unwrap()
                .run_as_username = "nobody-here".into();
        });
        for (what, code, spec) in bad {
            let status = client.create(&pod, &config, spec).await.unwrap_err();
            assert_eq!(status.code(), code, "{what}: {status}");
            assert!(!status.message().is_empty());
        }
        assert_eq!(daemon.traces().since(&quiet), Vec::<String>::new());
        client.create(&pod, &config, good).await.unwrap();
    });
    daemon.finish();
}

#[test]
fn what_is_not_built_names_itself() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let status = client
            .runtime
            .checkpoint_container(cri::CheckpointContainerRequest::default())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("CheckpointContainer"), "{status}");
        let status = client
            .runtime
            .get_container_events(cri::GetEventsRequest {})
            .await
            .unwrap_err();
        assert!(
            status.code() == Code::Unimplemented && status.message().contains("GetContainerEvents"),
            "{status}"
        );
    });
    daemon.finish();
}
