//! The built-in network: a bridge, a veth pair per pod, addresses from one IPv4 subnet, masquerade towards the rest.
//! Needs nothing installed. Host ports, IPv6 and bandwidth limits are refused by name.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lease::{Leases, Subnet};
use super::netlink::{Family, Socket};
use super::{Attach, Detach, NetworkError, NotReady, link, masquerade, netns};
use crate::base::error::chain;
use crate::base::id::PodId;
use crate::domain::network::Attachment;

/// Annotations that ask for what this network cannot do yet.
const BANDWIDTH: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];

/// The bridge and who is on it.
#[derive(Debug)]
pub(super) struct Bridge {
    name: String,
    subnet: Subnet,
    leases: Mutex<Leases>,
    /// What the host lacked when the bridge was last set up; told by `ready`, mended at the next attach.
    lacking: Mutex<Option<String>>,
}

impl Bridge {
    pub(super) fn open(name: String, subnet: &str, leases: &[(PodId, Vec<IpAddr>)]) -> Result<Self, NetworkError> {
        let subnet = Subnet::parse(subnet).ok_or_else(|| NetworkError::Subnet {
            subnet: subnet.to_owned(),
        })?;
        let existing = leases.iter().flat_map(|(pod, ips)| {
            ips.iter().filter_map(move |ip| match ip {
                IpAddr::V4(address) => Some((pod.clone(), *address)),
                IpAddr::V6(_) => None,
            })
        });
        let bridge = Self {
            name,
            subnet,
            leases: Mutex::new(Leases::new(subnet, existing)),
            lacking: Mutex::new(None),
        };
        // A host that lacks something (an address clash, no nf_tables) still gets a daemon, which says so in Status.
        bridge.remember(&bridge.set_up());
        Ok(bridge)
    }

