//! Pod sandboxes: state machine, namespaces, files, idempotence (CRI contract §3, §5).

use std::fs;

use copepod_proto::cri;
use tonic::Code;

use crate::harness::{Daemon, busybox, run};
use crate::request;

#[test]
fn a_pods_life_and_what_repetition_does() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let again = client.run_pod(&config).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists);
        assert!(again.message().contains(&pod), "{again}");

        let status = client.pod_status(&pod[..20]).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
        assert_eq!(status.metadata, config.metadata);
        let echoed = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(echoed, request::private_pid());
        assert!(!status.network.unwrap().ip.is_empty());

        client.stop_pod(&pod).await.unwrap();
        client.stop_pod(&pod).await.unwrap();
        let status = client.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
        assert!(status.network.is_none_or(|network| network.ip.is_empty()));
        client.remove_pod(&pod).await.unwrap();
        client.remove_pod(&pod).await.unwrap();
        assert_eq!(client.pod_status(&pod).await.unwrap_err().code(), Code::NotFound);
        let pod = client.run_pod(&config).await.unwrap();
        client.remove_pod(&pod).await.unwrap();
    });
    daemon.finish();
}

#[test]
fn a_repeated_run_joins_the_one_in_flight() {
    let daemon = Daemon::start();
    run(async {
        let config = request::pod(daemon.top());
        let mut calls = Vec::new();
        for _ in 0..20 {
            let (mut client, config) = (daemon.client().await, config.clone());
            calls.push(tokio::spawn(async move { client.run_pod(&config).await }));
        }
        let mut ids = Vec::new();
        for call in calls {
            match call.await.unwrap() {
                Ok(id) => ids.push(id),
                Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status}"),
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "one pod whatever the number of calls");
        let mut client = daemon.client().await;
        let listed = client
            .runtime
            .list_pod_sandbox(cri::ListPodSandboxRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(listed.items.len(), 1);
    });
    daemon.finish();
}

#[test]
fn files_and_hostname_are_the_pods() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let mut config = request::pod(daemon.top());
        config.hostname = "given-name".to_owned();
        config.dns_config = Some(cri::DnsConfig {
            servers: vec!["10.10.10.10".to_owned()],
            searches: vec!["example.com".to_owned()],
            options: vec!["ndots:8".to_owned()],
        });
        let (_, container) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        assert_eq!(
            client.output(&container, "hostname; cat /etc/hostname").await,
            "given-name\ngiven-name"
        );
        let resolv = client.output(&container, "cat /etc/resolv.conf").await;
        assert_eq!(resolv, "search example.com\nnameserver 10.10.10.10\noptions ndots:8");
        assert!(client.output(&container, "cat /etc/hosts").await.contains("given-name"));
        assert_eq!(
            client
                .output(&container, "stat -f -c %T /dev/shm; stat -c %a /dev/shm")
                .await,
            "tmpfs\n1777"
        );
    });
    daemon.finish();
}

#[test]
fn containers_of_a_pod_share_network_ipc_and_uts_but_not_pids() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (pod, first) = client
            .running(&config, request::container("a", "exec sleep 1000"))
            .await;
        let second = client
            .create(&pod, &config, request::container("b", "exec sleep 1000"))
            .await
            .unwrap();
        client.start(&second).await.unwrap();
        for (kind, shared) in [
            ("net", true),
            ("ipc", true),
            ("uts", true),
            ("pid", false),
            ("mnt", false),
        ] {
            let look = format!("readlink /proc/self/ns/{kind}");
            let (a, b) = (client.output(&first, &look).await, client.output(&second, &look).await);
            assert_eq!(a == b, shared, "{kind}");
            let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(a, ours.to_str().unwrap(), "{kind} is the host's");
        }
        client.output(&first, "echo shared > /dev/shm/x").await;
        assert_eq!(client.output(&second, "cat /dev/shm/x").await, "shared");
    });
    daemon.finish();
}

#[test]
fn a_shared_pid_namespace_has_an_init_that_reaps() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let mut config = request::pod(daemon.top());
        let shared = cri::NamespaceOption::default();
        config
            .linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
            .namespace_options = Some(shared.clone());
        let mut spec = request::container("a", "exec sleep 1000");
        spec.linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
            .namespace_options = Some(shared.clone());
        let (_, container) = client.running(&config, spec).await;
        assert_ne!(client.output(&container, "echo $$").await, "1");
        // A child that loses its parent is init's to reap.
        client.output(&container, "(sleep 0.1 &) ; exit 0").await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert_eq!(
            client
                .output(
                    &container,
                    "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null || true"
                )
                .await,
            ""
        );
    });
    daemon.finish();
}

#[test]
fn host_network_is_the_hosts_and_sysctls_are_the_pods() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let mut config = request::pod(daemon.top());
        config.hostname.clear();
        let node = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            ..request::private_pid()
        };
        config
            .linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
            .namespace_options = Some(node.clone());
        let mut spec = request::container("a", "exec sleep 1000");
        spec.linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
            .namespace_options = Some(node.clone());
        let (pod, container) = client.running(&config, spec).await;
        let inside = client.output(&container, "readlink /proc/self/ns/net").await;
        assert_eq!(inside, fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
        let status = client.pod_status(&pod).await.unwrap();
        assert_eq!(status.linux.unwrap().namespaces.unwrap().options.unwrap(), node);

        let mut config = request::pod(daemon.top());
        let sysctls = [
            ("kernel.shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "100"),
            ("net.ipv4.ip_forward", "1"),
        ];
        config.linux.as_mut().unwrap().sysctls = sysctls.map(|(key, value)| (key.into(), value.into())).into();
        let (_, container) = client
            .running(&config, request::container("b", "exec sleep 1000"))
            .await;
        for (key, value) in sysctls {
            let path = format!("cat /proc/sys/{}", key.replace('.', "/"));
            assert_eq!(client.output(&container, &path).await, value, "{key}");
        }
    });
    daemon.finish();
}

#[test]
fn removing_a_pod_takes_its_running_containers_along() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (pod, container) = client
            .running(&config, request::container("a", "trap '' TERM; sleep 1000 & wait"))
            .await;
        client.remove_pod(&pod).await.unwrap();
        assert_eq!(client.status(&container).await.unwrap_err().code(), Code::NotFound);
        daemon.assert_nothing_left();
    });
    daemon.finish();
}
