mod security;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::exec::{ContainerProcess, ExecIo};
use super::*;
use crate::base::clock::Timestamp;
use crate::base::device::DeviceKind;
use crate::domain::container::{ContainerMetadata, ImageRequest};
use crate::domain::mount::{Access, Device, Mount, Propagation};
use crate::domain::pod::{Namespaces, Pins, PodMetadata, PodSpec, PodState};
use crate::domain::security::{CapabilityChanges, GroupsPolicy, PodSecurity, Security};

/// A v1 host whose daemon has every capability.
pub(super) fn host() -> Host {
    Host {
        cgroup_v2: false,
        apparmor: false,
        selinux: false,
        last_cap: 40,
        own_caps: (1 << 41) - 1,
        host_devices: vec![DeviceNode {
            path: "/dev/kvm".into(),
            kind: DeviceKind::Char,
            major: 10,
            minor: 232,
            mode: 0o660,
            uid: 0,
            gid: 104,
            permissions: "rwm".into(),
        }],
    }
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
                attempt: 0,
            },
            hostname: "web".into(),
            log_directory: Some("/var/log/pods/web".into()),
            dns: None,
            ports: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            cgroup_parent: "/kubepods/podu-1".into(),
            sysctls: BTreeMap::new(),
            namespaces: namespaces(),
            security: PodSecurity {
                privilege: Privilege::Ordinary,
                identity: identity(),
                readonly_rootfs: true,
                seccomp: Profile::RuntimeDefault,
                apparmor: None,
                selinux: None,
            },
            overhead: Resources::default(),
            resources: Resources::default(),
            runtime_handler: String::new(),
        },
        created_at: Timestamp(1),
        state: PodState::Ready,
        pins: Pins {
            net: Some("/var/run/netns/copepod-1".into()),
            ipc: Some("/run/copepod/ns/1-ipc".into()),
            uts: Some("/run/copepod/ns/1-uts".into()),
        },
        attachment: None,
        network_owed: false,
        effective_hostname: "web".into(),
        boot_id: String::new(),
    }
}

fn container() -> ContainerSpec {
    ContainerSpec {
        metadata: ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        },
        image: ImageRequest {
            image: "busybox".into(),
            user_specified: String::new(),
            annotations: BTreeMap::new(),
            runtime_handler: String::new(),
        },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([("run.oci.keep_original_groups".to_owned(), "1".to_owned())]),
        log_path: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: None,
        resources: Resources::default(),
        namespaces: namespaces(),
        security: Security {
            privilege: Privilege::Ordinary,
            capabilities: CapabilityChanges::default(),
            readonly_rootfs: false,
            no_new_privs: false,
            masked_paths: vec!["/proc/kcore".into(), "/sys/firmware".into()],
            readonly_paths: vec!["/proc/sys".into()],
            seccomp: Profile::Unconfined,
            apparmor: None,
            selinux: None,
        },
        identity: identity(),
    }
}

fn image() -> ImageConfig {
    ImageConfig {
        env: vec!["LANG=C.UTF-8".into(), "AWS_SECRET".into(), "=x".into(), "B\0=c".into()],
        entrypoint: vec!["/entry".into()],
        cmd: vec!["--serve".into()],
        ..ImageConfig::default()
    }
}

fn user() -> ResolvedUser {
    ResolvedUser {
        uid: 0,
        gid: 0,
        groups: vec![0, 10],
        home: "/root".into(),
    }
}

/// Everything a test may change.
struct Case {
    pod: Pod,
    spec: ContainerSpec,
    image: ImageConfig,
    user: ResolvedUser,
    host: Host,
    pid: (NamespaceMode, Option<PathBuf>),
    devices: Vec<DeviceNode>,
}

impl Case {
    fn new() -> Self {
        Self {
            pod: pod(),
            spec: container(),
            image: image(),
            user: user(),
            host: host(),
            pid: (NamespaceMode::Container, None),
            devices: Vec::new(),
        }
    }

    fn build(&self) -> Result<Spec, OciError> {
        let files = PodFiles {
            hosts: "/run/copepod/p/1/hosts".into(),
            hostname: "/run/copepod/p/1/hostname".into(),
            resolv_conf: "/run/copepod/p/1/resolv.conf".into(),
            shm: "/run/copepod/p/1/shm".into(),
        };
        build(&Inputs {
            pod: &self.pod,
            spec: &self.spec,
            image: &self.image,
            user: &self.user,
            cgroup: "/kubepods/podu-1/c1",
            files: &files,
            pid_namespace: self.pid.1.clone(),
            pid_mode: self.pid.0.clone(),
            devices: &self.devices,
            localhost_seccomp: None,
            host: &self.host,
        })
    }

