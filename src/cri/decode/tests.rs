use std::collections::BTreeMap;

use copepod_proto::cri as wire;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::domain::container::{ContainerSpec, Signal};
use crate::domain::filter::StateKind;
use crate::domain::mount::{Access, Propagation};
use crate::domain::pod::{NamespaceMode, PodSpec, PodState};
use crate::domain::security::{GroupsPolicy, Privilege, Profile, RequestedUser};

/// A pod as a client sends it at the least.
fn pod() -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: "web".into(),
            uid: "0b5f-1".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..Default::default()
    }
}

/// A container as a client sends it at the least.
fn container() -> wire::ContainerConfig {
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(wire::ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn run(config: wire::PodSandboxConfig) -> Result<PodSpec, Failure> {
    pod::run(wire::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    })
}

fn create(config: wire::ContainerConfig) -> Result<ContainerSpec, Failure> {
    let request = wire::CreateContainerRequest {
        pod_sandbox_id: "a".repeat(64),
        config: Some(config),
        sandbox_config: Some(pod()),
    };
    container::create(request).map(|request| request.spec)
}

/// Changes one thing of a pod.
fn pod_with(change: impl FnOnce(&mut wire::PodSandboxConfig)) -> Result<PodSpec, Failure> {
    let mut config = pod();
    change(&mut config);
    run(config)
}

/// Changes one thing of a pod's Linux part.
fn linux_pod_with(change: impl FnOnce(&mut wire::LinuxPodSandboxConfig)) -> Result<PodSpec, Failure> {
    pod_with(|config| change(config.linux.get_or_insert_default()))
}

/// Changes one thing of a pod's security.
fn secure_pod_with(change: impl FnOnce(&mut wire::LinuxSandboxSecurityContext)) -> Result<PodSpec, Failure> {
    linux_pod_with(|linux| change(linux.security_context.get_or_insert_default()))
}

/// Changes one thing of a container.
fn container_with(change: impl FnOnce(&mut wire::ContainerConfig)) -> Result<ContainerSpec, Failure> {
    let mut config = container();
    change(&mut config);
    create(config)
}

/// Changes one thing of a container's security.
fn secure_with(change: impl FnOnce(&mut wire::LinuxContainerSecurityContext)) -> Result<ContainerSpec, Failure> {
    container_with(|config| {
        change(
            config
                .linux
                .get_or_insert_default()
                .security_context
                .get_or_insert_default(),
        );
    })
}

/// Changes one limit.
fn limited_with(change: impl FnOnce(&mut wire::LinuxContainerResources)) -> Result<ContainerSpec, Failure> {
    container_with(|config| change(config.linux.get_or_insert_default().resources.get_or_insert_default()))
}

/// A refusal: of this kind, naming this field, saying what to do, and short whatever was sent.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, kind: Kind, field: &str) {
    let failure = result.unwrap_err();
    let text = failure.chain();
    assert_eq!(failure.kind(), kind, "{text}");
    assert!(text.contains(field), "{field} is not named: {text}");
    assert!(text.contains(';') && text.len() < 400, "no remedy, or too long: {text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[track_caller]
fn invalid_field<T: std::fmt::Debug>(result: Result<T, Failure>, field: &str) {
    refused(result, Kind::InvalidArgument, field);
}

#[test]
fn the_least_pod_is_an_ordinary_one() {
    let spec = run(pod()).unwrap();
    assert_eq!((spec.metadata.name.as_str(), spec.metadata.attempt), ("web", 2));
    assert_eq!(spec.namespaces.pid, NamespaceMode::Pod, "the zero value");
    assert_eq!(spec.security.privilege, Privilege::Ordinary);
    assert_eq!(spec.security.seccomp, Profile::Unconfined);
    assert_eq!(
        (spec.dns, spec.log_directory, spec.cgroup_parent.as_str()),
        (None, None, "")
    );
}

#[test]
fn the_least_container_is_an_ordinary_one() {
    let spec = create(container()).unwrap();
    assert_eq!(spec.identity.user, RequestedUser::Image);
    assert_eq!(spec.identity.groups_policy, GroupsPolicy::Merge);
    assert_eq!(
        (spec.security.seccomp, spec.security.apparmor),
        (Profile::Unconfined, None)
    );
    assert_eq!((spec.log_path, spec.stop_signal), (None, None));
}

#[test]
fn q1_hostile_ids_are_refused_and_harmless_ones_are_merely_unknown() {
    let long = "a".repeat(10_000);
    for text in [
        "",
        "..",
        ".",
        "a/b",
        "../etc",
        "a\0",
        "a\n",
        "ä",
        "a b",
        "%2e%2e",
        long.as_str(),
    ] {
        invalid_field(id::required("container_id", text.into()), "container_id");
    }
    for text in [
        "a",
        &"f".repeat(64),
        "1c3d5e1a-0b1c-4a5e-8c39-0a1b2c3d4e5f",
        "not-hex",
        "sha256:abc",
    ] {
        assert_eq!(id::required("container_id", text.into()).unwrap(), text);
    }
    assert_eq!(id::optional("filter.id", String::new()).unwrap(), None);
    invalid_field(id::optional("filter.id", "../x".into()), "filter.id");
}

#[test]
fn q2_missing_messages_are_named() {
    let run = |config| {
        pod::run(wire::RunPodSandboxRequest {
            config,
            runtime_handler: String::new(),
        })
    };
    invalid_field(run(None), "config");
    invalid_field(pod_with(|config| config.metadata = None), "config.metadata");
    invalid_field(container_with(|config| config.metadata = None), "config.metadata");
    invalid_field(container_with(|config| config.image = None), "config.image");
    invalid_field(
        container_with(|config| config.image = Some(Default::default())),
        "config.image.image",
    );
    let request = |config, sandbox_config| {
        let pod_sandbox_id = "a".to_owned();
        container::create(wire::CreateContainerRequest {
            pod_sandbox_id,
            config,
            sandbox_config,
        })
    };
    invalid_field(request(None, Some(pod())), "config");
    invalid_field(request(Some(container()), None), "sandbox_config");
    invalid_field(image::named(None), "image");
}

#[test]
fn q2_too_much_of_anything_is_refused() {
    let many = |count: usize| {
        (0..count)
            .map(|n| (n.to_string(), String::new()))
            .collect::<BTreeMap<_, _>>()
    };
    invalid_field(pod_with(|config| config.labels = many(100_000)), "config.labels");
    invalid_field(
        container_with(|config| config.annotations = many(100_000)),
        "config.annotations",
    );
    let blob = BTreeMap::from([("blob".to_owned(), "x".repeat(2 << 20))]);
    invalid_field(container_with(|config| config.annotations = blob), "config.annotations");
    invalid_field(
        container_with(|config| config.mounts = vec![Default::default(); 10_001]),
        "config.mounts",
    );
    invalid_field(
        container_with(|config| config.devices = vec![Default::default(); 10_001]),
        "config.devices",
    );
    invalid_field(
        container_with(|config| config.envs = vec![Default::default(); 200_000]),
        "config.envs",
    );
    invalid_field(
        container_with(|config| config.args = vec!["x".repeat(1000); 10_000]),
        "config.args",
    );
    invalid_field(
        secure_with(|context| context.supplemental_groups = vec![1; 100_000]),
        "supplemental_groups",
    );
}

#[test]
fn q2_unknown_enum_values_are_refused() {
    let options = |change: fn(&mut wire::NamespaceOption)| {
        let mut options = wire::NamespaceOption::default();
        change(&mut options);
        secure_pod_with(|context| context.namespace_options = Some(options))
    };
    invalid_field(options(|options| options.network = 9), "namespace_options.network");
    invalid_field(options(|options| options.pid = -1), "namespace_options.pid");
    invalid_field(options(|options| options.ipc = 4), "namespace_options.ipc");
    invalid_field(
        secure_with(|context| context.supplemental_groups_policy = 2),
        "supplemental_groups_policy",
    );
    invalid_field(container_with(|config| config.stop_signal = 66), "stop_signal");
    let state = Some(wire::ContainerStateValue { state: 4 });
    invalid_field(
        filter::containers(Some(wire::ContainerFilter {
            state,
            ..Default::default()
        })),
        "filter.state",
    );
    let state = Some(wire::PodSandboxStateValue { state: 2 });
    invalid_field(
        filter::pods(Some(wire::PodSandboxFilter {
            state,
            ..Default::default()
        })),
        "filter.state",
    );
}

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
fn q4_log_paths_stay_below_their_directory() {
    for bad in [
        "/var/log/x",
        "../x",
        "a/../../x",
        "a\nb",
        "a\0",
        &"x/".repeat(3000),
        &"y".repeat(300),
    ] {
        invalid_field(
            container_with(|config| config.log_path = bad.to_owned()),
            "config.log_path",
        );
    }
    for bad in [
        "var/log",
        "/var/../etc",
        "/var/log\n",
        &format!("/{}", "x/".repeat(3000)),
    ] {
        invalid_field(
            pod_with(|config| config.log_directory = bad.to_owned()),
            "config.log_directory",
        );
    }
    let spec = container_with(|config| config.log_path = "main/0.log".into()).unwrap();
    assert_eq!(spec.log_path.unwrap().to_str(), Some("main/0.log"));
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

fn mount(change: impl FnOnce(&mut wire::Mount)) -> Result<ContainerSpec, Failure> {
    let mut mount = wire::Mount {
        container_path: "/data".into(),
        host_path: "/srv".into(),
        ..Default::default()
    };
    change(&mut mount);
    container_with(|config| config.mounts = vec![mount])
}

#[test]
fn q7_mounts_are_absolute_and_do_not_climb() {
    for bad in [
        "",
        "data",
        "/data/../etc",
        "/",
        "//",
        "/./",
        "/proc/self",
        "/proc/sys/kernel",
        "/proc//stat/x",
        "/a\n",
    ] {
        invalid_field(
            mount(|mount| mount.container_path = bad.into()),
            "config.mounts[0].container_path",
        );
    }
    for bad in ["", "srv", "/srv/../etc", "/srv\0"] {
        invalid_field(
            mount(|mount| mount.host_path = bad.into()),
            "config.mounts[0].host_path",
        );
    }
    for good in [
        "/proc",
        "/proc/meminfo",
        "/proc//cpuinfo",
        "/procedure",
        "/etc/hosts",
        "/dev/termination-log",
    ] {
        assert!(mount(|mount| mount.container_path = good.into()).is_ok(), "{good}");
    }
    invalid_field(mount(|mount| mount.propagation = 3), "propagation");
}

#[test]
fn q7_what_mounts_cannot_do_yet_is_named() {
    let unsupported = |result, word| refused(result, Kind::Unimplemented, word);
    unsupported(mount(|mount| mount.image = Some(Default::default())), "image volumes");
    unsupported(mount(|mount| mount.image_sub_path = "x".into()), "image volumes");
    unsupported(
        mount(|mount| mount.uid_mappings = vec![Default::default()]),
        "id-mapped",
    );
    unsupported(
        mount(|mount| mount.gid_mappings = vec![Default::default()]),
        "id-mapped",
    );
    unsupported(mount(|mount| mount.mount_options = vec!["noexec".into()]), "noexec");
}

#[test]
fn recursive_read_only_is_refused_in_the_words_kubelet_knows() {
    let recursive = |readonly, propagation| {
        mount(|mount| {
            (mount.recursive_read_only, mount.readonly, mount.propagation) = (true, readonly, propagation);
        })
    };
    let failure = recursive(true, 0).unwrap_err();
    assert_eq!(failure.kind(), Kind::Unknown);
    assert!(failure.chain().starts_with("RROUnsupported"), "{}", failure.chain());
    invalid_field(recursive(false, 0), "recursive_read_only");
    invalid_field(recursive(true, 1), "recursive_read_only");
}

#[test]
fn mounts_keep_order_and_spelling() {
    let spec = mount(|mount| {
        (mount.host_path, mount.container_path) = ("/srv//x/./".into(), "/data/".into());
        (mount.readonly, mount.propagation, mount.selinux_relabel) = (true, 2, true);
    });
    let mount = &spec.unwrap().mounts[0];
    assert_eq!(
        (mount.host_path.to_str(), mount.container_path.as_str()),
        (Some("/srv//x/./"), "/data/")
    );
    assert_eq!(
        (mount.access, mount.propagation),
        (Access::ReadOnly, Propagation::Bidirectional)
    );
}

fn device(host: &str, container: &str, permissions: &str) -> Result<ContainerSpec, Failure> {
    let device = wire::Device {
        host_path: host.into(),
        container_path: container.into(),
        permissions: permissions.into(),
    };
    container_with(|config| config.devices = vec![device])
}

#[test]
fn q8_devices() {
    for (host, container, permissions, field) in [
        ("dev/fuse", "/dev/fuse", "rw", "host_path"),
        ("/dev/../etc", "/dev/fuse", "rw", "host_path"),
        ("/dev/fuse", "", "rw", "container_path"),
        ("/dev/fuse", "/dev/../x", "rw", "container_path"),
        ("/dev/fuse", "/dev/null", "rw", "container_path"),
        ("/dev/fuse", "/proc/kcore", "rw", "container_path"),
        ("/dev/fuse", "/dev/fuse", "", "permissions"),
        ("/dev/fuse", "/dev/fuse", "rwmx", "permissions"),
        ("/dev/fuse", "/dev/fuse", "rr", "permissions"),
    ] {
        invalid_field(device(host, container, permissions), field);
    }
    assert_eq!(device("/dev/fuse", "/dev/fuse", "mr").unwrap().devices.len(), 1);
    assert!(device("/dev/null", "/dev/null", "rwm").is_ok());
    let named = vec![wire::CdiDevice {
        name: "vendor.com/gpu=0".into(),
    }];
    refused(
        container_with(|config| config.cdi_devices = named),
        Kind::Unimplemented,
        "CDI",
    );
    let annotation = BTreeMap::from([("cdi.k8s.io/x".to_owned(), "vendor.com/gpu=0".to_owned())]);
    refused(
        container_with(|config| config.annotations = annotation),
        Kind::Unimplemented,
        "CDI",
    );
}

fn profile_message(profile_type: i32, localhost_ref: &str) -> Option<wire::SecurityProfile> {
    Some(wire::SecurityProfile {
        profile_type,
        localhost_ref: localhost_ref.into(),
    })
}

#[test]
fn q9_cve_2023_2431_profiles_are_found_or_refused() {
    for (kind, reference) in [
        (2, ""),
        (2, "localhost/"),
        (2, "relative"),
        (2, "/a/../b"),
        (2, "localhost/../x"),
        (7, ""),
    ] {
        let result = secure_with(|context| context.seccomp = profile_message(kind, reference));
        invalid_field(result, "security_context.seccomp");
    }
    for (kind, reference) in [(2, ""), (2, "two words"), (2, "a\nb"), (1, "x"), (0, "x")] {
        let result = secure_with(|context| context.apparmor = profile_message(kind, reference));
        invalid_field(result, "security_context.apparmor");
    }
    let seccomp = |message| {
        secure_with(|context| context.seccomp = message)
            .unwrap()
            .security
            .seccomp
    };
    assert_eq!(seccomp(None), Profile::Unconfined, "a missing message");
    assert_eq!(
        seccomp(Some(Default::default())),
        Profile::RuntimeDefault,
        "an empty message"
    );
    assert_eq!(seccomp(profile_message(1, "")), Profile::Unconfined);
    assert_eq!(
        seccomp(profile_message(2, "localhost//p/x.json")),
        Profile::Localhost("/p/x.json".into())
    );
}

#[test]
#[allow(deprecated, reason = "this is about the deprecated fields")]
fn string_profiles_count_only_where_the_structured_one_is_missing() {
    let table = [
        ("", Profile::Unconfined),
        ("unconfined", Profile::Unconfined),
        ("runtime/default", Profile::RuntimeDefault),
        ("docker/default", Profile::RuntimeDefault),
        ("localhost//p.json", Profile::Localhost("/p.json".into())),
    ];
    for (text, expected) in table {
        let spec = secure_with(|context| context.seccomp_profile_path = text.into()).unwrap();
        assert_eq!(spec.security.seccomp, expected, "{text}");
    }
    invalid_field(
        secure_with(|context| context.seccomp_profile_path = "/p.json".into()),
        "seccomp",
    );
    let both = secure_with(|context| {
        context.apparmor_profile = "localhost/old".into();
        context.apparmor = profile_message(2, "localhost/new");
    });
    assert_eq!(both.unwrap().security.apparmor, Some(Profile::Localhost("new".into())));
}

#[test]
fn selinux_levels_are_checked_though_unused() {
    let level = |level: &str| {
        let options = wire::SeLinuxOption {
            level: level.into(),
            ..Default::default()
        };
        secure_with(|context| context.selinux_options = Some(options))
    };
    for good in ["", "s0", "s0-s15", "s0:c1", "s0:c1,c2", "s0-s0:c0.c1023"] {
        assert!(level(good).is_ok(), "{good}");
    }
    for bad in [
        "s0,c4,c5",
        "c1",
        "s",
        "s0:",
        "s0:c",
        "s0:c1;x",
        "s0-s1-s2",
        "s0:c1.c2.c3",
    ] {
        invalid_field(level(bad), "selinux_options.level");
    }
}

#[test]
fn q10_identities() {
    let number = |value| Some(wire::Int64Value { value });
    invalid_field(secure_with(|context| context.run_as_group = number(1)), "run_as_group");
    invalid_field(
        secure_pod_with(|context| context.run_as_group = number(1)),
        "run_as_group",
    );
    let both = secure_with(|context| {
        (context.run_as_user, context.run_as_username) = (number(1), "nobody".into());
    });
    invalid_field(both, "run_as_user");
    for bad in ["1000", "a b", "a:b", "a/b", "a\0", "a\nroot"] {
        invalid_field(
            secure_with(|context| context.run_as_username = bad.into()),
            "run_as_username",
        );
    }
    let spec = secure_with(|context| {
        (context.run_as_username, context.run_as_group) = ("nobody".into(), number(7));
    });
    assert_eq!(spec.unwrap().identity.group, Some(7));
}

#[test]
fn cve_2024_40635_ids_never_wrap() {
    for bad in [-1, i64::MIN, 1 << 31, (1 << 32) - 1, 1 << 32, i64::MAX] {
        let number = Some(wire::Int64Value { value: bad });
        invalid_field(secure_with(|context| context.run_as_user = number), "run_as_user");
        invalid_field(secure_pod_with(|context| context.run_as_user = number), "run_as_user");
        invalid_field(
            secure_with(|context| context.supplemental_groups = vec![bad]),
            "supplemental_groups",
        );
        let group = secure_with(|context| {
            (context.run_as_user, context.run_as_group) = (Some(wire::Int64Value { value: 0 }), number);
        });
        invalid_field(group, "run_as_group");
    }
    let largest = Some(wire::Int64Value { value: (1 << 31) - 1 });
    let spec = secure_with(|context| context.run_as_user = largest).unwrap();
    assert_eq!(spec.identity.user, RequestedUser::Uid((1 << 31) - 1));
}

#[test]
fn q10_capabilities_are_spelt_one_way() {
    let add = |names: &[&str]| {
        let add_capabilities = names.iter().map(|name| (*name).to_owned()).collect();
        let capabilities = Some(wire::Capability {
            add_capabilities,
            ..Default::default()
        });
        secure_with(|context| context.capabilities = capabilities)
    };
    let spec = add(&["net_admin", "CAP_CHOWN", "ALL", "CAP_CAP_X"]).unwrap();
    assert_eq!(
        spec.security.capabilities.add,
        ["NET_ADMIN", "CHOWN", "ALL", "CAP_X"],
        "CAP_X is unknown to any kernel"
    );
    for bad in ["", "CAP_", "NET ADMIN", "A\n", "A,B", &"A".repeat(100)] {
        invalid_field(add(&[bad]), "capabilities");
    }
}

#[test]
fn q10_namespace_modes() {
    let pod = |options| secure_pod_with(|context| context.namespace_options = Some(options));
    let container = |options| secure_with(|context| context.namespace_options = Some(options));
    let target = |target_id: &str| wire::NamespaceOption {
        pid: 3,
        target_id: target_id.into(),
        ..Default::default()
    };
    invalid_field(pod(target("abc")), "namespace_options.pid");
    invalid_field(container(target("")), "namespace_options.pid");
    invalid_field(container(target("../x")), "namespace_options.pid");
    invalid_field(
        pod(wire::NamespaceOption {
            network: 1,
            ..Default::default()
        }),
        "namespace_options.network",
    );
    invalid_field(
        pod(wire::NamespaceOption {
            ipc: 3,
            ..Default::default()
        }),
        "namespace_options.ipc",
    );
    invalid_field(
        pod(wire::NamespaceOption {
            target_id: "a".into(),
            ..Default::default()
        }),
        "target_id",
    );
    let spec = container(target("abc")).unwrap();
    assert_eq!(spec.namespaces.pid, NamespaceMode::Target("abc".into()));
}

#[test]
fn user_namespaces_are_refused_by_name() {
    let user = |mode, ids: usize| {
        let uids = vec![
            wire::IdMapping {
                host_id: 1,
                container_id: 0,
                length: 1
            };
            ids
        ];
        let userns_options = Some(wire::UserNamespace {
            mode,
            gids: uids.clone(),
            uids,
        });
        let options = wire::NamespaceOption {
            userns_options,
            ..Default::default()
        };
        secure_pod_with(|context| context.namespace_options = Some(options))
    };
    assert!(user(2, 0).is_ok(), "kubelet says NODE for every other pod");
    refused(user(0, 1), Kind::Unimplemented, "user namespaces");
    for (mode, ids) in [(1, 1), (3, 1), (2, 1), (9, 0)] {
        invalid_field(user(mode, ids), "userns_options");
    }
}

#[test]
fn q13_resources() {
    invalid_field(limited_with(|limits| limits.cpu_period = 999), "cpu_period");
    invalid_field(limited_with(|limits| limits.cpu_period = -1), "cpu_period");
    invalid_field(limited_with(|limits| limits.cpu_quota = -2), "cpu_quota");
    invalid_field(limited_with(|limits| limits.cpu_quota = 10), "cpu_quota");
    invalid_field(limited_with(|limits| limits.cpu_shares = -1), "cpu_shares");
    invalid_field(
        limited_with(|limits| limits.memory_limit_in_bytes = -2),
        "memory_limit_in_bytes",
    );
    invalid_field(
        limited_with(|limits| limits.memory_swap_limit_in_bytes = i64::MIN),
        "memory_swap_limit_in_bytes",
    );
    invalid_field(limited_with(|limits| limits.oom_score_adj = 1001), "oom_score_adj");
    invalid_field(limited_with(|limits| limits.oom_score_adj = -1001), "oom_score_adj");
    let swap = limited_with(|limits| {
        (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes) = (100, 50);
    });
    invalid_field(swap, "memory_swap_limit_in_bytes");
    for size in ["", "2", "MB", "2mb", "../2MB", "2MB/x"] {
        let limits = vec![wire::HugepageLimit {
            page_size: size.into(),
            limit: 0,
        }];
        invalid_field(
            limited_with(|resources| resources.hugepage_limits = limits),
            "hugepage_limits",
        );
    }
    for file in [
        "",
        "memory",
        "../memory.max",
        "memory.max/x",
        "cgroup.procs",
        ".x",
        "MEMORY.MAX",
        "a.b\n",
    ] {
        let unified = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
        invalid_field(limited_with(|limits| limits.unified = unified), "unified");
    }
    let spec = limited_with(|limits| (limits.cpu_shares, limits.cpu_quota) = (1, -1)).unwrap();
    assert_eq!(
        (spec.resources.cpu_shares, spec.resources.cpu_quota),
        (Some(2), Some(-1))
    );
    assert_eq!(
        limited_with(|limits| limits.cpu_shares = i64::MAX)
            .unwrap()
            .resources
            .cpu_shares,
        Some(262_144)
    );
    assert_eq!(create(container()).unwrap().resources, Default::default());
}

#[test]
fn cve_2018_20699_cpusets_are_checked_without_being_expanded() {
    let cpus = |list: &str| limited_with(|limits| limits.cpuset_cpus = list.into());
    let begun = std::time::Instant::now();
    for bad in [
        "0-2147483647",
        "1-0",
        ",",
        "0,",
        "a",
        "-1",
        "+1",
        "0-1-2",
        "0 1",
        "8192",
        " ",
    ] {
        invalid_field(cpus(bad), "cpuset_cpus");
        invalid_field(limited_with(|limits| limits.cpuset_mems = bad.into()), "cpuset_mems");
    }
    assert!(begun.elapsed() < std::time::Duration::from_millis(500));
    for good in ["", "0", "0-3,7", "8191"] {
        assert!(cpus(good).is_ok(), "{good}");
    }
}

#[test]
fn cve_2022_4318_cve_2026_15809_home_is_one_line() {
    let env = |key: &str, value: &[u8]| {
        let variable = wire::KeyValue {
            key: key.into(),
            value: value.to_vec(),
        };
        container_with(|config| config.envs = vec![variable])
    };
    for bad in ["/x\nroot2::0:0::/:/bin/sh", "/x\rroot2", "/x\r\ny", "/\x1b[2J"] {
        invalid_field(env("HOME", bad.as_bytes()), "config.envs");
    }
    for (key, value) in [("", ""), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
        invalid_field(env(key, value.as_bytes()), "config.envs");
    }
    let spec = env("MULTI", b"two\nlines").unwrap();
    assert_eq!(spec.envs[0].1, b"two\nlines");
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
fn r17_image_names() {
    let long = "x".repeat(10_000);
    let named = |image: &str| {
        image::named(Some(wire::ImageSpec {
            image: image.into(),
            ..Default::default()
        }))
    };
    for bad in [
        "",
        "a/../b",
        "../x",
        "a b",
        "$(id)",
        "a;b",
        "a\nb",
        "bücher",
        "a\0",
        "a`b`",
        long.as_str(),
    ] {
        invalid_field(named(bad), "image.image");
    }
    let digest = format!("busybox@sha256:{}", "a".repeat(64));
    for good in [
        "busybox",
        "localhost:5000/a/b:tag",
        "[::1]:5000/x",
        digest.as_str(),
        "sha256:abc",
        "A/b",
    ] {
        assert_eq!(named(good).unwrap(), good);
    }
    let list = |image: Option<wire::ImageSpec>| {
        image::list(wire::ListImagesRequest {
            filter: Some(wire::ImageFilter { image }),
        })
    };
    assert_eq!(list(None).unwrap(), None);
    assert_eq!(
        list(Some(Default::default())).unwrap(),
        None,
        "crictl sends an empty name"
    );
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

#[test]
fn credentials_never_show_in_refusals() {
    let pull = |auth| {
        let image = Some(wire::ImageSpec {
            image: "x".into(),
            ..Default::default()
        });
        image::pull(wire::PullImageRequest {
            image,
            auth: Some(auth),
            sandbox_config: None,
        })
    };
    let bad = wire::AuthConfig {
        password: "hunter2\r\nX-Header: 1".into(),
        ..Default::default()
    };
    let failure = pull(bad).unwrap_err();
    assert!(
        failure.chain().contains("auth.password") && !failure.chain().contains("hunter2"),
        "{}",
        failure.chain()
    );
    assert!(
        pull(wire::AuthConfig::default()).unwrap().auth.is_none(),
        "empty is anonymous"
    );
    let padded = pull(wire::AuthConfig {
        auth: "dTpw\0\0".into(),
        ..Default::default()
    })
    .unwrap();
    assert_eq!(padded.auth.unwrap().auth, "dTpw");
}

#[test]
fn times_of_exec_and_stop() {
    use crate::ops::StopMode;
    use std::time::Duration;
    let sync = |cmd: &[&str], timeout| {
        let cmd = cmd.iter().map(|word| (*word).to_owned()).collect();
        exec::sync(wire::ExecSyncRequest {
            container_id: "a".into(),
            cmd,
            timeout,
        })
    };
    invalid_field(sync(&[], 1), "cmd");
    invalid_field(sync(&[""], 1), "cmd");
    invalid_field(sync(&["a\0"], 1), "cmd");
    invalid_field(sync(&["id"], -1), "timeout");
    assert_eq!(sync(&["id"], 0).unwrap().timeout, None);
    assert_eq!(sync(&["id"], 7).unwrap().timeout, Some(Duration::from_secs(7)));
    let stop = |timeout| {
        exec::stop(wire::StopContainerRequest {
            container_id: "a".into(),
            timeout,
        })
        .unwrap()
        .1
    };
    assert_eq!(
        (stop(0), stop(-5), stop(3)),
        (StopMode::Now, StopMode::Now, StopMode::After(Duration::from_secs(3)))
    );
}

#[test]
fn filters_let_everything_pass_when_empty() {
    assert_eq!(filter::pods(None).unwrap(), Default::default());
    assert_eq!(
        filter::containers(Some(Default::default())).unwrap(),
        Default::default()
    );
    assert_eq!(filter::stats(None).unwrap(), Default::default());
    let state = Some(wire::PodSandboxStateValue { state: 0 });
    let ready = filter::pods(Some(wire::PodSandboxFilter {
        state,
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(ready.state, Some(PodState::Ready), "zero is not absence");
    let state = Some(wire::ContainerStateValue { state: 3 });
    let unknown = filter::containers(Some(wire::ContainerFilter {
        state,
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(unknown.state, Some(StateKind::Unknown));
}

#[test]
fn windows_parts_are_refused() {
    invalid_field(
        pod_with(|config| config.windows = Some(Default::default())),
        "config.windows",
    );
    invalid_field(
        container_with(|config| config.windows = Some(Default::default())),
        "config.windows",
    );
}

#[test]
fn a_stop_signal_is_the_linux_number() {
    let spec = container_with(|config| config.stop_signal = wire::Signal::Sigterm.into()).unwrap();
    assert_eq!(spec.stop_signal, Some(Signal::TERM));
}

/// A request in which every field is set, texts and numbers as given.
fn full(text: &str, number: i64) -> wire::CreateContainerRequest {
    let narrow = i32::try_from(number % 100_000).unwrap_or_default();
    let text = || text.to_owned();
    let words = || vec![text(), text()];
    let map = || BTreeMap::from([(text(), text())]);
    let wrapped = || Some(wire::Int64Value { value: number });
    let profile = || {
        Some(wire::SecurityProfile {
            profile_type: narrow,
            localhost_ref: text(),
        })
    };
    let ids = || {
        vec![wire::IdMapping {
            host_id: 1,
            container_id: 0,
            length: 1,
        }]
    };
    let options = wire::NamespaceOption {
        network: narrow,
        pid: narrow,
        ipc: narrow,
        target_id: text(),
        userns_options: Some(wire::UserNamespace {
            mode: narrow,
            uids: ids(),
            gids: ids(),
        }),
    };
    let limits = wire::LinuxContainerResources {
        cpu_period: number,
        cpu_quota: number,
        cpu_shares: number,
        memory_limit_in_bytes: number,
        oom_score_adj: number,
        cpuset_cpus: text(),
        cpuset_mems: text(),
        hugepage_limits: vec![wire::HugepageLimit {
            page_size: text(),
            limit: number.unsigned_abs(),
        }],
        unified: map(),
        memory_swap_limit_in_bytes: number,
    };
    let image = wire::ImageSpec {
        image: text(),
        annotations: map(),
        image_ref: text(),
        ..Default::default()
    };
    let mount = wire::Mount {
        container_path: text(),
        host_path: text(),
        propagation: narrow,
        uid_mappings: ids(),
        image: Some(image.clone()),
        image_sub_path: text(),
        mount_options: words(),
        ..Default::default()
    };
    let context = wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: words(),
            drop_capabilities: words(),
            add_ambient_capabilities: words(),
        }),
        namespace_options: Some(options.clone()),
        run_as_user: wrapped(),
        run_as_username: text(),
        supplemental_groups: vec![number],
        run_as_group: wrapped(),
        masked_paths: words(),
        readonly_paths: words(),
        seccomp: profile(),
        apparmor: profile(),
        supplemental_groups_policy: narrow,
        ..Default::default()
    };
    let config = wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: text(),
            attempt: 1,
        }),
        image: Some(image),
        command: words(),
        args: words(),
        working_dir: text(),
        envs: vec![wire::KeyValue {
            key: text(),
            value: text().into_bytes(),
        }],
        mounts: vec![mount],
        devices: vec![wire::Device {
            container_path: text(),
            host_path: text(),
            permissions: text(),
        }],
        labels: map(),
        annotations: map(),
        log_path: text(),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(limits.clone()),
            security_context: Some(context),
        }),
        stop_signal: narrow,
        ..Default::default()
    };
    let pod_context = wire::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        run_as_user: wrapped(),
        supplemental_groups: vec![number],
        run_as_group: wrapped(),
        seccomp: profile(),
        apparmor: profile(),
        ..Default::default()
    };
    let pod = wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: text(),
            uid: text(),
            namespace: text(),
            attempt: 1,
        }),
        hostname: text(),
        log_directory: text(),
        dns_config: Some(wire::DnsConfig {
            servers: words(),
            searches: words(),
            options: words(),
        }),
        port_mappings: vec![wire::PortMapping {
            protocol: narrow,
            container_port: narrow,
            host_port: narrow,
            host_ip: text(),
        }],
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: text(),
            security_context: Some(pod_context),
            sysctls: map(),
            overhead: Some(limits.clone()),
            resources: Some(limits),
        }),
        ..Default::default()
    };
    wire::CreateContainerRequest {
        pod_sandbox_id: text(),
        config: Some(config),
        sandbox_config: Some(pod),
    }
}

