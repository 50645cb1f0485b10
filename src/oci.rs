//! Floor 2, pure: (pod, container, image) → OCI runtime spec. Same input, same output.

use std::path::PathBuf;

use crate::domain::container::ContainerSpec;
use crate::domain::image::ImageConfig;
use crate::domain::pod::{NamespaceMode, Pod};
use crate::domain::security::ResolvedUser;

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
    /// Highest capability the kernel knows.
    pub last_cap: u8,
    /// Capabilities the daemon has itself (bit mask): what `ALL` and privileged mean.
    pub own_caps: u64,
}

/// The request cannot become a container.
#[derive(Debug, thiserror::Error)]
pub enum OciError {}

/// Builds the spec of a container.
///
/// # Errors
/// Names the field and the reason (contract §6).
pub fn build(_inputs: &Inputs<'_>) -> Result<oci_spec::runtime::Spec, OciError> {
    todo!()
}

/// Builds the spec of a pod's init: PID 1 of a shared PID namespace (annotation `dev.copepod.init = "pause"`).
///
/// # Errors
/// As [`build`].
pub fn build_pod_init(_pod: &Pod, _cgroup: &str, _host: &Host) -> Result<oci_spec::runtime::Spec, OciError> {
    todo!()
}

/// Builds the process object of an exec in a container: the container's own process with other arguments.
///
/// # Errors
/// The arguments are empty.
pub fn exec_process(
    _container: &oci_spec::runtime::Spec,
    _args: &[String],
    _tty: bool,
) -> Result<oci_spec::runtime::Process, OciError> {
    todo!()
}
