use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::base::clock::Timestamp;
use crate::domain::container::{
    Container, ContainerMetadata, ContainerSpec, ContainerState, Exit, ExitReason, ImageRequest, Signal,
};
use crate::domain::image::{Image, ImageConfig};
use crate::domain::mount::{Access, Mount, Propagation};
use crate::domain::network::Attachment;
use crate::domain::pod::{NamespaceMode, Namespaces, Pins, Pod, PodMetadata, PodSpec, PodState};
use crate::domain::resources::Resources;
use crate::domain::security::{
    CapabilityChanges, GroupsPolicy, Identity, PodSecurity, Privilege, Profile, RequestedUser, ResolvedUser, Security,
};
use crate::ops::CgroupDriver;
use crate::ops::answer::{Conditions, Details, FsInfo, PodDetails, Reason, Stats};

/// Compares with `tests/golden/cri/NAME.txt`; UPDATE_GOLDEN=1 writes it anew, to be reviewed as a diff.
fn golden(name: &str, message: &impl Debug) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/cri/{name}.txt"));
    let found = format!("{message:#?}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{} differs; UPDATE_GOLDEN=1 rewrites it. Found:\n{found}",
        path.display()
    );
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("io.kubernetes.pod.uid".to_owned(), "u-1".to_owned())])
}

fn identity() -> Identity {
    Identity {
        user: RequestedUser::Image,
        group: None,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::Merge,
    }
}

fn namespaces() -> Namespaces {
    Namespaces {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
    }
}

