//! A pod sandbox: what was asked for, what it became, and which states it may take (CRI contract §3, §5).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::PodId;
use crate::domain::network::{Attachment, DnsConfig, PortMapping};
use crate::domain::resources::Resources;
use crate::domain::security::{PodSecurity, Sysctls};

/// What names a pod sandbox towards kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodMetadata {
    /// Name of the pod.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
}

/// Which namespace of a kind a pod or container uses (CRI `NamespaceMode`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// The pod's; the zero value of the protocol.
    Pod,
    /// The container's own.
    Container,
    /// The host's.
    Node,
    /// That of another container of the pod, by the id or prefix asked for.
    Target(String),
}

/// The namespace options of a request, echoed in every status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network: `Pod` or `Node`.
    pub network: NamespaceMode,
    /// Process ids.
    pub pid: NamespaceMode,
    /// System V IPC, message queues, `/dev/shm`.
    pub ipc: NamespaceMode,
}

/// What RunPodSandbox asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its name; unique in the whole (contract §2.1).
    pub metadata: PodMetadata,
    /// Host name; empty when none was asked for.
    pub hostname: String,
    /// Where container logs go; absolute.
    pub log_directory: Option<PathBuf>,
    /// `None` copies the host's resolv.conf; present but empty makes an empty file (contract §5.3).
    pub dns: Option<DnsConfig>,
    /// Ports of containers; those with a host port need the network to publish them.
    pub ports: Vec<PortMapping>,
    /// For selection; returned byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Free text; returned byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// Parent of the containers' cgroups, in cgroupfs syntax, absolute and free of `..`; empty is the root.
    pub cgroup_parent: String,
    /// Kernel parameters of the pod's own namespaces.
    pub sysctls: Sysctls,
    /// Namespaces asked for.
    pub namespaces: Namespaces,
    /// Identity and confinement of the sandbox itself.
    pub security: PodSecurity,
    /// The pod's overhead; informative.
    pub overhead: Resources,
    /// Sum of the containers' resources; informative.
    pub resources: Resources,
    /// The runtime handler, as requested; empty is the default one.
    pub runtime_handler: String,
}

/// State as clients see it. There is no way back from `NotReady`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// Containers may be created.
    Ready,
    /// Stopped, or lost with a reboot; to be removed.
    NotReady,
}

/// A pod sandbox that is complete. Those under construction are journal entries, seen by nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Chosen by us.
    pub id: PodId,
    /// What was asked for, whole.
    pub spec: PodSpec,
    /// When RunPodSandbox began.
    pub created_at: Timestamp,
    /// Ready or not.
    pub state: PodState,
    /// Namespaces kept by bind mounts.
    pub pins: Pins,
    /// What the network gave; `None` on the host's network or after teardown.
    pub attachment: Option<Attachment>,
    /// The network teardown is owed: set while attached, cleared when DEL has succeeded.
    pub network_owed: bool,
    /// The host name inside.
    pub effective_hostname: String,
    /// Identifies the boot in which pins and processes live (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

/// Bind-mounted namespaces of a pod; absent ones are the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// Network namespace, under `/var/run/netns` where other node agents look.
    pub net: Option<PathBuf>,
    /// IPC namespace.
    pub ipc: Option<PathBuf>,
    /// UTS namespace.
    pub uts: Option<PathBuf>,
}

impl PodMetadata {
    /// The reservation key. Parts carry their length, so no two metadata share a key whatever they contain.
    #[must_use]
    pub fn key(&self) -> String {
        let Self {
            name,
            namespace,
            uid,
            attempt,
        } = self;
        format!(
            "{}:{name}/{}:{namespace}/{}:{uid}/{attempt}",
            name.len(),
            namespace.len(),
            uid.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_collide_across_separators() {
        let of = |name: &str, namespace: &str, uid: &str| {
            PodMetadata {
                name: name.into(),
                namespace: namespace.into(),
                uid: uid.into(),
                attempt: 0,
            }
            .key()
        };
        assert_ne!(of("a_b", "c", "d"), of("a", "b_c", "d"));
        assert_ne!(of("a/1:b", "c", "d"), of("a", "b/1:c", "d"));
    }
}
