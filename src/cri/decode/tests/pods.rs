use super::*;

#[test]
fn q3_cve_2025_0750_names_do_not_climb() {
    let long = "n".repeat(254);
    for bad in [
        "",
        "..",
        "../../x",
        "a/b",
        "a\nb",
        "a b",
        "a;K8S_POD_NAME=x",
        "a=b",
        ".hidden",
        "ä",
        long.as_str(),
    ] {
        let bad = || bad.to_owned();
        let metadata = |change: &dyn Fn(&mut wire::PodSandboxMetadata)| {
            pod_with(|config| change(config.metadata.as_mut().unwrap()))
        };
        invalid_field(metadata(&|metadata| metadata.name = bad()), "metadata.name");
        invalid_field(metadata(&|metadata| metadata.namespace = bad()), "metadata.namespace");
        invalid_field(metadata(&|metadata| metadata.uid = bad()), "metadata.uid");
        invalid_field(
            container_with(|config| config.metadata.as_mut().unwrap().name = bad()),
            "metadata.name",
        );
    }
}

#[test]
fn q5_cve_2024_3154_cgroup_parents_are_plain_paths() {
    for bad in [
        "../..",
        "kubepods",
        "/a/../b",
        "/a.slice\nProperty=1",
        "/a b",
        "/ä",
        "/a;b",
        "/x\0",
    ] {
        invalid_field(
            linux_pod_with(|linux| linux.cgroup_parent = bad.into()),
            "cgroup_parent",
        );
    }
    let table = [
        ("", ""),
        ("/", ""),
        ("/test.slice", "/test.slice"),
        ("/kubepods/burstable/pod1/", "/kubepods/burstable/pod1"),
        ("//a/./b", "/a/b"),
        (
            "/kubepods.slice/kubepods-pod0b_1.slice",
            "/kubepods.slice/kubepods-pod0b_1.slice",
        ),
    ];
    for (given, taken) in table {
        assert_eq!(
            linux_pod_with(|linux| linux.cgroup_parent = given.into())
                .unwrap()
                .cgroup_parent,
            taken
        );
    }
}

fn sysctl(key: &str, value: &str, options: wire::NamespaceOption) -> Result<PodSpec, Failure> {
    linux_pod_with(|linux| {
        linux.sysctls = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        linux.security_context.get_or_insert_default().namespace_options = Some(options);
    })
}

#[test]
fn cve_2022_0811_a_sysctl_value_is_only_a_value() {
    for bad in [
        "1+kernel.core_pattern=|/x",
        "1\nkernel.core_pattern",
        "1\0",
        "",
        "a=b",
        "|/bin/sh",
        "1+2",
        "\u{e4}",
    ] {
        invalid_field(sysctl("kernel.shm_rmid_forced", bad, Default::default()), "sysctls");
    }
    let spec = sysctl("net.ipv4.ping_group_range", "0 2147483647", Default::default()).unwrap();
    assert_eq!(spec.sysctls["net.ipv4.ping_group_range"], "0 2147483647");
}

#[test]
fn q6_only_the_pods_own_sysctls() {
    for bad in [
        "kernel.core_pattern",
        "vm.swappiness",
        "kernel.hostname",
        "fs.file-max",
        "kernel.shm",
        "net",
        "",
        "net..x",
        ".net.x",
        "net/../kernel/core_pattern",
        "net.../x",
        "/net/x",
        "net.x\n",
        "kernel.shmmax.x",
    ] {
        invalid_field(sysctl(bad, "1", Default::default()), "sysctls");
    }
    let table = [
        ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
    ];
    for (given, taken) in table {
        assert!(
            sysctl(given, "1", Default::default())
                .unwrap()
                .sysctls
                .contains_key(taken),
            "{given}"
        );
    }
}

#[test]
fn cve_2022_0532_no_sysctls_of_the_hosts_namespaces() {
    let node = wire::NamespaceMode::Node.into();
    let host_network = wire::NamespaceOption {
        network: node,
        ..Default::default()
    };
    let host_ipc = wire::NamespaceOption {
        ipc: node,
        ..Default::default()
    };
    invalid_field(
        sysctl("net.ipv4.ip_forward", "1", host_network.clone()),
        "network namespace",
    );
    invalid_field(sysctl("kernel.shmmax", "1", host_ipc.clone()), "IPC namespace");
    invalid_field(sysctl("fs/mqueue/msg_max", "1", host_ipc.clone()), "IPC namespace");
    assert!(sysctl("net.ipv4.ip_forward", "1", host_ipc).is_ok());
    assert!(sysctl("kernel.shmmax", "1", host_network).is_ok());
}

#[test]
fn hostnames_fit_linux_and_a_line() {
    let name = |name: &str| pod_with(|config| config.hostname = name.into());
    for bad in [&"h".repeat(65), "a b", "a\nb", "a/b", "ä", "a\0"] {
        invalid_field(name(bad), "config.hostname");
    }
    assert_eq!(name(&"h".repeat(64)).unwrap().hostname.len(), 64);
    assert!(name("Web-1.example").is_ok());
}

#[test]
fn dns_entries_are_words() {
    let dns = |servers: &[&str]| {
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        pod_with(|config| {
            config.dns_config = Some(wire::DnsConfig {
                servers,
                ..Default::default()
            })
        })
    };
    for bad in ["", "1.1.1.1\nnameserver 2.2.2.2", "a b", "1.1.1.1#", &"x".repeat(300)] {
        invalid_field(dns(&[bad]), "dns_config.servers");
    }
    assert!(dns(&["10.0.0.10", "fe80::1%eth0"]).is_ok());
    assert_eq!(dns(&[]).unwrap().dns, Some(Default::default()), "empty is not missing");
}

#[test]
fn ports_without_a_host_port_are_information() {
    let port = |container_port, host_port, protocol, host_ip: &str| {
        let port = wire::PortMapping {
            protocol,
            container_port,
            host_port,
            host_ip: host_ip.into(),
        };
        pod_with(|config| config.port_mappings = vec![port])
    };
    for (container, host, protocol, ip) in [
        (0, 80, 0, ""),
        (65_536, 80, 0, ""),
        (-1, 0, 0, ""),
        (80, 65_536, 0, ""),
        (80, 80, 3, ""),
        (80, 80, 0, "x"),
    ] {
        invalid_field(port(container, host, protocol, ip), "port_mappings");
    }
    assert_eq!(port(80, 0, 0, "").unwrap().ports[0].host_port, None);
    assert_eq!(port(80, -1, 0, "").unwrap().ports[0].host_port, None);
    assert_eq!(port(80, 8080, 2, "127.0.0.1").unwrap().ports[0].host_port, Some(8080));
}

#[test]
fn handlers_that_are_not_there_are_refused() {
    let run = pod::run(wire::RunPodSandboxRequest {
        config: Some(pod()),
        runtime_handler: "kata".into(),
    });
    invalid_field(run, "runtime_handler");
    let spec = wire::ImageSpec {
        image: "x".into(),
        runtime_handler: "a\n".into(),
        ..Default::default()
    };
    invalid_field(image::named(Some(spec)), "runtime_handler");
}
