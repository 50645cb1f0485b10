//! Facts of the host that do not change while the daemon runs, read once.

use std::fs;
use std::io;
use std::path::Path;

use crate::base::device;
use crate::oci::Host;

/// Oldest kernel that we run on, as (major, minor): RHEL 9's (house decision 17).
const OLDEST: (u32, u32) = (5, 14);

/// A fact cannot be read, or forbids to go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel is too old.
    #[error("this host runs Linux {found} and copepod needs {}.{} or newer: update the kernel", OLDEST.0, OLDEST.1)]
    OldKernel {
        /// Its release, as uname(2) tells it.
        found: String,
    },
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
/// The kernel is too old, or `/proc` is not mounted or not Linux's.
pub fn facts() -> Result<Facts, HostError> {
    check_kernel(&rustix::system::uname().release().to_string_lossy())?;
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
            host_devices: device::all().map_err(|source| HostError::Read { path: "/dev", source })?,
        },
        boot_id: read("/proc/sys/kernel/random/boot_id")?,
        node_name: read("/proc/sys/kernel/hostname")?,
    })
}

/// What starts with no version is let pass: we would not know that it is old.
fn check_kernel(release: &str) -> Result<(), HostError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST => Err(HostError::OldKernel {
            found: release.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn read(path: &'static str) -> Result<String, HostError> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| HostError::Read { path, source })
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
    fn an_old_kernel_is_refused_with_both_versions() {
        for good in ["5.14.0-427.el9.x86_64", "6.1.0-18-amd64", "10.0", "5.15-rc1", "strange"] {
            assert!(check_kernel(good).is_ok(), "{good}");
        }
        for old in ["5.13.19", "4.18.0-513.el8", "5.4.0-1-generic", "3.10"] {
            let text = check_kernel(old).unwrap_err().to_string();
            assert!(text.contains(old) && text.contains("5.14 or newer"), "{text}");
        }
    }

    #[test]
    fn this_host_has_facts() {
        let facts = facts().unwrap();
        assert_eq!(facts.boot_id.len(), 36);
    }
}
