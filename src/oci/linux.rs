//! Namespaces, limits, devices and hidden paths (contract §5.1, §6.3, §6.5).

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNamespace,
    LinuxNamespaceType, LinuxResources,
};

use super::{Host, Inputs, OciError, mounts};
use crate::base::device::{DeviceKind, DeviceNode};
use crate::domain::pod::NamespaceMode;
use crate::domain::resources::Resources;
use crate::domain::security::Privilege;

/// Everything of `linux` but seccomp.
pub(super) fn build(inputs: &Inputs<'_>) -> Result<Linux, OciError> {
    let security = &inputs.spec.security;
    let devices = devices(inputs)?;
    let mut resources = resources(&inputs.spec.resources, inputs.host)?;
    resources.set_devices(Some(match security.privilege {
        Privilege::Privileged => vec![any_device(Verdict::Allow)],
        Privilege::Ordinary => device_rules(&devices),
    }));
    let (masked, readonly) = match security.privilege {
        Privilege::Privileged => (Vec::new(), Vec::new()),
        Privilege::Ordinary => (texts(&security.masked_paths), texts(&security.readonly_paths)),
    };
    let mut linux = bare(namespaces(inputs)?, inputs.cgroup);
    linux
        .set_devices(Some(devices.iter().copied().map(device).collect()))
        .set_resources(Some(resources))
        .set_rootfs_propagation(Some(mounts::rootfs_propagation(&inputs.spec.mounts).to_owned()))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly));
    Ok(linux)
}

/// Namespaces and cgroup only. Kernel parameters were written when the pod's namespaces were pinned.
pub(super) fn bare(namespaces: Vec<LinuxNamespace>, cgroup: &str) -> Linux {
    let mut linux = Linux::default();
    linux
        .set_resources(None)
        .set_namespaces(Some(namespaces))
        .set_cgroups_path(Some(cgroup.into()))
        .set_masked_paths(None)
        .set_readonly_paths(None);
    linux
}

/// Whose IPC namespace.
pub(super) enum Ipc<'a> {
    /// The pod's, by its pin.
    Pod(&'a Path),
    /// The host's.
    Host,
    /// One of its own.
    Own,
}

/// The container's word counts, but where the pod has no IPC namespace of its own, "the pod's" is the host's.
pub(super) fn ipc<'a>(inputs: &Inputs<'a>) -> Ipc<'a> {
    match (&inputs.spec.namespaces.ipc, &inputs.pod.pins.ipc) {
        (NamespaceMode::Container, _) => Ipc::Own,
        (NamespaceMode::Pod, Some(path)) => Ipc::Pod(path),
        (NamespaceMode::Pod, None) | (NamespaceMode::Node | NamespaceMode::Target(_), _) => Ipc::Host,
    }
}

fn namespaces(inputs: &Inputs<'_>) -> Result<Vec<LinuxNamespace>, OciError> {
    let pins = &inputs.pod.pins;
    let mut namespaces = vec![namespace(LinuxNamespaceType::Mount, None)];
    match (&inputs.pid_mode, &inputs.pid_namespace) {
        (NamespaceMode::Pod | NamespaceMode::Target(_), Some(path)) => {
            namespaces.push(namespace(LinuxNamespaceType::Pid, Some(path)));
        }
        (NamespaceMode::Container, _) => namespaces.push(namespace(LinuxNamespaceType::Pid, None)),
        (NamespaceMode::Node, _) => {}
        // Contract §19: "the pod's" in a pod on the host's PID namespace is the host's.
        (NamespaceMode::Pod, None) if inputs.pod.spec.namespaces.pid == NamespaceMode::Node => {}
        (NamespaceMode::Pod | NamespaceMode::Target(_), None) => return Err(OciError::NoPidNamespace),
    }
    match ipc(inputs) {
        Ipc::Pod(path) => namespaces.push(namespace(LinuxNamespaceType::Ipc, Some(path))),
        Ipc::Own => namespaces.push(namespace(LinuxNamespaceType::Ipc, None)),
        Ipc::Host => {}
    }
    let pinned = [
        (LinuxNamespaceType::Network, &pins.net),
        (LinuxNamespaceType::Uts, &pins.uts),
    ];
    let joined = |(kind, pin): (_, &'_ Option<PathBuf>)| pin.as_deref().map(|path| namespace(kind, Some(path)));
    namespaces.extend(pinned.into_iter().filter_map(joined));
    // On v1 a container sees its cgroups through the binds of the cgroup mount already.
    if inputs.host.cgroup_v2 && inputs.spec.security.privilege == Privilege::Ordinary {
        namespaces.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    Ok(namespaces)
}

pub(super) fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path.map(Path::to_path_buf));
    namespace
}

