//! Facts of the host that do not change while the daemon runs, read once.

use std::fs;
use std::io;
use std::path::Path;

use crate::base::device;
use crate::oci::Host;

/// A fact cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {path}")]
pub struct HostError {
    path: &'static str,
    source: io::Error,
}

/// What was read.
#[derive(Debug)]
pub struct Facts {
    /// For OCI specs.
    pub host: Host,
    /// Changes with every boot.
    pub boot_id: String,
    /// The node's host name.
    pub node_name: String,
}

/// Reads them.
///
/// # Errors
/// `/proc` is not mounted or not Linux's.
pub fn facts() -> Result<Facts, HostError> {
    Ok(Facts {
        host: Host {
            // The file exists at the root of a v2 tree only (cgroups(7)).
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            // There whenever selinuxfs is mounted, that is, whenever SELinux is on (selinux(8)).
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            last_cap: read("/proc/sys/kernel/cap_last_cap")?.parse().unwrap_or(40),
            own_caps: own_caps(&read("/proc/self/status")?),
            host_devices: device::all().map_err(|source| HostError { path: "/dev", source })?,
        },
        boot_id: read("/proc/sys/kernel/random/boot_id")?,
        node_name: read("/proc/sys/kernel/hostname")?,
    })
}

fn read(path: &'static str) -> Result<String, HostError> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| HostError { path, source })
}

/// The permitted set: what a privileged container of ours can have at most.
fn own_caps(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_permitted_set() {
        assert_eq!(own_caps("Name:\tx\nCapPrm:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(own_caps("nothing"), 0);
    }

    #[test]
    fn this_host_has_facts() {
        let facts = facts().unwrap();
        assert_eq!(facts.boot_id.len(), 36);
    }
}