/// Every decoder, on the request as a whole and on its parts: nothing may panic, and refusals stay short.
fn decode_everything(request: wire::CreateContainerRequest) {
    let mut failures = Vec::new();
    if let Some(config) = &request.config {
        failures.extend(text::labels("l", config.labels.clone()).err());
        failures.extend(text::words("w", config.args.clone()).err());
        failures.extend(mount::decode("m", config.mounts.clone()).err());
        failures.extend(device::decode("d", config.devices.clone()).err());
        failures.extend(image::named(config.image.clone()).err());
        let linux = config.linux.clone().unwrap_or_default();
        failures.extend(resources::decode("r", linux.resources).err());
        failures.extend(security::container("s", linux.security_context).err());
    }
    if let Some(config) = &request.sandbox_config {
        let linux = config.linux.clone().unwrap_or_default();
        failures.extend(path::cgroup("c", linux.cgroup_parent).err());
        failures.extend(security::pod("s", linux.security_context).err());
        failures.extend(network::dns("d", config.dns_config.clone()).err());
        failures.extend(network::ports("p", config.port_mappings.clone()).err());
        failures.extend(run(config.clone()).err());
    }
    failures.extend(id::required("i", request.pod_sandbox_id.clone()).err());
    failures.extend(container::create(request).err());
    for failure in failures {
        let text = failure.chain();
        assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_text_or_number_makes_a_decoder_panic(text in "(?s).{0,300}", number: i64) {
        decode_everything(full(&text, number));
    }

    #[test]
    fn no_plausible_text_makes_a_decoder_panic(text in "[-a-z0-9./:,=+@ ]{0,40}", number in -3_i64..4) {
        decode_everything(full(&text, number));
    }

    #[test]
    fn no_damaged_message_makes_a_decoder_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = full("/a", 1).encode_to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(request) = wire::CreateContainerRequest::decode(bytes.as_slice()) {
            decode_everything(request);
        }
    }
}
