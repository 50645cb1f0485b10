//! What building a container takes, decided before anything is done: an OCI spec in, an ordered list of steps out.
//! Pure: no clock, no file, no system call; the acting is in `init`, which runs the steps as they stand.

pub(crate) mod capability;
pub(crate) mod error;
pub(crate) mod mounts;
pub(crate) mod process;
pub(crate) mod resources;
pub(crate) mod spec;
pub(crate) mod sysctl;
mod text;

use std::ffi::CString;

use error::PlanError;
use mounts::{Attach, TreeSource};
use process::{ProcessPlan, Terminal};
use spec::{Device, NamespaceKind, Spec};

/// Everything that creating one container takes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Namespaces to make; the cgroup namespace is a step, since it begins at the cgroup one is in.
    pub(crate) new_namespaces: Vec<NamespaceKind>,
    /// Namespaces to join, by path.
    pub(crate) joined: Vec<Joined>,
    /// Host trees to open before any namespace is left; steps name them by index.
    pub(crate) trees: Vec<TreeSource>,
    /// In this order, in the new process.
    pub(crate) steps: Vec<Step>,
    /// What runs at the end.
    pub(crate) process: ProcessPlan,
    /// Which program that is.
    pub(crate) program: Program,
}

/// A namespace that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Its kind.
    pub(crate) kind: NamespaceKind,
    /// A namespace file.
    pub(crate) path: String,
}

/// What init becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The image's.
    Process,
    /// Our own `pause` verb, which reaps what a shared PID namespace orphans.
    Pause,
}

/// One thing that init does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Join the namespace with this index in [`Plan::joined`].
    Join(usize),
    /// A cgroup namespace rooted at the cgroup that init is in by now.
    NewCgroupNamespace,
    /// Write `/proc/self/oom_score_adj`.
    OomScore(i32),
    /// Write a kernel parameter, as path components below `/proc/sys`.
    Sysctl {
        /// `net/ipv4/ip_forward`.
        path: String,
        /// Written as it is.
        value: String,
    },
    /// Cut propagation towards the host.
    IsolateMounts,
    /// Attach the rootfs, make it `/`, and let go of the host's tree: from here on nothing of the host has a name.
    EnterRoot,
    /// Attach a filesystem or a tree of the host.
    Attach(Attach),
    /// Make a device node, or accept one that is the same.
    Device(DeviceNode),
    /// Make a symbolic link where nothing is.
    Link {
        /// Where it points.
        target: String,
        /// Absolute path.
        path: String,
    },
    /// Make a pseudo-terminal on the container's own devpts and show it at `/dev/console`.
    Console(Terminal),
    /// Make a directory with its parents unless it is there.
    MakeDirectory(String),
    /// Set the UTS host name.
    HostName(String),
    /// Set the UTS domain name.
    DomainName(String),
    /// Hide a path, if it exists.
    Mask(String),
    /// Make a path read-only, if it exists.
    MakeReadOnly(String),
    /// Set read-only what had to be writable while mount points were made in it.
    SealMounts,
    /// Set the rootfs read-only.
    SealRoot,
    /// Propagation of the rootfs itself.
    RootPropagation(u64),
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Absolute path.
    pub(crate) path: String,
    /// Character, block or fifo.
    pub(crate) kind: DeviceKind,
    /// Major number.
    pub(crate) major: u32,
    /// Minor number.
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// `c`, `u`.
    Character,
    /// `b`.
    Block,
    /// `p`.
    Fifo,
}

/// What of the host decides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// What a mount of type `cgroup` shows.
    pub(crate) cgroup: CgroupView,
}

/// The cgroup trees, as a container may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupView {
    /// One v2 tree.
    Unified,
    /// v1: each hierarchy's name below `/sys/fs/cgroup` and the container's own directory in it, on the host.
    Split(Vec<Hierarchy>),
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// `memory`, `cpu,cpuacct`, `systemd`.
    pub(crate) name: String,
    /// The container's cgroup.
    pub(crate) directory: String,
}

/// Asks for another first program than the image's.
pub(crate) const ANNOTATION_INIT: &str = "dev.copepod.init";

