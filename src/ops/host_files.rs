//! What a container's request names on the host, looked up before its spec is built: devices, a seccomp profile, the
//! sources of volumes. Blocking, and bounded: nothing is read that is not a small regular file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::base::device::{self, DeviceNode};
use crate::domain::container::ContainerSpec;
use crate::domain::error::{Failure, Kind};
use crate::domain::security::{Privilege, Profile};
use crate::oci::profile::SeccompProfile;

/// A seccomp profile may have this many bytes; the largest known one has 20 kB.
const PROFILE_LIMIT: u64 = 1 << 20;
/// Sources that are files wherever they exist: a directory in their place would break the host (contract §16).
const NEVER_MADE: [&str; 5] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/resolv.conf",
];

/// What was found.
#[derive(Debug)]
pub(crate) struct HostFiles {
    /// The nodes that the request's devices are.
    pub(crate) devices: Vec<DeviceNode>,
    /// The node's seccomp profile, when the request names one.
    pub(crate) seccomp: Option<SeccompProfile>,
}

/// Looks everything up; makes nothing.
///
/// # Errors
/// `InvalidArgument` names the path.
pub(crate) fn look_up(spec: &ContainerSpec) -> Result<HostFiles, Failure> {
    let mut devices = Vec::new();
    for asked in &spec.devices {
        let found = device::at(&asked.host_path, Path::new(&asked.container_path), &asked.permissions);
        devices.extend(found.map_err(|error| invalid("find device", &asked.host_path, error))?);
    }
    let seccomp = match (&spec.security.seccomp, spec.security.privilege) {
        // A privileged container has none, whatever was asked for (contract §6.3).
        (Profile::Localhost(path), Privilege::Ordinary) => Some(profile(Path::new(path))?),
        (Profile::Localhost(_), Privilege::Privileged) | (Profile::RuntimeDefault | Profile::Unconfined, _) => None,
    };
    Ok(HostFiles { devices, seccomp })
}

/// Makes missing volume sources (directories, 0755, as both reference runtimes do). They are the host's, so they are not
/// undone; hence last, when the request itself is known to be sound.
///
/// # Errors
/// `InvalidArgument` names the path.
pub(crate) fn make_sources(spec: &ContainerSpec) -> Result<(), Failure> {
    spec.mounts.iter().try_for_each(|mount| make_source(&mount.host_path))
}

fn make_source(path: &Path) -> Result<(), Failure> {
    if NEVER_MADE.iter().any(|never| path == Path::new(never)) && !path.exists() {
        return Err(Failure::new(
            Kind::InvalidArgument,
            format!(
                "volume source {} does not exist on this host, and is no directory to be made",
                path.display()
            ),
        ));
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = fs::create_dir_all(path);
            made.map_err(|error| invalid("make the missing volume source", path, error))
        }
        other => other
            .map(|_| ())
            .map_err(|error| invalid("examine the volume source", path, error)),
    }
}

fn profile(path: &Path) -> Result<SeccompProfile, Failure> {
    let read = || -> io::Result<Vec<u8>> {
        // NONBLOCK: a fifo in the profile's place must not hold the request.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > PROFILE_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file of at most 1 MiB",
            ));
        }
        let mut bytes = Vec::new();
        file.take(PROFILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| invalid("read seccomp profile", path, error))?;
    SeccompProfile::parse(&bytes)
        .map_err(|error| Failure::caused(error.kind(), format!("read seccomp profile {}", path.display()), error))
}

fn invalid(doing: &str, path: &Path, error: io::Error) -> Failure {
    let shown: PathBuf = path.to_owned();
    Failure::caused(Kind::InvalidArgument, format!("{doing} {}", shown.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_volume_source_becomes_a_directory() {
        let top = tempfile::tempdir().unwrap();
        let source = top.path().join("a/b");
        make_source(&source).unwrap();
        assert!(source.is_dir());
        let file = top.path().join("f");
        fs::write(&file, b"x").unwrap();
        make_source(&file).unwrap();
        assert!(make_source(&file.join("below")).is_err());
    }

    #[test]
    fn a_profile_is_a_small_regular_json_file() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("profile.json");
        fs::write(&path, br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}"#).unwrap();
        profile(&path).unwrap();
        fs::write(&path, b"{").unwrap();
        assert!(profile(&path).unwrap_err().chain().contains("profile.json"));
        assert!(profile(top.path()).is_err());
        assert!(profile(Path::new("/dev/zero")).is_err());
        assert!(profile(&top.path().join("missing")).is_err());
    }
}
