//! A pod's network: CNI plugins, or the built-in bridge. Knows pods by id and name only.

mod bridge;
mod cni;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod lease;
mod link;
mod masquerade;
mod netlink;
mod netns;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::cmd::CmdError;
use crate::base::id::PodId;
use crate::domain::network::{Attachment, PortMapping};

/// Which network pods get.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub annotations: BTreeMap<String, String>,
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
    /// `None` when it is gone already (CNI DEL then runs with an empty path). When it is there, the caller unpins it
    /// afterwards: links inside go with it.
    pub netns: Option<PathBuf>,
    /// What attach gave; `None` when attach never finished.
    pub attachment: Option<Attachment>,
    /// As at attach.
    pub ports: Vec<PortMapping>,
    /// As at attach.
    pub annotations: BTreeMap<String, String>,
}

/// Why the network refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The subnet makes no sense.
    #[error("{subnet:?} is not an IPv4 network with a prefix of 8 to 28 bits: correct network.builtin.subnet")]
    Subnet {
        /// As configured.
        subnet: String,
    },
    /// The bridge could not be set up or removed.
    #[error("{doing} {device}")]
    Bridge {
        /// The step.
        doing: &'static str,
        /// The bridge.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// A pod could not be plugged in or unplugged.
    #[error("{doing} of pod {pod}")]
    Plug {
        /// The step.
        doing: &'static str,
        /// The pod.
        pod: PodId,
        /// Why.
        source: io::Error,
    },
    /// No address is left.
    #[error("every address of {subnet} is taken: remove pods, or configure a larger network.builtin.subnet")]
    Exhausted {
        /// The subnet.
        subnet: String,
    },
    /// The bridge has as many ports as the kernel allows.
    #[error("bridge {bridge} has all the 1,023 ports that Linux allows: remove pods, or use CNI")]
    Full {
        /// The bridge.
        bridge: String,
    },
    /// Something this network cannot do.
    #[error("the built-in network cannot do {what} yet: {remedy}")]
    Unsupported {
        /// By name.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// No plugin of the CNI network does what the pod asks for.
    #[error(
        "CNI network {network:?} cannot do {what}: none of its plugins declares the capability {capability:?}; add the {plugin} plugin to the list with capabilities {{{capability:?}: true}}, or leave it out of the pod"
    )]
    NoCapability {
        /// By name.
        what: String,
        /// The network.
        network: String,
        /// As plugins declare it.
        capability: &'static str,
        /// The usual plugin for it.
        plugin: &'static str,
    },
    /// A bandwidth annotation makes no sense.
    #[error(
        "annotation {annotation} is {value:?}: write bits per second as a Kubernetes quantity from 1k to 1P, such as 10M"
    )]
    Bandwidth {
        /// Its name.
        annotation: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// No usable CNI configuration.
    #[error("{0}")]
    NoConfig(String),
    /// A configuration file cannot be used.
    #[error("CNI configuration {}: {problem}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A plugin is not installed.
    #[error(
        "CNI plugin {plugin:?} of network {network:?} is in none of {searched}: install it, or correct network.cni.bin_dirs"
    )]
    NoPlugin {
        /// Its type.
        plugin: String,
        /// The network.
        network: String,
        /// Directories searched.
        searched: String,
    },
    /// A plugin could not be run to its end.
    #[error("run CNI plugin {plugin:?} ({command})")]
    Run {
        /// Its type.
        plugin: String,
        /// ADD or DEL.
        command: &'static str,
        /// Why.
        source: CmdError,
    },
    /// A plugin reported an error.
    #[error("CNI plugin {plugin:?} ({command}) failed: {message}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// ADD or DEL.
        command: &'static str,
        /// What it said, shortened.
        message: String,
    },
    /// A plugin's answer makes no sense.
    #[error("CNI plugin {plugin:?} ({command}) answered with {problem}")]
    Answer {
        /// Its type.
        plugin: String,
        /// ADD or DEL.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The work was lost: the daemon is shutting down, or it panicked.
    #[error("wait for the network's thread")]
    Lost(#[source] tokio::task::JoinError),
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
pub struct Network {
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    Builtin(Arc<bridge::Bridge>),
    Cni(Arc<cni::Cni>),
}

impl Network {
    /// Sets the network up; `leases` are the attachments of pods that exist (after a restart).
    ///
    /// # Errors
    /// The configuration makes no sense. What the host lacks shows in [`Network::ready`] instead.
    pub async fn open(config: Config, leases: Vec<(PodId, Vec<IpAddr>)>) -> Result<Self, NetworkError> {
        let driver = match config {
            Config::Builtin { subnet, bridge } => {
                let bridge = blocking(move || bridge::Bridge::open(bridge, &subnet, &leases)).await?;
                Driver::Builtin(Arc::new(bridge))
            }
            Config::Cni { conf_dir, bin_dirs } => {
                Driver::Cni(blocking(move || Ok(cni::Cni::open(conf_dir, bin_dirs))).await?)
            }
        };
        Ok(Self { driver })
    }

    /// Whether [`Network::attach`] could begin at all: fails where nothing could be attached, so that nothing is owed.
    ///
    /// # Errors
    /// There is no usable configuration.
    pub fn check(&self) -> Result<(), NetworkError> {
        match &self.driver {
            Driver::Builtin(_) => Ok(()),
            Driver::Cni(cni) => cni.check(),
        }
    }

    /// Gives the pod `eth0` with at least one address. On failure everything is undone (CNI DEL included).
    ///
    /// # Errors
    /// Names plugin, file or host lack.
    pub async fn attach(&self, attach: &Attach) -> Result<Attachment, NetworkError> {
        match &self.driver {
            Driver::Builtin(bridge) => {
                let (bridge, attach) = (Arc::clone(bridge), attach.clone());
                blocking(move || bridge.attach(&attach)).await
            }
            Driver::Cni(cni) => cni.attach(attach).await,
        }
    }

    /// Undoes [`Network::attach`]; fine to repeat, fine when the namespace is gone.
    ///
    /// # Errors
    /// A plugin failed; to be tried again.
    pub async fn detach(&self, detach: &Detach) -> Result<(), NetworkError> {
        match &self.driver {
            Driver::Builtin(bridge) => {
                let (bridge, detach) = (Arc::clone(bridge), detach.clone());
                blocking(move || bridge.detach(&detach)).await
            }
            Driver::Cni(cni) => cni.detach(detach).await,
        }
    }

    /// Whether pods can be given a network now; from memory, no I/O.
    ///
    /// # Errors
    /// Why not, for Status.
    pub fn ready(&self) -> Result<(), NotReady> {
        match &self.driver {
            Driver::Builtin(bridge) => bridge.ready(),
            Driver::Cni(cni) => cni.ready(),
        }
    }

    /// At shutdown: with no pod attached, what [`Network::open`] made on the host goes away.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn close(&self) -> Result<(), NetworkError> {
        match &self.driver {
            Driver::Builtin(bridge) => {
                let bridge = Arc::clone(bridge);
                blocking(move || bridge.close_if_unused()).await
            }
            Driver::Cni(_) => Ok(()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    tokio::task::spawn_blocking(work).await.map_err(NetworkError::Lost)?
}
