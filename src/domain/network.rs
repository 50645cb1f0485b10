//! What a pod asks of the network and what it gets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// resolv.conf of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// Transport of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A container port, published on the host when `host_port` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// In the pod.
    pub container_port: u16,
    /// On the host; `None` publishes nothing (contract §5.2).
    pub host_port: Option<u16>,
    /// Host address to publish on; empty is any.
    pub host_ip: String,
}

/// What a network gave to a pod; the lease and the cache for teardown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Addresses of `eth0`, primary first; never empty.
    pub ips: Vec<IpAddr>,
    /// The plugin's result (CNI) as JSON text, needed for DEL; empty for the built-in network.
    pub cni_result: String,
    /// The network configuration list used (CNI) as JSON text, so that DEL outlives a changed file.
    pub cni_config: String,
}
