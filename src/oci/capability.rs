//! Capabilities as a bit mask, and what a request makes of the default set (contract §6.2).

use std::str::FromStr as _;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::{Host, OciError};
use crate::domain::security::{CapabilityChanges, Privilege};

/// Names by number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What an ordinary container has (contract §6.2).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, bit n being number n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CapSet(u64);

impl CapSet {
    /// All that this host can give.
    fn of_host(host: &Host) -> Self {
        let known = 2_u64
            .checked_shl(u32::from(host.last_cap))
            .map_or(u64::MAX, |above| above.wrapping_sub(1));
        let named = (1_u64 << NAMES.len()) - 1;
        Self(host.own_caps & known & named)
    }

    /// Whether the capability of this name (without `CAP_`) is in it.
    pub(super) fn has_name(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(number, _)| self.0 & (1 << number) != 0)
            .map(|(_, name)| name)
    }

    /// As the OCI spec has it: the set is unordered there.
    fn to_oci(self) -> Capabilities {
        self.names()
            .filter_map(|name| Capability::from_str(name).ok())
            .collect()
    }
}

/// The sets of a container's process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sets {
    /// Bounding, permitted and effective.
    pub(super) held: CapSet,
    /// Ambient and inheritable: empty unless ambient ones are asked for (CVE-2022-24769).
    ambient: CapSet,
}

impl Sets {
    /// The OCI form.
    pub(super) fn to_oci(self) -> LinuxCapabilities {
        let mut caps = LinuxCapabilities::default();
        caps.set_bounding(Some(self.held.to_oci()))
            .set_permitted(Some(self.held.to_oci()))
            .set_effective(Some(self.held.to_oci()))
            .set_inheritable(Some(self.ambient.to_oci()))
            .set_ambient(Some(self.ambient.to_oci()));
        caps
    }
}

/// Applies a request: `ALL` first, then single additions, then single removals, so that "all but one" can be said and
/// a removal always holds.
///
/// # Errors
/// A capability that the kernel does not know, or that cannot be given because this daemon lacks it itself.
pub(super) fn sets(changes: &CapabilityChanges, privilege: Privilege, host: &Host) -> Result<Sets, OciError> {
    let CapabilityChanges { add, drop, add_ambient } = changes;
    let all = CapSet::of_host(host);
    let default = DEFAULT
        .into_iter()
        .filter_map(number)
        .fold(0, |set, number| set | 1_u64 << number);
    let mut held = match privilege {
        Privilege::Privileged => all.0,
        Privilege::Ordinary => default & all.0,
    };
    if drop.iter().any(|name| name == "ALL") {
        held = 0;
    }
    if add.iter().any(|name| name == "ALL") {
        held = all.0;
    }
    for name in add.iter().filter(|name| *name != "ALL") {
        held |= given(name, host, all)?;
    }
    let mut ambient = 0;
    for name in add_ambient {
        ambient |= if name == "ALL" { all.0 } else { given(name, host, all)? };
    }
    held |= ambient;
    for name in drop.iter().filter(|name| *name != "ALL") {
        // One that this kernel lacks is dropped already; one that nobody has heard of is a mistake.
        let bit = 1 << number(name).ok_or_else(|| OciError::UnknownCapability { name: name.clone() })?;
        held &= !bit;
        ambient &= !bit;
    }
    Ok(Sets {
        held: CapSet(held),
        ambient: CapSet(ambient),
    })
}

/// The bit of a capability that may be added.
fn given(name: &str, host: &Host, all: CapSet) -> Result<u64, OciError> {
    let unknown = || OciError::UnknownCapability { name: name.to_owned() };
    let number = number(name)
        .filter(|number| *number <= host.last_cap)
        .ok_or_else(unknown)?;
    let bit = 1 << number;
    if all.0 & bit == 0 {
        return Err(OciError::CapabilityNotOurs { name: name.to_owned() });
    }
    Ok(bit)
}

fn number(name: &str) -> Option<u8> {
    let position = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(position).ok()
}