/// Decides everything about one container.
///
/// # Errors
/// Names the field of the spec that is malformed, unsafe or not supported.
pub(crate) fn build(spec: &Spec, host: &Host) -> Result<Plan, PlanError> {
    refuse(spec)?;
    let process = ProcessPlan::new(&spec.process)?;
    let (new_namespaces, joined) = namespaces(spec)?;
    let has = |kind| new_namespaces.contains(&kind) || joined.iter().any(|ns: &Joined| ns.kind == kind);
    let mut steps = Vec::new();
    // The PID namespace is entered by the fork itself.
    let enterable = joined
        .iter()
        .enumerate()
        .filter(|(_, ns)| ns.kind != NamespaceKind::Pid);
    steps.extend(enterable.map(|(index, _)| Step::Join(index)));
    if new_namespaces.contains(&NamespaceKind::Cgroup) {
        steps.push(Step::NewCgroupNamespace);
    }
    steps.extend(process.oom_score_adj.map(Step::OomScore));
    for (key, value) in &spec.linux.sysctl {
        steps.push(sysctl::step(key, value, has)?);
    }
    steps.extend([Step::IsolateMounts, Step::EnterRoot]);
    let mut trees = Vec::new();
    for mount in &spec.mounts {
        mounts::plan(
            mount,
            host,
            &mut mounts::Output {
                steps: &mut steps,
                trees: &mut trees,
            },
        )?;
    }
    devices(spec, &mut steps)?;
    if let Some(terminal) = process.terminal {
        if !mounts::has_terminals(&spec.mounts) {
            return Err(PlanError::TerminalWithoutDevpts);
        }
        steps.push(Step::Console(terminal));
    }
    steps.push(Step::MakeDirectory(process.cwd.clone()));
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if !name.is_empty() && !has(NamespaceKind::Uts) {
            return Err(PlanError::NamespaceMissing {
                field: field.to_owned(),
                kind: NamespaceKind::Uts,
            });
        }
    }
    steps.extend((!spec.hostname.is_empty()).then(|| Step::HostName(spec.hostname.clone())));
    steps.extend((!spec.domainname.is_empty()).then(|| Step::DomainName(spec.domainname.clone())));
    finish(spec, &mut steps)?;
    Ok(Plan {
        new_namespaces,
        joined,
        trees,
        steps,
        process,
        program: program(spec)?,
    })
}

/// What closes doors comes last: everything before it may still have to write.
fn finish(spec: &Spec, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let linux = &spec.linux;
    for (field, paths) in [
        ("linux.maskedPaths", &linux.masked_paths),
        ("linux.readonlyPaths", &linux.readonly_paths),
    ] {
        if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
            return Err(PlanError::RelativePath {
                field,
                path: path.clone(),
            });
        }
    }
    steps.extend(linux.readonly_paths.iter().cloned().map(Step::MakeReadOnly));
    steps.extend(linux.masked_paths.iter().cloned().map(Step::Mask));
    steps.push(Step::SealMounts);
    if spec.root.readonly {
        steps.push(Step::SealRoot);
    }
    steps.push(Step::RootPropagation(mounts::root_propagation(
        &linux.rootfs_propagation,
    )?));
    Ok(())
}

fn program(spec: &Spec) -> Result<Program, PlanError> {
    match spec.annotations.get(ANNOTATION_INIT).map(String::as_str) {
        None => Ok(Program::Process),
        Some("pause") => Ok(Program::Pause),
        Some(value) => Err(PlanError::Init {
            value: value.to_owned(),
        }),
    }
}

/// Refuses what would weaken or change the container if it were ignored.
fn refuse(spec: &Spec) -> Result<(), PlanError> {
    if !spec.oci_version.starts_with("1.") {
        return Err(PlanError::Version {
            version: spec.oci_version.clone(),
        });
    }
    if let Some((kind, _)) = spec.hooks.iter().find(|(_, hooks)| !hooks.is_empty()) {
        return Err(PlanError::Unsupported {
            field: format!("hooks.{kind}"),
        });
    }
    let linux = &spec.linux;
    refuse_first(&[
        ("linux.uidMappings", !linux.uid_mappings.is_empty()),
        ("linux.gidMappings", !linux.gid_mappings.is_empty()),
        ("linux.mountLabel", !linux.mount_label.is_empty()),
        ("linux.intelRdt", linux.intel_rdt.is_some()),
        ("linux.personality", linux.personality.is_some()),
        ("linux.memoryPolicy", linux.memory_policy.is_some()),
        ("linux.netDevices", !linux.net_devices.is_empty()),
        ("linux.timeOffsets", !linux.time_offsets.is_empty()),
    ])
}