    fn args(&self) -> Vec<String> {
        self.build().unwrap().process().clone().unwrap().args().clone().unwrap()
    }

    fn env(&self) -> Vec<String> {
        self.build().unwrap().process().clone().unwrap().env().clone().unwrap()
    }

    fn mounts(&self) -> Vec<String> {
        let text = |mount: &oci_spec::runtime::Mount| mount.destination().display().to_string();
        self.build().unwrap().mounts().iter().flatten().map(text).collect()
    }
}

/// JSON with the sets of capabilities, which the OCI types leave unordered, sorted.
fn canonical(spec: &Spec) -> String {
    let mut value = serde_json::to_value(spec).unwrap();
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by_key(ToString::to_string);
        }
    }
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

/// Compares with `tests/golden/oci/NAME.json`; UPDATE_GOLDEN=1 writes it anew, to be reviewed as a diff.
fn golden(name: &str, spec: &Spec) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/oci/{name}.json"));
    let found = canonical(spec);
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

#[test]
fn golden_plain_container() {
    golden("plain", &Case::new().build().unwrap());
}

#[test]
fn golden_default_seccomp() {
    let mut case = Case::new();
    case.spec.security.seccomp = Profile::RuntimeDefault;
    case.spec.security.no_new_privs = true;
    if ARCH == "x86_64" {
        golden("seccomp-x86_64", &case.build().unwrap());
    }
}

#[test]
fn golden_everything() {
    let mut case = Case::new();
    case.host.cgroup_v2 = true;
    case.spec.command = vec!["/bin/sh".into(), "-c".into()];
    case.spec.args = vec!["top".into()];
    case.spec.working_dir = "/srv".into();
    case.spec.tty = true;
    case.spec.envs = vec![("LANG".into(), b"de_DE".to_vec()), ("MULTI".into(), b"a\nb".to_vec())];
    case.spec.mounts = vec![
        volume("/data", Access::ReadOnly),
        volume("/etc/hosts", Access::ReadWrite),
    ];
    case.spec.mounts[0].propagation = Propagation::HostToContainer;
    case.spec.security.readonly_rootfs = true;
    case.spec.security.capabilities.add_ambient = vec!["NET_BIND_SERVICE".into()];
    case.spec.security.capabilities.drop = vec!["ALL".into()];
    case.spec.resources = Resources {
        cpu_period: Some(100_000),
        cpu_quota: Some(20_000),
        cpu_shares: Some(512),
        memory_limit: Some(64 << 20),
        memory_swap_limit: None,
        oom_score_adj: 990,
        cpuset_cpus: "0-1".into(),
        cpuset_mems: "0".into(),
        hugepages: vec![("2MB".into(), 0)],
        unified: BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]),
    };
    case.spec.devices = vec![Device {
        host_path: "/dev/fuse".into(),
        container_path: "/dev/fuse".into(),
        permissions: "rw".into(),
    }];
    case.devices = vec![DeviceNode {
        path: "/dev/fuse".into(),
        kind: DeviceKind::Char,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        permissions: "rw".into(),
    }];
    golden("everything", &case.build().unwrap());
}

#[test]
fn golden_privileged_on_the_host() {
    let mut case = Case::new();
    case.pod.spec.security.privilege = Privilege::Privileged;
    case.pod.spec.namespaces = Namespaces {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Node,
        ipc: NamespaceMode::Node,
    };
    case.spec.namespaces = case.pod.spec.namespaces.clone();
    case.pod.pins = Pins::default();
    case.pid = (NamespaceMode::Node, None);
    case.spec.security.privilege = Privilege::Privileged;
    case.spec.security.seccomp = Profile::RuntimeDefault;
    case.host.cgroup_v2 = true;
    golden("privileged", &case.build().unwrap());
}

#[test]
fn a_privileged_container_keeps_the_hosts_devices_beside_those_it_names() {
    let mut case = Case::new();
    case.pod.spec.security.privilege = Privilege::Privileged;
    case.spec.security.privilege = Privilege::Privileged;
    let kvm = case.host.host_devices[0].clone();
    let named = |path: &str, mode| DeviceNode {
        path: path.into(),
        mode,
        ..kvm.clone()
    };
    case.devices = vec![named("/dev/fuse", 0o666), named("/dev/kvm", 0o600)];
    let spec = case.build().unwrap();
    let devices = spec.linux().as_ref().unwrap().devices().as_ref().unwrap();
    let found: Vec<_> = devices
        .iter()
        .map(|device| (device.path().to_str(), device.file_mode()))
        .collect();
    assert_eq!(
        found,
        [(Some("/dev/fuse"), Some(0o666)), (Some("/dev/kvm"), Some(0o600))]
    );
    case.devices = vec![named("/dev/fuse", 0o666)];
    let spec = case.build().unwrap();
    assert_eq!(spec.linux().as_ref().unwrap().devices().as_ref().unwrap().len(), 2);
}