    /// Makes the bridge and its rules; repeating it mends what somebody removed.
    fn set_up(&self) -> Result<u32, NetworkError> {
        let failed = |doing: &'static str| {
            let device = self.name.clone();
            move |source: io::Error| NetworkError::Bridge { doing, device, source }
        };
        let socket = Socket::open(Family::Route).map_err(failed("open a netlink socket for"))?;
        let index = link::ensure_bridge(&socket, &self.name).map_err(failed("make the bridge"))?;
        link::add_address(&socket, index, self.subnet.gateway(), self.subnet.prefix)
            .map_err(failed("give its address to the bridge"))?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(failed("switch on IPv4 forwarding for"))?;
        masquerade::install(&self.table(), self.subnet.network, self.subnet.prefix, &self.name)
            .map_err(failed("set up masquerading (kernel module nf_tables, nft_masq) for"))?;
        Ok(index)
    }

    fn remember(&self, outcome: &Result<u32, NetworkError>) {
        let text = outcome.as_ref().err().map(|error| chain(error));
        *self.lacking.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    pub(super) fn ready(&self) -> Result<(), NotReady> {
        match &*self.lacking.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(NotReady {
                reason: "BuiltinNetworkNotReady",
                message: why.clone(),
            }),
        }
    }

    pub(super) fn attach(&self, attach: &Attach) -> Result<Attachment, NetworkError> {
        refuse_unsupported(attach)?;
        let index = self.bridge_index()?;
        let address = self.leases().take(&attach.pod).ok_or_else(|| NetworkError::Exhausted {
            subnet: format!("{}/{}", self.subnet.network, self.subnet.prefix),
        })?;
        match self.plug(attach, address, index) {
            Ok(()) => Ok(Attachment {
                ips: vec![address.into()],
                cni_result: String::new(),
                cni_config: String::new(),
            }),
            Err(cause) => {
                if let Err(left) = self.unplug(&attach.pod) {
                    tracing::warn!(pod = %attach.pod, error = chain(&left), "a veth pair could not be removed");
                }
                self.leases().release(&attach.pod);
                Err(cause)
            }
        }
    }

    /// The bridge's index; it is made again if somebody removed it since.
    fn bridge_index(&self) -> Result<u32, NetworkError> {
        let found = Socket::open(Family::Route).and_then(|socket| link::index_of(&socket, &self.name));
        match found {
            Ok(index) if self.ready().is_ok() => Ok(index),
            Ok(_) | Err(_) => {
                let outcome = self.set_up();
                self.remember(&outcome);
                outcome
            }
        }
    }

    fn plug(&self, attach: &Attach, address: Ipv4Addr, bridge: u32) -> Result<(), NetworkError> {
        let failed = |doing: &'static str| {
            let pod = attach.pod.clone();
            move |source: io::Error| NetworkError::Plug { doing, pod, source }
        };
        let pod_ns = netns::open(&attach.netns).map_err(failed("open the network namespace"))?;
        let host = veth_name(&attach.pod);
        let veth = link::Veth {
            host: &host,
            peer: "eth0",
            mac: mac_of(address),
            bridge,
            netns: pod_ns.as_fd(),
        };
        let here = Socket::open(Family::Route).map_err(failed("open a netlink socket"))?;
        link::add_veth(&here, &veth).map_err(full_or(&self.name, failed("make the veth pair")))?;
        let inside = netns::run_in(&pod_ns, || Socket::open(Family::Route)).map_err(failed("enter the namespace"))?;
        let eth0 = link::index_of(&inside, "eth0").map_err(failed("find eth0"))?;
        link::set_up(&inside, eth0).map_err(failed("bring up eth0"))?;
        link::add_address(&inside, eth0, address, self.subnet.prefix).map_err(failed("give its address to eth0"))?;
        link::add_default_route(&inside, self.subnet.gateway()).map_err(failed("add the default route"))
    }

    /// Frees the address. With the namespace there the link is left to go with it: waiting for its removal would cost
    /// 12–32 ms. Without, it is removed by name, which does nothing when the kernel was faster.
    pub(super) fn detach(&self, detach: &Detach) -> Result<(), NetworkError> {
        if detach.netns.is_none() {
            self.unplug(&detach.pod)?;
        }
        self.leases().release(&detach.pod);
        Ok(())
    }

    fn unplug(&self, pod: &PodId) -> Result<(), NetworkError> {
        Socket::open(Family::Route)
            .and_then(|socket| link::delete(&socket, &veth_name(pod)))
            .map_err(|source| NetworkError::Plug {
                doing: "remove the veth pair",
                pod: pod.clone(),
                source,
            })
    }

    /// At shutdown: with no pod left, the bridge and its table go too.
    pub(super) fn close_if_unused(&self) -> Result<(), NetworkError> {
        if !self.leases().is_empty() {
            return Ok(());
        }
        masquerade::remove(&self.table())
            .and_then(|()| Socket::open(Family::Route))
            .and_then(|socket| link::delete(&socket, &self.name))
            .map_err(|source| NetworkError::Bridge {
                doing: "remove the bridge",
                device: self.name.clone(),
                source,
            })
    }

    fn table(&self) -> String {
        // nftables names take no dash.
        format!("copepod_{}", self.name.replace('-', "_"))
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse_unsupported(attach: &Attach) -> Result<(), NetworkError> {
    if let Some(port) = attach.ports.iter().find_map(|mapping| mapping.host_port) {
        return Err(NetworkError::Unsupported {
            what: format!("host port {port}"),
            remedy: "use [network] mode = \"cni\" with the portmap plugin, or host network",
        });
    }
    if let Some(annotation) = BANDWIDTH.iter().find(|name| attach.annotations.contains_key(**name)) {
        return Err(NetworkError::Unsupported {
            what: format!("the bandwidth limit of annotation {annotation}"),
            remedy: "use [network] mode = \"cni\" with the bandwidth plugin",
        });
    }
    Ok(())
}

/// A Linux bridge takes 1,023 ports and answers EXFULL to the next.
fn full_or(bridge: &str, other: impl FnOnce(io::Error) -> NetworkError) -> impl FnOnce(io::Error) -> NetworkError {
    const EXFULL: i32 = 54;
    move |error| match error.raw_os_error() {
        Some(EXFULL) => NetworkError::Full {
            bridge: bridge.to_owned(),
        },
        Some(_) | None => other(error),
    }
}

/// `cp` and 13 digits of the pod's id: 15 characters, the most that a device name may have.
fn veth_name(pod: &PodId) -> String {
    format!("cp{}", &pod.as_str()[..13])
}

/// A locally administered address that follows from the IP, so that a reused IP keeps its neighbours' caches right.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests;