fn pod() -> Pod {
    Pod {
        id: "1".repeat(64).parse().unwrap(),
        spec: PodSpec {
            metadata: PodMetadata {
                name: "web".into(),
                namespace: "default".into(),
                uid: "u-1".into(),
                attempt: 2,
            },
            hostname: "web".into(),
            log_directory: None,
            dns: None,
            ports: Vec::new(),
            labels: labels(),
            annotations: labels(),
            cgroup_parent: "/kubepods".into(),
            sysctls: BTreeMap::new(),
            namespaces: namespaces(),
            security: PodSecurity {
                privilege: Privilege::Ordinary,
                identity: identity(),
                readonly_rootfs: false,
                seccomp: Profile::RuntimeDefault,
                apparmor: None,
                selinux: None,
            },
            overhead: Resources::default(),
            resources: Resources::default(),
            runtime_handler: String::new(),
        },
        created_at: Timestamp(1_000),
        state: PodState::Ready,
        pins: Pins {
            net: Some("/var/run/netns/copepod-1".into()),
            ..Pins::default()
        },
        attachment: Some(Attachment {
            ips: vec!["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            cni_result: r#"{"cniVersion":"1.0.0"}"#.into(),
            cni_config: String::new(),
        }),
        network_owed: true,
        effective_hostname: "web".into(),
        boot_id: "b".into(),
    }
}

fn container(state: ContainerState) -> Container {
    let image_id = format!("sha256:{}", "a".repeat(64));
    Container {
        id: "2".repeat(64).parse().unwrap(),
        pod: "1".repeat(64).parse().unwrap(),
        spec: ContainerSpec {
            metadata: ContainerMetadata {
                name: "main".into(),
                attempt: 3,
            },
            image: ImageRequest {
                image: image_id.clone(),
                user_specified: "busybox".into(),
                annotations: BTreeMap::new(),
                runtime_handler: String::new(),
            },
            command: vec!["sleep".into()],
            args: Vec::new(),
            working_dir: String::new(),
            envs: vec![("TOKEN".into(), vec![0xff])],
            mounts: vec![Mount {
                container_path: "/dev/termination-log".into(),
                host_path: "/var/lib/kubelet/pods/u-1/log".into(),
                access: Access::ReadOnly,
                selinux_relabel: true,
                propagation: Propagation::HostToContainer,
            }],
            devices: Vec::new(),
            labels: labels(),
            annotations: labels(),
            log_path: Some("main/3.log".into()),
            stdin: false,
            stdin_once: false,
            tty: false,
            stop_signal: None,
            resources: Resources {
                cpu_shares: Some(102),
                memory_limit: Some(64 << 20),
                hugepages: vec![("2MB".into(), 0)],
                ..Resources::default()
            },
            namespaces: namespaces(),
            security: Security {
                privilege: Privilege::Ordinary,
                capabilities: CapabilityChanges::default(),
                readonly_rootfs: false,
                no_new_privs: true,
                masked_paths: Vec::new(),
                readonly_paths: Vec::new(),
                seccomp: Profile::RuntimeDefault,
                apparmor: None,
                selinux: None,
            },
            identity: identity(),
        },
        created_at: Timestamp(2_000),
        state,
        image_id: image_id.parse().unwrap(),
        image_name: "docker.io/library/busybox:latest".into(),
        image_ref: format!("docker.io/library/busybox@sha256:{}", "b".repeat(64)),
        layers: Vec::new(),
        user: ResolvedUser {
            uid: 1000,
            gid: 1000,
            groups: vec![1000, 1234],
            home: "/".into(),
        },
        stop_signal: Signal::TERM,
        cgroup: "/kubepods/2".into(),
        log_path: Some("/var/log/pods/web/main/3.log".into()),
        boot_id: "b".into(),
    }
}

fn running() -> ContainerState {
    ContainerState::Created.started(7, Timestamp(3_000)).unwrap()
}

fn exited() -> ContainerState {
    let exit = Exit {
        code: 137,
        reason: ExitReason::OomKilled,
        message: String::new(),
        started_at: Timestamp(3_000),
        finished_at: Timestamp(4_000),
    };
    running().exited(exit).unwrap()
}

fn store() -> FsInfo {
    FsInfo {
        mountpoint: "/var/lib/copepod/layers".into(),
        bytes: 4096,
        inodes: 7,
        at: Timestamp(5_000),
    }
}

fn stats(measured: i64) -> Stats {
    let mut stats = Stats {
        container: Arc::new(container(running())),
        cgroup: Default::default(),
        layer: Default::default(),
    };
    stats.cgroup.at = 6_000;
    stats.cgroup.cpu_ns = 12;
    stats.cgroup.memory_bytes = 300;
    stats.cgroup.working_set_bytes = 200;
    stats.cgroup.limit_bytes = Some(1_000);
    (stats.layer.bytes, stats.layer.inodes, stats.layer.at) = (8192, 3, measured);
    stats
}

#[test]
fn golden_pod() {
    golden("pod-item", &super::pod::item(&pod()));
    golden("pod-status", &super::pod::status(&pod()));
}

#[test]
fn golden_container() {
    golden("container-item", &super::container::item(&container(running())));
    golden(
        "container-created",
        &super::container::status(&container(ContainerState::Created)),
    );
    golden("container-exited", &super::container::status(&container(exited())));
}

#[test]
fn golden_stats() {
    golden(
        "container-stats",
        &super::stats::container_stats(&stats(5_500), Some(&store())),
    );
    golden("image-fs-info", &super::image::fs_info(&[store()]));
}

#[test]
fn golden_node() {
    let network = Err(Reason {
        reason: "NetworkPluginNotReady",
        message: "no configuration in /etc/cni/net.d".into(),
    });
    golden("node-version", &super::node::version());
    golden(
        "node-status",
        &super::node::status(&Conditions {
            runtime: Ok(()),
            network,
        }),
    );
    golden("node-config", &super::node::runtime_config(CgroupDriver::Cgroupfs));
}

#[test]
fn an_address_is_told_only_while_there_is_one() {
    let mut stopped = pod();
    stopped.attachment = None;
    assert_eq!(super::pod::status(&stopped).network, None);
}

#[test]
fn host_network_is_told_back() {
    let mut host = pod();
    host.spec.namespaces.network = NamespaceMode::Node;
    host.spec.namespaces.pid = NamespaceMode::Target("abc".into());
    let options = super::pod::status(&host)
        .linux
        .unwrap()
        .namespaces
        .unwrap()
        .options
        .unwrap();
    assert_eq!(
        (options.network, options.pid, options.target_id.as_str()),
        (2, 3, "abc")
    );
}

#[test]
fn a_layer_that_was_never_measured_has_no_size() {
    assert_eq!(
        super::stats::container_stats(&stats(0), Some(&store())).writable_layer,
        None
    );
    assert_eq!(super::stats::container_stats(&stats(5_500), None).writable_layer, None);
}

#[test]
fn an_image_is_told_by_all_its_names_and_never_with_size_0() {
    let image = Image {
        id: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        tags: BTreeSet::from(["b:1".to_owned(), "a:1".to_owned()]),
        digests: BTreeSet::new(),
        layers: Vec::new(),
        descriptors: Vec::new(),
        config: ImageConfig::default(),
        size: 0,
        config_json: br#"{"os":"linux"}"#.to_vec(),
        manifest_json: b"not json".to_vec(),
        index_json: None,
        pulled_at: Timestamp(1),
    };
    let message = super::image::image(&image);
    assert_eq!(
        (message.size, message.repo_tags),
        (1, vec!["a:1".to_owned(), "b:1".to_owned()])
    );
    let info: Value = serde_json::from_str(&super::info::image(&image)["info"]).unwrap();
    assert_eq!(info.pointer("/imageSpec/os"), Some(&Value::from("linux")));
}

#[test]
fn verbose_details_are_json_with_what_scripts_read() {
    let details = Details {
        pid: 7,
        spec_json: Some(br#"{"ociVersion":"1.1.0"}"#.to_vec()),
    };
    let info = super::info::container(&container(running()), &details);
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["pid"], 7);
    assert_eq!(info["sandboxID"], "1".repeat(64));
    assert_eq!(info.pointer("/runtimeSpec/ociVersion"), Some(&Value::from("1.1.0")));
    let info: Value = serde_json::from_str(&super::info::pod(&pod(), PodDetails { init_pid: 0 })["info"]).unwrap();
    assert_eq!(info["pid"], 0);
    assert_eq!(info.pointer("/cniResult/cniVersion"), Some(&Value::from("1.0.0")));
    assert_eq!(
        info.pointer("/runtimeSpec/linux/namespaces/0/type"),
        Some(&Value::from("network"))
    );
    let config = super::info::runtime(CgroupDriver::Cgroupfs, &[store()]);
    let config: Value = serde_json::from_str(&config["config"]).unwrap();
    assert_eq!(config["cgroupDriver"], "cgroupfs");
}