#[test]
fn golden_pod_init() {
    let mut pod = pod();
    pod.spec.security.seccomp = Profile::Unconfined;
    pod.spec.security.identity.user = RequestedUser::Uid(65535);
    golden(
        "pod-init",
        &build_pod_init(&pod, "/kubepods/podu-1/1", &host()).unwrap(),
    );
}

#[test]
fn argv_follows_the_contract() {
    type Words = &'static [&'static str];
    let table: [(Words, Words, Words, Words, Words); 6] = [
        // command, args, entrypoint, cmd → argv
        (&["c"], &["a"], &["e"], &["m"], &["c", "a"]),
        (&["c"], &[], &["e"], &["m"], &["c"]),
        (&[], &["a"], &["e"], &["m"], &["e", "a"]),
        (&[], &[], &["e"], &["m"], &["e", "m"]),
        (&[], &[], &[""], &["m"], &["m"]),
        (&[], &["a"], &[], &["m"], &["a"]),
    ];
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (command, args, entrypoint, cmd, expected) in table {
        let mut case = Case::new();
        (case.spec.command, case.spec.args) = (own(command), own(args));
        (case.image.entrypoint, case.image.cmd) = (own(entrypoint), own(cmd));
        assert_eq!(case.args(), expected);
    }
    let mut case = Case::new();
    (case.image.entrypoint, case.image.cmd) = (vec![String::new()], Vec::new());
    assert!(matches!(case.build(), Err(OciError::NoCommand)));
}

#[test]
fn cve_2026_57231_malformed_image_environment_is_dropped() {
    assert_eq!(
        Case::new().env(),
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=web",
            "LANG=C.UTF-8",
            "HOME=/root"
        ]
    );
}

#[test]
fn the_request_wins_over_image_and_defaults() {
    let mut case = Case::new();
    case.spec.tty = true;
    case.image.env = vec!["PATH=/image".into(), "TERM=dumb".into(), "HOME=/image".into()];
    case.spec.envs = vec![
        ("HOSTNAME".into(), b"mine".to_vec()),
        ("PATH".into(), b"/mine".to_vec()),
    ];
    assert_eq!(case.env(), ["PATH=/mine", "HOSTNAME=mine", "TERM=dumb", "HOME=/image"]);
    case.spec.envs = vec![("BYTES".into(), vec![0xff])];
    assert!(matches!(case.build(), Err(OciError::EnvNotUtf8 { .. })));
}

#[test]
fn a_large_environment_takes_no_time() {
    let mut case = Case::new();
    case.spec.envs = (0..40_000)
        .map(|n| (format!("SERVICE_{n}_PORT"), b"80".to_vec()))
        .collect();
    let begun = std::time::Instant::now();
    assert_eq!(case.env().len(), 40_004);
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));
}

fn volume(path: &str, access: Access) -> Mount {
    Mount {
        container_path: path.into(),
        host_path: "/srv/volume".into(),
        access,
        selinux_relabel: true,
        propagation: Propagation::Private,
    }
}

#[test]
fn a_recursively_read_only_volume_is_one_for_the_shim_too() {
    let mut case = Case::new();
    case.spec.mounts = vec![volume("/data", Access::ReadOnlyTree)];
    let spec = case.build().unwrap();
    let mounts = spec.mounts().as_ref().unwrap();
    let data = mounts
        .iter()
        .find(|mount| mount.destination().ends_with("data"))
        .unwrap();
    assert_eq!(data.options().as_deref().unwrap(), ["rbind", "rprivate", "rro"]);
}

#[test]
fn mounts_of_the_request_replace_ours_and_are_ordered_by_depth() {
    let mut case = Case::new();
    let paths = ["/a/b/c", "/etc//hosts/", "/a", "/dev/shm", "/a/b"];
    case.spec.mounts = paths.map(|path| volume(path, Access::ReadWrite)).to_vec();
    assert_eq!(
        case.mounts(),
        [
            "/proc",
            "/dev",
            "/sys",
            "/a",
            "/dev/pts",
            "/dev/mqueue",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/etc/hosts",
            "/dev/shm",
            "/a/b",
            "/sys/fs/cgroup",
            "/a/b/c"
        ]
    );
}

