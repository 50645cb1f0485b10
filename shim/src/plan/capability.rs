//! Capability names (linux/capability.h) to bit sets.

use super::error::PlanError;
use super::spec::Capabilities;

/// The five sets of a process, bit n = capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CapabilitySets {
    /// What an exec may ever give.
    pub(crate) bounding: u64,
    /// In force.
    pub(crate) effective: u64,
    /// Kept over an exec of a file with inheritable bits.
    pub(crate) inheritable: u64,
    /// May be put in force.
    pub(crate) permitted: u64,
    /// Kept over an exec by a user that is not root.
    pub(crate) ambient: u64,
}

/// By number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// `CAP_SYS_ADMIN`, which installing a filter without no_new_privs takes.
pub(crate) const SYS_ADMIN: u64 = 1 << 21;

/// All five sets.
///
/// # Errors
/// A name that no kernel known to us has.
pub(crate) fn sets(capabilities: &Capabilities) -> Result<CapabilitySets, PlanError> {
    Ok(CapabilitySets {
        bounding: bits(&capabilities.bounding)?,
        effective: bits(&capabilities.effective)?,
        inheritable: bits(&capabilities.inheritable)?,
        permitted: bits(&capabilities.permitted)?,
        ambient: bits(&capabilities.ambient)?,
    })
}

/// The names of the bits in `set`, for messages and plans.
pub(crate) fn names(set: u64) -> Vec<&'static str> {
    NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| set & (1 << number) != 0)
        .map(|(_, name)| *name)
        .collect()
}

fn bits(names: &[String]) -> Result<u64, PlanError> {
    names.iter().try_fold(0, |set, name| {
        let number = NAMES.iter().position(|known| known == name);
        number
            .map(|number| set | (1_u64 << number))
            .ok_or_else(|| PlanError::UnknownCapability { name: name.clone() })
    })
}