fn refuse_first(asked: &[(&str, bool)]) -> Result<(), PlanError> {
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((field, _)) => Err(PlanError::Unsupported {
            field: (*field).to_owned(),
        }),
    }
}

fn namespaces(spec: &Spec) -> Result<(Vec<NamespaceKind>, Vec<Joined>), PlanError> {
    let (mut new, mut joined) = (Vec::new(), Vec::<Joined>::new());
    for namespace in &spec.linux.namespaces {
        let kind = namespace.kind;
        if new.contains(&kind) || joined.iter().any(|ns| ns.kind == kind) {
            return Err(PlanError::NamespaceTwice { kind });
        }
        match (kind, namespace.path.as_str()) {
            (NamespaceKind::User, _) => return unsupported("linux.namespaces: a user namespace"),
            (NamespaceKind::Time, _) => return unsupported("linux.namespaces: a time namespace"),
            (NamespaceKind::Mount, path) if !path.is_empty() => {
                return unsupported("linux.namespaces: joining a mount namespace");
            }
            (_, "") => new.push(kind),
            (_, path) if path.starts_with('/') => joined.push(Joined {
                kind,
                path: path.to_owned(),
            }),
            (_, path) => {
                return Err(PlanError::RelativePath {
                    field: "linux.namespaces.path",
                    path: path.to_owned(),
                });
            }
        }
    }
    if !new.contains(&NamespaceKind::Mount) {
        return Err(PlanError::NamespaceMissing {
            field: "root".to_owned(),
            kind: NamespaceKind::Mount,
        });
    }
    Ok((new, joined))
}

fn unsupported<T>(field: &str) -> Result<T, PlanError> {
    Err(PlanError::Unsupported {
        field: field.to_owned(),
    })
}

/// Nodes that every container has (runtime-spec, config-linux.md, "Default Devices"), then the spec's own.
fn devices(spec: &Spec, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    const DEFAULT: [(&str, u32, u32); 6] = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    const LINKS: [(&str, &str); 5] = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    // A /dev of the host's is not ours to fill.
    if mounts::dev_is_bound(&spec.mounts) {
        return Ok(());
    }
    let own = &spec.linux.devices;
    let defaults = DEFAULT
        .into_iter()
        .filter(|(path, ..)| !own.iter().any(|device| device.path == *path));
    steps.extend(defaults.map(|(path, major, minor)| {
        let (kind, path) = (DeviceKind::Character, path.to_owned());
        Step::Device(DeviceNode {
            path,
            kind,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
    }));
    for device in own {
        steps.push(Step::Device(node(device)?));
    }
    let link = |(target, path): (&str, &str)| Step::Link {
        target: target.to_owned(),
        path: path.to_owned(),
    };
    steps.extend(LINKS.into_iter().map(link));
    Ok(())
}

fn node(device: &Device) -> Result<DeviceNode, PlanError> {
    let path = device.path.clone();
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") || CString::new(path.as_str()).is_err() {
        return Err(PlanError::RelativePath {
            field: "linux.devices.path",
            path,
        });
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => DeviceKind::Character,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => {
            return Err(PlanError::DeviceType {
                path,
                kind: other.to_owned(),
            });
        }
    };
    let mode = device.file_mode.unwrap_or(0o666) & 0o7777;
    let (uid, gid) = (device.uid.unwrap_or_default(), device.gid.unwrap_or_default());
    Ok(DeviceNode {
        path,
        kind,
        major: device.major,
        minor: device.minor,
        mode,
        uid,
        gid,
    })
}

#[cfg(test)]
mod tests;
