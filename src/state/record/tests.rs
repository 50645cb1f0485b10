use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::base::id::{ContainerId, PodId};
use crate::domain::container::{
    Container, ContainerMetadata, ContainerSpec, ContainerState, Exit, ExitReason, ImageRequest, Signal,
};
use crate::domain::image::Layer;
use crate::domain::mount::{Access, Device, Mount, Propagation};
use crate::domain::network::{Attachment, DnsConfig, PortMapping, Protocol};
use crate::domain::pod::{NamespaceMode, Namespaces, Pins, Pod, PodMetadata, PodSpec, PodState};
use crate::domain::resources::Resources;
use crate::domain::security::{
    CapabilityChanges, GroupsPolicy, Identity, PodSecurity, Privilege, Profile, RequestedUser, ResolvedUser, Security,
};
use crate::state::Recorded;

pub(in crate::state) fn hex_id(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn digest(digit: char) -> DiffId {
    format!("sha256:{}", hex_id(digit)).parse().unwrap()
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn namespaces() -> Namespaces {
    Namespaces {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Node,
    }
}

fn identity() -> Identity {
    Identity {
        user: RequestedUser::Name("www".into()),
        group: Some(33),
        supplemental_groups: vec![44],
        groups_policy: GroupsPolicy::Merge,
    }
}

fn resources() -> Resources {
    Resources {
        cpu_period: Some(100_000),
        cpu_quota: Some(-1),
        cpu_shares: Some(2),
        memory_limit: Some(64 << 20),
        memory_swap_limit: None,
        oom_score_adj: -997,
        cpuset_cpus: "0-1".into(),
        cpuset_mems: String::new(),
        hugepages: vec![("2MB".into(), 0)],
        unified: map("memory.high", "1G"),
    }
}

pub(in crate::state) fn pod(digit: char) -> Pod {
    Pod {
        id: hex_id(digit).parse().unwrap(),
        spec: pod_spec(),
        created_at: Timestamp(1_700_000_000_000_000_001),
        state: PodState::Ready,
        pins: pins(),
        attachment: Some(Attachment {
            ips: vec!["10.88.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            cni_result: "{}".into(),
            cni_config: "{}".into(),
        }),
        network_owed: true,
        effective_hostname: "web-0".into(),
        boot_id: "5a8f6c5e-0000-4000-8000-000000000000".into(),
    }
}

fn pins() -> Pins {
    Pins {
        net: Some("/var/run/netns/cni-1".into()),
        ipc: Some("/run/copepod/ns/ipc".into()),
        uts: None,
    }
}

fn pod_spec() -> PodSpec {
    PodSpec {
        metadata: PodMetadata {
            name: "web".into(),
            namespace: "default".into(),
            uid: "u-1".into(),
            attempt: 2,
        },
        hostname: "web-0".into(),
        log_directory: Some("/var/log/pods/web".into()),
        dns: Some(DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        }),
        ports: vec![PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: Some(8080),
            host_ip: String::new(),
        }],
        labels: map("app", "web"),
        annotations: map("note", "é \u{1}"),
        cgroup_parent: "/kubepods/pod1".into(),
        sysctls: map("net.core.somaxconn", "128"),
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
        resources: resources(),
        runtime_handler: String::new(),
    }
}

pub(in crate::state) fn container(digit: char, state: ContainerState) -> Container {
    Container {
        id: hex_id(digit).parse().unwrap(),
        pod: hex_id('b').parse().unwrap(),
        spec: container_spec(),
        created_at: Timestamp(1_700_000_000_000_000_002),
        state,
        image_id: digest('3'),
        image_name: "docker.io/library/nginx:1".into(),
        image_ref: format!("docker.io/library/nginx@{}", digest('4')),
        layers: vec![digest('1'), digest('2')],
        user: ResolvedUser {
            uid: 33,
            gid: 33,
            groups: vec![33, 44],
            home: "/".into(),
        },
        stop_signal: Signal(3),
        cgroup: "/kubepods/pod1/c".into(),
        log_path: Some("/var/log/pods/web/c/0.log".into()),
        boot_id: "5a8f6c5e-0000-4000-8000-000000000000".into(),
    }
}

fn container_spec() -> ContainerSpec {
    ContainerSpec {
        metadata: ContainerMetadata {
            name: "c".into(),
            attempt: 0,
        },
        image: ImageRequest {
            image: digest('3').to_string(),
            user_specified: "nginx:1".into(),
            annotations: BTreeMap::new(),
            runtime_handler: String::new(),
        },
        command: vec!["/bin/sh".into()],
        args: vec!["-c".into(), "true".into()],
        working_dir: "/srv".into(),
        envs: vec![("BYTES".into(), vec![0xff, 0x0a])],
        mounts: vec![Mount {
            container_path: "/data".into(),
            host_path: "/var/lib/data".into(),
            access: Access::ReadOnly,
            selinux_relabel: false,
            propagation: Propagation::HostToContainer,
        }],
        devices: vec![Device {
            host_path: "/dev/fuse".into(),
            container_path: "/dev/fuse".into(),
            permissions: "rw".into(),
        }],
        labels: map("app", "web"),
        annotations: BTreeMap::new(),
        log_path: Some("c/0.log".into()),
        stdin: true,
        stdin_once: true,
        tty: false,
        stop_signal: Some(Signal(3)),
        resources: resources(),
        namespaces: namespaces(),
        security: Security {
            privilege: Privilege::Privileged,
            capabilities: CapabilityChanges {
                add: vec!["NET_ADMIN".into()],
                drop: vec!["ALL".into()],
                add_ambient: vec![],
            },
            readonly_rootfs: true,
            no_new_privs: true,
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            seccomp: Profile::Localhost("/etc/seccomp/a.json".into()),
            apparmor: Some(Profile::Unconfined),
            selinux: None,
        },
        identity: identity(),
    }
}

pub(in crate::state) fn exited() -> ContainerState {
    ContainerState::Exited(Exit {
        code: 137,
        reason: ExitReason::OomKilled,
        message: "out of memory".into(),
        started_at: Timestamp(10),
        finished_at: Timestamp(20),
    })
}

pub(in crate::state) fn image(digit: char) -> Image {
    Image {
        id: digest(digit),
        tags: BTreeSet::from(["docker.io/library/nginx:1".into()]),
        digests: BTreeSet::from([format!("docker.io/library/nginx@{}", digest('4'))]),
        layers: vec![digest('1')],
        descriptors: vec![LayerDescriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            digest: digest('5'),
            size: 1234,
        }],
        config: ImageConfig {
            user: "www".into(),
            env: vec!["PATH=/bin".into()],
            entrypoint: vec!["/bin/nginx".into()],
            cmd: vec![],
            working_dir: "/".into(),
            volumes: BTreeSet::from(["/data".into()]),
            stop_signal: "SIGQUIT".into(),
            labels: map("author", "somebody"),
        },
        size: 4321,
        config_json: b"{ \"as\": \"it was\xff\" }".to_vec(),
        manifest_json: b"{}".to_vec(),
        index_json: Some(b"[]".to_vec()),
        pulled_at: Timestamp(30),
    }
}

