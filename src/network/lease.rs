//! Which pod has which address of a subnet. In memory: the pods' records are the leases, and are loaded at start.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::base::id::PodId;

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    /// Its first address.
    pub(super) network: Ipv4Addr,
    /// Bits of its prefix, 8 to 28.
    pub(super) prefix: u8,
}

impl Subnet {
    /// From CIDR form; `None` if it is none or has host bits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let network: Ipv4Addr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok().filter(|bits| (8..=28).contains(bits))?;
        (network.to_bits() & !mask(prefix) == 0).then_some(Self { network, prefix })
    }

    /// The bridge's address: the first one that may be used.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    fn pods(self) -> std::ops::Range<u32> {
        let first = self.network.to_bits();
        // Not the network, not the gateway, not the broadcast address.
        first + 2..first | !mask(self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX << (32 - u32::from(prefix))
}

/// The leases of one subnet.
#[derive(Debug)]
pub(super) struct Leases {
    subnet: Subnet,
    taken: BTreeMap<u32, PodId>,
    next: u32,
}

impl Leases {
    /// With the addresses that pods have already.
    pub(super) fn new(subnet: Subnet, existing: impl IntoIterator<Item = (PodId, Ipv4Addr)>) -> Self {
        let taken = existing
            .into_iter()
            .map(|(pod, address)| (address.to_bits(), pod))
            .collect();
        Self {
            subnet,
            taken,
            next: subnet.pods().start,
        }
    }

    /// An address for `pod`. Addresses are given in turn, so that a freed one rests before it is used again.
    pub(super) fn take(&mut self, pod: &PodId) -> Option<Ipv4Addr> {
        let range = self.subnet.pods();
        let free = (self.next..range.end)
            .chain(range.start..self.next)
            .find(|candidate| !self.taken.contains_key(candidate))?;
        self.taken.insert(free, pod.clone());
        self.next = if free + 1 < range.end { free + 1 } else { range.start };
        Some(Ipv4Addr::from_bits(free))
    }

    /// Gives back whatever `pod` has.
    pub(super) fn release(&mut self, pod: &PodId) {
        self.taken.retain(|_, holder| holder != pod);
    }

    /// Nobody holds an address.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn gives_every_address_once_and_none_of_the_special_ones() {
        let mut leases = Leases::new(Subnet::parse("10.1.2.0/28").unwrap(), []);
        let given: HashSet<_> = (0..13).map(|_| leases.take(&PodId::generate()).unwrap()).collect();
        assert_eq!(given.len(), 13);
        assert!(!given.contains(&"10.1.2.0".parse().unwrap()) && !given.contains(&"10.1.2.1".parse().unwrap()));
        assert!(!given.contains(&"10.1.2.15".parse().unwrap()));
        assert_eq!(leases.take(&PodId::generate()), None);
    }

    #[test]
    fn a_freed_address_rests_and_existing_leases_are_kept() {
        let (old, pod) = (PodId::generate(), PodId::generate());
        let mut leases = Leases::new(
            Subnet::parse("10.1.2.0/28").unwrap(),
            [(old, Ipv4Addr::new(10, 1, 2, 2))],
        );
        assert_eq!(leases.take(&pod), Some(Ipv4Addr::new(10, 1, 2, 3)));
        leases.release(&pod);
        assert_eq!(leases.take(&pod), Some(Ipv4Addr::new(10, 1, 2, 4)));
    }

    #[test]
    fn refuses_what_is_no_subnet() {
        for text in ["10.0.0.1/16", "10.0.0.0/31", "10.0.0.0/7", "10.0.0.0", "::/64", ""] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }
}