/// Limits without device rules. Absent ones are left to the kernel.
pub(super) fn resources(asked: &Resources, host: &Host) -> Result<LinuxResources, OciError> {
    let Resources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit,
        memory_swap_limit,
        oom_score_adj: _, // of the process, not of the cgroup
        cpuset_cpus,
        cpuset_mems,
        hugepages,
        unified,
    } = asked;
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(*cpu_shares)
        .set_quota(*cpu_quota)
        .set_period(*cpu_period)
        .set_cpus(some_text(cpuset_cpus))
        .set_mems(some_text(cpuset_mems));
    let mut memory = LinuxMemory::default();
    if let Some(limit) = memory_limit.filter(|limit| *limit > 0) {
        // Memory and swap together: without a word about swap there is none (contract §6.5).
        memory
            .set_limit(Some(limit))
            .set_swap(Some(memory_swap_limit.unwrap_or(limit)));
    }
    if !unified.is_empty() && !host.cgroup_v2 {
        return Err(OciError::UnifiedOnV1);
    }
    let mut resources = LinuxResources::default();
    resources
        .set_cpu((cpu != LinuxCpu::default()).then_some(cpu))
        .set_memory((memory != LinuxMemory::default()).then_some(memory))
        .set_hugepage_limits((!hugepages.is_empty()).then(|| hugepages.iter().map(hugepage).collect()))
        .set_unified((!unified.is_empty()).then(|| unified.clone().into_iter().collect()));
    Ok(resources)
}

fn hugepage((size, limit): &(String, u64)) -> LinuxHugepageLimit {
    let mut hugepage = LinuxHugepageLimit::default();
    hugepage
        .set_page_size(size.clone())
        .set_limit(i64::try_from(*limit).unwrap_or(i64::MAX));
    hugepage
}

/// The nodes beside the default ones: those asked for, and for a privileged container all of the host's, where none of
/// the former takes their place.
fn devices<'a>(inputs: &Inputs<'a>) -> Result<Vec<&'a DeviceNode>, OciError> {
    if let (Some(device), true) = (inputs.spec.devices.first(), inputs.devices.is_empty()) {
        return Err(OciError::DeviceUnresolved {
            path: device.host_path.clone(),
        });
    }
    let hosts: &[DeviceNode] = match inputs.spec.security.privilege {
        Privilege::Privileged => &inputs.host.host_devices,
        Privilege::Ordinary => &[],
    };
    let replaced = |node: &DeviceNode| inputs.devices.iter().any(|asked| asked.path == node.path);
    let hosts = hosts.iter().filter(|node| !replaced(node));
    Ok(hosts.chain(inputs.devices).collect())
}

fn device(node: &DeviceNode) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone())
        .set_typ(kind(node.kind))
        .set_major(i64::from(node.major))
        .set_minor(i64::from(node.minor))
        .set_file_mode(Some(node.mode))
        .set_uid(Some(node.uid))
        .set_gid(Some(node.gid));
    device
}

/// Default nodes every container has: (major, minor); `None` is any minor.
const DEFAULT_DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

/// Everything is forbidden, then single devices are allowed (GHSA-g54h-m393-cpwq). Nodes of any device may be made
/// but not opened: package managers make them.
fn device_rules(devices: &[&DeviceNode]) -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![any_device(Verdict::Deny)];
    for kind in [LinuxDeviceType::C, LinuxDeviceType::B] {
        rules.push(allow(kind, None, None, "m"));
    }
    let each = |(major, minor)| allow(LinuxDeviceType::C, Some(major), minor, "rwm");
    rules.extend(DEFAULT_DEVICES.into_iter().map(each));
    let asked = |node: &&DeviceNode| {
        let number = |number| Some(i64::from(number));
        allow(
            kind(node.kind),
            number(node.major),
            number(node.minor),
            &node.permissions,
        )
    };
    rules.extend(devices.iter().map(asked));
    rules
}

enum Verdict {
    Allow,
    Deny,
}

fn any_device(verdict: Verdict) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(matches!(verdict, Verdict::Allow))
        .set_access(Some("rwm".to_owned()));
    rule
}

fn allow(kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

fn kind(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
