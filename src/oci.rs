//! Floor 2, pure: (pod, container, image) → OCI runtime spec. Same input, same output.

mod capability;
pub mod exec;
mod linux;
mod mounts;
mod process;
pub mod profile;
mod seccomp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::env::consts::ARCH;
use std::path::PathBuf;
use std::str::Utf8Error;

use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp, Root, Spec, VERSION};
use profile::SeccompProfile;

use crate::base::device::DeviceNode;
use crate::domain::container::ContainerSpec;
use crate::domain::error::Kind;
use crate::domain::image::ImageConfig;
use crate::domain::pod::{NamespaceMode, Pod, PodSpec};
use crate::domain::resources::Resources;
use crate::domain::security::{Identity, Privilege, Profile, RequestedUser, ResolvedUser};

/// Marks the spec of a pod's init: the shim then runs its own `pause` instead of the process named.
pub const INIT_ANNOTATION: &str = "dev.copepod.init";

/// Everything a spec is made of.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// What is asked for.
    pub spec: &'a ContainerSpec,
    /// What the image says.
    pub image: &'a ImageConfig,
    /// Who it runs as.
    pub user: &'a ResolvedUser,
    /// Container's cgroup, cgroupfs syntax.
    pub cgroup: &'a str,
    /// The pod's files on the host.
    pub files: &'a PodFiles,
    /// A pid namespace to join by path (pod's init or target container); `None` follows the mode: own or host.
    pub pid_namespace: Option<PathBuf>,
    /// The effective pid mode.
    pub pid_mode: NamespaceMode,
    /// The nodes that the request's devices are on this host ([`crate::base::device::at`]).
    pub devices: &'a [DeviceNode],
    /// The node's seccomp profile when the request names one, read and parsed.
    pub localhost_seccomp: Option<&'a SeccompProfile>,
    /// What this host can do.
    pub host: &'a Host,
}