pub(in crate::state) fn layer(digit: char) -> Layer {
    Layer {
        diff_id: digest(digit),
        dir: "a1".into(),
        bytes: 100,
        inodes: 7,
    }
}

pub(in crate::state) fn intent(digit: char) -> Intent {
    Intent::RunPod {
        id: hex_id(digit).parse().unwrap(),
        spec: Box::new(pod_spec()),
        pins: pins(),
    }
}

fn samples() -> Vec<(&'static str, Change)> {
    let running = ContainerState::Running {
        pid: 42,
        started_at: Timestamp(10),
    };
    vec![
        ("pod", Change::PutPod(Box::new(pod('b')))),
        (
            "container-created",
            Change::PutContainer(Box::new(container('c', ContainerState::Created))),
        ),
        (
            "container-running",
            Change::PutContainer(Box::new(container('c', running))),
        ),
        (
            "container-exited",
            Change::PutContainer(Box::new(container('c', exited()))),
        ),
        ("image", Change::PutImage(Box::new(image('3')))),
        ("layer", Change::PutLayer(layer('1'))),
        ("intent-run-pod", Change::Begin(Box::new(intent('d')))),
    ]
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/records/{name}.json"))
}

/// A difference means that databases written before are read differently now. If that is meant, raise the record's
/// version, keep the old golden file as an old shape that must still be read, and write new ones with BLESS=1.
#[test]
fn every_record_is_written_as_its_golden_file_says() {
    for (name, change) in samples() {
        let bytes = encode(&change).unwrap().bytes.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let pretty = format!("{}\n", serde_json::to_string_pretty(&value).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(golden(name), &pretty).unwrap();
        }
        let expected = std::fs::read_to_string(golden(name)).unwrap();
        assert_eq!(pretty, expected, "{name}");
    }
}

