//! The built-in network and CNI with real plugins, seen from pods.

use std::fs;
use std::process::Command;

use copepod_proto::cri;

use crate::harness::{Daemon, busybox, run};
use crate::request;

#[test]
fn pods_reach_each_other_and_the_host_reaches_pods() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let serve = "mkdir /www; echo it works > /www/index.html; exec httpd -f -p 8080 -h /www";
        let (server, _) = client
            .running(&request::pod(daemon.top()), request::container("web", serve))
            .await;
        let ip = client.pod_status(&server).await.unwrap().network.unwrap().ip;
        let (_, other) = client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
        let fetch =
            format!("for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{ip}:8080/ && exit 0; sleep 0.2; done; exit 1");
        assert_eq!(client.output(&other, &fetch).await, "it works");
        let from_host = Command::new("curl")
            .args(["-sS", "--noproxy", "*", &format!("http://{ip}:8080/")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&from_host.stdout), "it works\n");
        let lo = client
            .output(&other, "ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up")
            .await;
        assert_eq!(lo, "up");
    });
    daemon.finish();
}

#[test]
fn cni_plugins_attach_and_detach() {
    let dir = ["/usr/lib/cni", "/opt/cni/bin"]
        .into_iter()
        .find(|dir| fs::exists(format!("{dir}/bridge")).unwrap_or(false));
    let dir = dir.expect("the CNI plugins are missing: install the package containernetworking-plugins");
    let conf = tempfile::tempdir().unwrap();
    let bridge = format!("cptcni{}", std::process::id() % 100_000);
    let list = serde_json::json!({
        "cniVersion": "1.0.0", "name": format!("copepod-test-{}", std::process::id()),
        "plugins": [
            {"type": "bridge", "bridge": bridge, "isGateway": true,
             "ipam": {"type": "host-local", "dataDir": conf.path().join("ipam"), "ranges": [[{"subnet": "10.199.77.0/24"}]]}},
        ],
    });
    fs::write(conf.path().join("10.conflist"), list.to_string()).unwrap();
    let more = format!("[network.cni]\nconf_dir = {:?}\nbin_dirs = [{dir:?}]", conf.path());
    let mut daemon = Daemon::start_with(&more);
    let config = daemon.top().join("config.toml");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("mode = \"builtin\"", "mode = \"cni\"");
    fs::write(&config, text).unwrap();
    daemon.terminate();
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let (pod, container) = client
            .running(&config, request::container("c", "exec sleep 1000"))
            .await;
        let ip = client.pod_status(&pod).await.unwrap().network.unwrap().ip;
        assert!(ip.starts_with("10.199.77."), "{ip}");
        assert!(client.output(&container, "ip -4 addr show eth0").await.contains(&ip));
        let leases = || {
            fs::read_dir(conf.path().join("ipam"))
                .unwrap()
                .flatten()
                .map(|net| {
                    fs::read_dir(net.path())
                        .unwrap()
                        .flatten()
                        .filter(|file| file.file_name().to_string_lossy().starts_with("10."))
                        .count()
                })
                .sum::<usize>()
        };
        assert_eq!(leases(), 1);
        client.remove_pod(&pod).await.unwrap();
        assert_eq!(leases(), 0, "DEL gives the address back");
    });
    daemon.finish();
    Command::new("ip").args(["link", "del", &bridge]).status().unwrap();
}

#[test]
fn what_the_built_in_network_cannot_do_is_refused_by_name() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let mut config = request::pod(daemon.top());
        config.port_mappings = vec![cri::PortMapping {
            container_port: 80,
            host_port: 12_345,
            ..Default::default()
        }];
        let error = client.run_pod(&config).await.unwrap_err();
        assert!(error.message().contains("host port 12345"), "{error}");
        let mut config = request::pod(daemon.top());
        config
            .annotations
            .insert("kubernetes.io/ingress-bandwidth".to_owned(), "1M".to_owned());
        assert!(
            client
                .run_pod(&config)
                .await
                .unwrap_err()
                .message()
                .contains("bandwidth")
        );
        // A port that only informs is fine.
        let mut config = request::pod(daemon.top());
        config.port_mappings = vec![cri::PortMapping {
            container_port: 80,
            host_port: 0,
            ..Default::default()
        }];
        client.run_pod(&config).await.unwrap();
    });
    daemon.finish();
}