/// Files made for a pod.
#[derive(Debug, Clone)]
pub struct PodFiles {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/dev/shm`.
    pub shm: PathBuf,
}

/// Facts of the host, gathered once.
#[derive(Debug, Clone)]
pub struct Host {
    /// Pure cgroup v2.
    pub cgroup_v2: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on, enforcing or permissive.
    pub selinux: bool,
    /// Highest capability the kernel knows.
    pub last_cap: u8,
    /// Capabilities the daemon has itself (bit mask): what `ALL` and privileged mean.
    pub own_caps: u64,
    /// Devices that privileged containers see ([`crate::base::device::all`]).
    pub host_devices: Vec<DeviceNode>,
}

/// The request cannot become a container.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// SELinux is on, and labels are not set here yet.
    #[error(
        "selinux_options {label:?}: copepod cannot set SELinux labels yet; leave selinux_options empty or turn SELinux off on this node"
    )]
    SelinuxUnsupported {
        /// As asked for.
        label: String,
    },
    /// SELinux is on, and volumes are not relabelled here yet.
    #[error(
        "mount {path}: copepod cannot relabel volumes for SELinux yet; unset selinux_relabel or turn SELinux off on this node"
    )]
    RelabelUnsupported {
        /// Where in the container.
        path: String,
    },
    /// Neither request nor image say what to run.
    #[error("no command: neither the container nor its image has one; set command or args")]
    NoCommand,
    /// An exec of nothing.
    #[error("no command to execute: give at least the program")]
    EmptyExec,
    /// JSON cannot carry it.
    #[error("environment variable {key}: its value is not UTF-8, which a container's configuration must be")]
    EnvNotUtf8 {
        /// Its name.
        key: String,
        /// Where it stops being text.
        source: Utf8Error,
    },
    /// Not in linux/capability.h, or newer than this kernel.
    #[error("capability {name} is not known to this kernel; use names as in capabilities(7), without CAP_")]
    UnknownCapability {
        /// As asked for.
        name: String,
    },
    /// A process cannot give what it does not have.
    #[error("capability {name} cannot be given: the runtime does not have it itself; run it with more capabilities")]
    CapabilityNotOurs {
        /// As asked for.
        name: String,
    },
    /// Contract §5.4.
    #[error("a privileged container needs a privileged pod; set privileged in the pod's security context too")]
    PodNotPrivileged,
    /// The caller has not found it.
    #[error("the PID namespace to join is gone; make the pod anew")]
    NoPidNamespace,
    /// The caller has not read it.
    #[error("seccomp profile {path}: it was not read, and a container never runs unconfined instead")]
    SeccompNotRead {
        /// On the node.
        path: String,
    },
    /// Contract §6.3.
    #[error("AppArmor profile {profile}: AppArmor is not enabled on this host; use Unconfined or leave it out")]
    AppArmorOff {
        /// As asked for.
        profile: String,
    },
    /// Not built.
    #[error("AppArmor profile {profile}: applying profiles is not supported yet; use Unconfined or leave it out")]
    AppArmorUnsupported {
        /// As asked for.
        profile: String,
    },
    /// There is no such interface.
    #[error("unified resources need cgroup v2, which this host does not use; leave them out")]
    UnifiedOnV1,
    /// The caller has not looked it up.
    #[error("device {}: it was not looked up on the host", path.display())]
    DeviceUnresolved {
        /// On the host.
        path: PathBuf,
    },
    /// The container's spec is not readable (any more).
    #[error("read the process that the container was made with")]
    ProcessUnreadable {
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// Not written.
    #[error("write the process to execute")]
    ProcessUnwritable {
        /// What could not be said in JSON.
        source: serde_json::Error,
    },
    /// The file is not what it should be.
    #[error("the seccomp profile is not JSON in the form of the OCI runtime spec")]
    SeccompMalformed {
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// Ignoring it would weaken the profile.
    #[error("the seccomp profile has {what}, which is not supported; write it in the form of the OCI runtime spec")]
    SeccompUnsupported {
        /// The part.
        what: &'static str,
    },
}

impl OciError {
    /// What clients are told.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoCommand
            | Self::EmptyExec
            | Self::EnvNotUtf8 { .. }
            | Self::UnknownCapability { .. }
            | Self::CapabilityNotOurs { .. }
            | Self::PodNotPrivileged
            | Self::AppArmorOff { .. }
            | Self::UnifiedOnV1
            | Self::SeccompMalformed { .. }
            | Self::SeccompUnsupported { .. } => Kind::InvalidArgument,
            Self::NoPidNamespace => Kind::FailedPrecondition,
            Self::AppArmorUnsupported { .. } | Self::SelinuxUnsupported { .. } | Self::RelabelUnsupported { .. } => {
                Kind::Unimplemented
            }
            Self::SeccompNotRead { .. }
            | Self::DeviceUnresolved { .. }
            | Self::ProcessUnreadable { .. }
            | Self::ProcessUnwritable { .. } => Kind::Internal,
        }
    }
}

/// Builds the spec of a container.
///
/// # Errors
/// Names the field and the reason (contract §6).
pub fn build(inputs: &Inputs<'_>) -> Result<Spec, OciError> {
    let security = &inputs.spec.security;
    if security.privilege == Privilege::Privileged && inputs.pod.spec.security.privilege == Privilege::Ordinary {
        return Err(OciError::PodNotPrivileged);
    }
    apparmor(security.apparmor.as_ref(), security.privilege, inputs.host)?;
    selinux(security.selinux.as_deref(), inputs.host)?;
    relabel(inputs)?;
    let caps = capability::sets(&security.capabilities, security.privilege, inputs.host)?;
    let mut linux = linux::build(inputs)?;
    linux.set_seccomp(seccomp_of(inputs, caps)?);
    let mut spec = empty();
    spec.set_process(Some(process::build(inputs, caps)?))
        .set_root(Some(root(security.readonly_rootfs)))
        .set_mounts(Some(mounts::build(inputs)))
        .set_linux(Some(linux));
    Ok(spec)
}

/// Builds the spec of a pod's init: PID 1 of a shared PID namespace (annotation `dev.copepod.init = "pause"`).
///
/// It mounts nothing and keeps no capability. A node's seccomp profile is not looked at: it was written for the pod's
/// programs and may forbid what this one needs, so the default profile takes its place.
///
/// # Errors
/// As [`build`].
pub fn build_pod_init(pod: &Pod, cgroup: &str, host: &Host) -> Result<Spec, OciError> {
    let security = &pod.spec.security;
    // The profile is the init's alone; containers state their own.
    apparmor(security.apparmor.as_ref(), security.privilege, host)?;
    let mut process = process::bare(&init_user(&security.identity), capability::Sets::default());
    process
        .set_args(Some(vec!["pause".to_owned()]))
        .set_cwd("/".into())
        .set_oom_score_adj(Some(INIT_OOM_SCORE));
    let mut namespaces = vec![
        linux::namespace(LinuxNamespaceType::Mount, None),
        linux::namespace(LinuxNamespaceType::Pid, None),
    ];
    let pins = &pod.pins;
    for (kind, pin) in [
        (LinuxNamespaceType::Ipc, &pins.ipc),
        (LinuxNamespaceType::Network, &pins.net),
        (LinuxNamespaceType::Uts, &pins.uts),
    ] {
        namespaces.extend(pin.as_deref().map(|path| linux::namespace(kind, Some(path))));
    }
    let shares = Resources {
        cpu_shares: Some(INIT_SHARES),
        ..Resources::default()
    };
    let mut linux = linux::bare(namespaces, cgroup);
    linux
        .set_resources(Some(linux::resources(&shares, host)?))
        .set_rootfs_propagation(Some("rprivate".to_owned()))
        .set_seccomp(match security.seccomp {
            Profile::Unconfined => None,
            Profile::RuntimeDefault | Profile::Localhost(_) => Some(seccomp::default_profile(Default::default(), ARCH)),
        });
    let mut spec = empty();
    spec.set_process(Some(process))
        .set_root(Some(root(true)))
        .set_annotations(Some(HashMap::from([(INIT_ANNOTATION.to_owned(), "pause".to_owned())])))
        .set_linux(Some(linux));
    Ok(spec)
}

/// The least that the kernel gives (contract §5.4).
const INIT_SHARES: u64 = 2;

/// The pod's init is the last to be killed for memory (contract §5.4).
const INIT_OOM_SCORE: i32 = -998;

/// A spec with nothing in it: the crate's default is a demonstration container.
fn empty() -> Spec {
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_hostname(None)
        .set_mounts(None)
        .set_process(None)
        .set_annotations(None);
    spec
}

/// Where the bundle has its root; the shim mounts it.
fn root(readonly: bool) -> Root {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(readonly));
    root
}

fn seccomp_of(inputs: &Inputs<'_>, caps: capability::Sets) -> Result<Option<LinuxSeccomp>, OciError> {
    let security = &inputs.spec.security;
    if security.privilege == Privilege::Privileged {
        return Ok(None);
    }
    match &security.seccomp {
        Profile::Unconfined => Ok(None),
        Profile::RuntimeDefault => Ok(Some(seccomp::default_profile(caps.held, ARCH))),
        Profile::Localhost(path) => {
            let profile = inputs.localhost_seccomp.map(|profile| profile.0.clone());
            profile
                .map(Some)
                .ok_or_else(|| OciError::SeccompNotRead { path: path.clone() })
        }
    }
}

/// Contract §6.3. Where AppArmor is on and nothing is asked for, a container runs without a profile until we have one
/// of our own to load.
fn apparmor(profile: Option<&Profile>, privilege: Privilege, host: &Host) -> Result<(), OciError> {
    let profile = match (profile, privilege) {
        (None | Some(Profile::Unconfined), _) | (Some(Profile::RuntimeDefault), Privilege::Privileged) => return Ok(()),
        (Some(Profile::RuntimeDefault), Privilege::Ordinary) => "RuntimeDefault".to_owned(),
        (Some(Profile::Localhost(name)), _) => name.clone(),
    };
    Err(match host.apparmor {
        true => OciError::AppArmorUnsupported { profile },
        false => OciError::AppArmorOff { profile },
    })
}

/// Of a pod that is to be run: its label would be that of everything in it.
///
/// # Errors
/// SELinux is on and a label is asked for.
pub fn check_pod(spec: &PodSpec, host: &Host) -> Result<(), OciError> {
    selinux(spec.security.selinux.as_deref(), host)
}

fn selinux(label: Option<&str>, host: &Host) -> Result<(), OciError> {
    match label {
        Some(label) if host.selinux => Err(OciError::SelinuxUnsupported {
            label: label.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Where SELinux is on, a volume without its label cannot be read by a confined process: not a thing to leave out in
/// silence.
fn relabel(inputs: &Inputs<'_>) -> Result<(), OciError> {
    let asked = inputs.spec.mounts.iter().find(|mount| mount.selinux_relabel);
    match asked {
        Some(mount) if inputs.host.selinux => Err(OciError::RelabelUnsupported {
            path: mount.container_path.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The init has no image in which a name could be looked up: a request for a pod carries numbers only.
fn init_user(identity: &Identity) -> ResolvedUser {
    let uid = match identity.user {
        RequestedUser::Uid(uid) => uid,
        RequestedUser::Image | RequestedUser::Name(_) => 0,
    };
    let gid = identity.group.unwrap_or(0);
    let mut groups = identity.supplemental_groups.clone();
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    ResolvedUser {
        uid,
        gid,
        groups,
        home: "/".to_owned(),
    }
}
