//! A pod's network: CNI plugins, or the built-in bridge. Knows pods by id and name only.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::base::id::PodId;
use crate::domain::network::{Attachment, PortMapping};

/// Which network pods get.
#[derive(Debug, Clone)]
pub enum Config {
    /// Our own bridge, veths, addresses, masquerade.
    Builtin {
        /// IPv4 subnet in CIDR form; the first address is the bridge's.
        subnet: String,
        /// Bridge device name.
        bridge: String,
    },
    /// CNI plugins.
    Cni {
        /// Where `*.conflist` and `*.conf` are; the first in lexical order counts.
        conf_dir: PathBuf,
        /// Where plugins are.
        bin_dirs: Vec<PathBuf>,
    },
}

/// A pod that wants a network.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The pod.
    pub pod: PodId,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_UID`.
    pub uid: String,
    /// The pinned network namespace.
    pub netns: PathBuf,
    /// Ports with a host port; the built-in network refuses them by name.
    pub ports: Vec<PortMapping>,
    /// Pod annotations (bandwidth).
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A pod whose network is to go.
#[derive(Debug, Clone)]
pub struct Detach {
    /// The pod.
    pub pod: PodId,
    /// As at attach.
    pub name: String,
    /// As at attach.
    pub namespace: String,
    /// As at attach.
    pub uid: String,
    /// `None` when it is gone already (CNI DEL then runs with an empty path).
    pub netns: Option<PathBuf>,
    /// What attach gave; `None` when attach never finished.
    pub attachment: Option<Attachment>,
    /// As at attach.
    pub ports: Vec<PortMapping>,
}

/// Why the network refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {}

/// Counters of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Name inside the pod.
    pub name: String,
    /// Received bytes, packets are left to the metrics issue.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
}

/// NetworkReady's opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// CamelCase, e.g. `NetworkPluginNotReady`.
    pub reason: &'static str,
    /// Which file or plugin is missing and what to do.
    pub message: String,
}

/// The driver.
#[derive(Debug)]
pub struct Network {}

impl Network {
    /// Sets the network up; `leases` are the attachments of pods that exist (after a restart).
    ///
    /// # Errors
    /// The configuration makes no sense. What the host lacks shows in [`Network::ready`] instead.
    pub async fn open(_config: Config, _leases: Vec<(PodId, Vec<IpAddr>)>) -> Result<Self, NetworkError> {
        todo!()
    }

    /// Gives the pod `eth0` with at least one address. On failure everything is undone (CNI DEL included).
    ///
    /// # Errors
    /// Names plugin, file or host lack.
    pub async fn attach(&self, _attach: &Attach) -> Result<Attachment, NetworkError> {
        todo!()
    }

    /// Undoes [`Network::attach`]; fine to repeat, fine when the namespace is gone.
    ///
    /// # Errors
    /// A plugin failed; to be tried again.
    pub async fn detach(&self, _detach: &Detach) -> Result<(), NetworkError> {
        todo!()
    }

    /// Whether pods can be given a network now; from memory, no I/O.
    #[must_use]
    pub fn ready(&self) -> Result<(), NotReady> {
        todo!()
    }
}