#[test]
fn a_dev_of_the_request_comes_without_ours_below() {
    let mut case = Case::new();
    case.spec.mounts = vec![volume("/dev", Access::ReadWrite)];
    assert!(!case.mounts().iter().any(|path| path.starts_with("/dev/")));
}

#[test]
fn propagation_of_the_root_is_the_widest() {
    let mut case = Case::new();
    case.spec.mounts = vec![volume("/a", Access::ReadWrite), volume("/b", Access::ReadWrite)];
    let root = |case: &Case| {
        case.build()
            .unwrap()
            .linux()
            .clone()
            .unwrap()
            .rootfs_propagation()
            .clone()
            .unwrap()
    };
    assert_eq!(root(&case), "rprivate");
    case.spec.mounts[1].propagation = Propagation::HostToContainer;
    assert_eq!(root(&case), "rslave");
    case.spec.mounts[0].propagation = Propagation::Bidirectional;
    assert_eq!(root(&case), "rshared");
}

fn pid_namespace(case: &Case) -> Result<Option<Option<PathBuf>>, OciError> {
    let spec = case.build()?;
    let namespaces = spec.linux().clone().unwrap().namespaces().clone().unwrap();
    let pid = namespaces
        .into_iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Pid);
    Ok(pid.map(|namespace| namespace.path().clone()))
}

#[test]
fn pid_namespaces_follow_the_mode() {
    let mut case = Case::new();
    assert_eq!(pid_namespace(&case).unwrap(), Some(None), "its own");
    case.pid = (NamespaceMode::Pod, Some("/proc/7/ns/pid".into()));
    assert_eq!(
        pid_namespace(&case).unwrap(),
        Some(Some("/proc/7/ns/pid".into())),
        "the pod's"
    );
    case.pid = (NamespaceMode::Node, None);
    assert_eq!(pid_namespace(&case).unwrap(), None, "the host's");
    case.pid = (NamespaceMode::Pod, None);
    assert!(matches!(pid_namespace(&case), Err(OciError::NoPidNamespace)));
    case.pod.spec.namespaces.pid = NamespaceMode::Node;
    assert_eq!(pid_namespace(&case).unwrap(), None, "the pod's is the host's");
}

#[test]
fn unified_needs_v2_and_devices_need_to_be_known() {
    let mut case = Case::new();
    case.spec.resources.unified = BTreeMap::from([("memory.high".to_owned(), "1".to_owned())]);
    assert!(matches!(case.build(), Err(OciError::UnifiedOnV1)));
    let mut case = Case::new();
    case.spec.devices = vec![Device {
        host_path: "/dev/fuse".into(),
        container_path: "/dev/fuse".into(),
        permissions: "rw".into(),
    }];
    assert!(matches!(case.build(), Err(OciError::DeviceUnresolved { .. })));
}

#[test]
fn no_swap_unless_asked_for() {
    let memory = |limit, swap| {
        let asked = Resources {
            memory_limit: limit,
            memory_swap_limit: swap,
            ..Resources::default()
        };
        let memory = *linux::resources(&asked, &host()).unwrap().memory();
        memory.map(|memory| (memory.limit(), memory.swap()))
    };
    assert_eq!(memory(Some(100), None), Some((Some(100), Some(100))));
    assert_eq!(memory(Some(100), Some(300)), Some((Some(100), Some(300))));
    assert_eq!(memory(Some(100), Some(-1)), Some((Some(100), Some(-1))));
    assert_eq!(memory(Some(-1), None), None);
    assert_eq!(memory(None, None), None);
}

#[test]
fn an_exec_is_the_containers_process_with_other_arguments() {
    let spec = Case::new().build().unwrap();
    let base = ContainerProcess::of_spec(&serde_json::to_vec(&spec).unwrap()).unwrap();
    let json = base.exec(&["id".to_owned()], ExecIo::Terminal).unwrap();
    let exec: oci_spec::runtime::Process = serde_json::from_slice(&json).unwrap();
    let mut expected = spec.process().clone().unwrap();
    expected.set_args(Some(vec!["id".to_owned()])).set_terminal(Some(true));
    assert_eq!(exec, expected);
    assert!(matches!(base.exec(&[], ExecIo::Streams), Err(OciError::EmptyExec)));
    assert!(matches!(
        ContainerProcess::of_spec(b"{}"),
        Err(OciError::ProcessUnreadable { .. })
    ));
}

#[test]
fn q12_annotations_of_the_request_are_inert() {
    assert!(Case::new().build().unwrap().annotations().is_none());
}