#[test]
fn every_golden_record_is_read_back_as_it_was() {
    for (name, change) in samples() {
        let written = encode(&change).unwrap();
        let bytes = std::fs::read(golden(name)).unwrap();
        let mut recorded = Recorded::default();
        decode(written.kind, &written.key, &bytes, &mut recorded).unwrap();
        let Recorded {
            pods,
            containers,
            images,
            layers,
            intents,
            quarantined: _,
        } = recorded;
        let again = match change {
            Change::PutPod(pod) => pods == [*pod],
            Change::PutContainer(container) => containers == [*container],
            Change::PutImage(image) => images == [*image],
            Change::PutLayer(layer) => layers == [layer],
            Change::Begin(intent) => intents == [*intent],
            Change::DeletePod(_)
            | Change::DeleteContainer(_)
            | Change::DeleteImage(_)
            | Change::DeleteLayer(_)
            | Change::End(_) => panic!("{name} has no record"),
        };
        assert!(again, "{name}");
    }
}

#[test]
fn what_is_newer_torn_or_misplaced_is_refused_with_the_reason() {
    let key = hex_id('1');
    let good = format!("sha256:{key}");
    for (bytes, says) in [
        (
            &b"{\"v\":2,\"data\":{\"wholly\":\"new\"}}"[..],
            "record version 2 is newer",
        ),
        (b"{\"v\":0,\"data\":{}}", "record version 0 was never written"),
        (b"{\"v\":1,\"data\":{\"dir\":\"a\"}}", "unreadable"),
        (b"{\"v\":1,\"da", "not a record"),
        (b"", "not a record"),
        (b"\x00\x00\x00\x00", "not a record"),
    ] {
        let mut recorded = Recorded::default();
        let error = decode(Kind::Layer, &good, bytes, &mut recorded)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(says), "{error}");
        assert!(recorded.layers.is_empty());
    }
    let misplaced = encode(&Change::PutLayer(layer('2'))).unwrap().bytes.unwrap();
    let error = decode(Kind::Layer, &good, &misplaced, &mut Recorded::default()).unwrap_err();
    assert!(matches!(error, DecodeError::Key { .. }), "{error}");
}

#[test]
fn ids_name_the_records() {
    let id: PodId = hex_id('a').parse().unwrap();
    let removed = encode(&Change::DeletePod(id.clone())).unwrap();
    assert_eq!((removed.key.as_str(), removed.bytes), (id.as_str(), None));
    let ended = encode(&Change::End(id.clone())).unwrap();
    assert_eq!((ended.kind, ended.key.as_str()), (Kind::Intent, id.as_str()));
    let container: ContainerId = hex_id('a').parse().unwrap();
    assert_eq!(
        encode(&Change::DeleteContainer(container)).unwrap().kind,
        Kind::Container
    );
}
