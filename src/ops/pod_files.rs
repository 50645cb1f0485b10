//! The files of a pod on the host: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and the tmpfs behind `/dev/shm`,
//! below `state/p/<pod id>` (contract §5.3).
//!
//! `state/p` is a mount of its own with private propagation, so that a pod's shm is not copied into other mount
//! namespaces on this host (house §8).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};

use crate::base::error::chain;
use crate::base::fs::{FsError, private_dir, remove_tree_if_there, write_atomic};
use crate::base::id::PodId;
use crate::domain::network::DnsConfig;
use crate::domain::pod::{NamespaceMode, Pod};
use crate::oci::PodFiles;
use crate::ops::{Config, Inner};

/// Size of a pod's `/dev/shm`; what Docker chose in 2014 and workloads expect (contract §5.3).
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// A pod's files could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodFilesError {
    /// A file operation.
    #[error("pod files")]
    File(#[from] FsError),
    /// A mount operation.
    #[error("{doing} {}", path.display())]
    Mount {
        /// The operation, as a verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon is ending, or the work panicked.
    #[error("the work on the pod's files was cut off")]
    CutOff,
    /// A value would break out of its line in resolv.conf.
    #[error("dns_config has a value with a control character or a line break: {value:?}")]
    Dns {
        /// The value, shortened.
        value: String,
    },
}

impl PodFilesError {
    fn mount<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(rustix::io::Errno) -> Self + 'a {
        move |errno| Self::Mount {
            doing,
            path: path.to_owned(),
            source: errno.into(),
        }
    }
}

/// Does work of this module where its disk may stall: off the async workers.
///
/// # Errors
/// The work's own.
pub(crate) async fn off_worker<T: Send + 'static>(
    ops: &Arc<Inner>,
    work: impl FnOnce(&Config) -> Result<T, PodFilesError> + Send + 'static,
) -> Result<T, PodFilesError> {
    let ops = Arc::clone(ops);
    let done = tokio::task::spawn_blocking(move || work(&ops.config)).await;
    done.map_err(|_| PodFilesError::CutOff)?
}

fn top(config: &Config) -> PathBuf {
    config.state.join("p")
}

/// The pod's directory.
pub(crate) fn dir(config: &Config, pod: &PodId) -> PathBuf {
    top(config).join(pod.as_str())
}

/// Where the pod's files are.
pub(crate) fn of(config: &Config, pod: &Pod) -> PodFiles {
    let dir = dir(config, &pod.id);
    PodFiles {
        hosts: dir.join("hosts"),
        hostname: dir.join("hostname"),
        resolv_conf: dir.join("resolv.conf"),
        shm: match pod.spec.namespaces.ipc {
            NamespaceMode::Node => PathBuf::from("/dev/shm"),
            NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => dir.join("shm"),
        },
    }
}

/// Makes `state/p` a private mount, once.
///
/// # Errors
/// It cannot be made or mounted.
pub(crate) fn prepare(config: &Config) -> Result<(), PodFilesError> {
    let top = top(config);
    private_dir(&top, 0o700)?;
    if !is_mount(&top) {
        mount_bind(&top, &top).map_err(PodFilesError::mount("bind to itself", &top))?;
    }
    mount_change(&top, MountPropagationFlags::PRIVATE).map_err(PodFilesError::mount("make private", &top))
}

/// Unmounts `state/p` when no pod is left in it; with pods it stays for the next daemon.
pub(crate) fn close(config: &Config) {
    let top = top(config);
    let empty = fs::read_dir(&top).is_ok_and(|mut entries| entries.next().is_none());
    if empty && is_mount(&top) {
        // Not being able to is harmless: the next start finds the mount and uses it.
        if let Err(error) = unmount(&top, UnmountFlags::DETACH) {
            tracing::debug!(error = chain(&error), "unmount {}", top.display());
        }
    }
}

/// Makes the pod's directory with hostname and resolv.conf.
///
/// # Errors
/// Names the file.
pub(crate) fn make(config: &Config, pod: &Pod) -> Result<(), PodFilesError> {
    let dir = dir(config, &pod.id);
    private_dir(&dir, 0o700)?;
    let files = of(config, pod);
    let hostname = format!("{}\n", pod.effective_hostname);
    write_atomic(&files.hostname, hostname.as_bytes(), 0o644)?;
    let resolv_conf = match &pod.spec.dns {
        None => host_file("/etc/resolv.conf")?,
        Some(dns) => resolv_conf(dns)?.into_bytes(),
    };
    write_atomic(&files.resolv_conf, &resolv_conf, 0o644)?;
    Ok(())
}

/// Writes the pod's hosts file: the host's, and the pod's own name.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_hosts(config: &Config, pod: &Pod) -> Result<(), PodFilesError> {
    let mut text = host_file("/etc/hosts")?;
    let ips = pod.attachment.iter().flat_map(|attachment| &attachment.ips);
    text.extend(own_lines(ips, &pod.effective_hostname).into_bytes());
    Ok(write_atomic(&of(config, pod).hosts, &text, 0o644)?)
}

/// Makes the empty directory that is the root of the pod's init; entered by whatever user that runs as.
///
/// # Errors
/// It cannot be made.
pub(crate) fn init_root(config: &Config, pod: &PodId) -> Result<PathBuf, PodFilesError> {
    let root = dir(config, pod).join("init");
    private_dir(&root, 0o755)?;
    Ok(root)
}

/// Mounts the pod's shm.
///
/// # Errors
/// The tmpfs cannot be mounted.
pub(crate) fn mount_shm(config: &Config, pod: &PodId) -> Result<(), PodFilesError> {
    let shm = dir(config, pod).join("shm");
    private_dir(&shm, 0o700)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(SHM_OPTIONS).unwrap_or_default();
    mount("shm", &shm, "tmpfs", flags, options.as_c_str()).map_err(PodFilesError::mount("mount tmpfs on", &shm))
}

/// Unmounts the pod's shm; fine when it is not mounted.
///
/// # Errors
/// It stays mounted.
pub(crate) fn unmount_shm(config: &Config, pod: &PodId) -> Result<(), PodFilesError> {
    let shm = dir(config, pod).join("shm");
    while is_mount(&shm) {
        unmount(&shm, UnmountFlags::DETACH).map_err(PodFilesError::mount("unmount", &shm))?;
    }
    Ok(())
}

/// Unmounts the shm and removes the pod's directory; fine when it is gone.
///
/// # Errors
/// Something stays.
pub(crate) fn remove(config: &Config, pod: &PodId) -> Result<(), PodFilesError> {
    // First the mount: what a container left in its shm is not ours to walk through.
    unmount_shm(config, pod)?;
    Ok(remove_tree_if_there(&dir(config, pod))?)
}

/// Pods that have a directory.
///
/// # Errors
/// `state/p` cannot be read.
pub(crate) fn all(config: &Config) -> Result<Vec<PodId>, PodFilesError> {
    let top = top(config);
    let entries = fs::read_dir(&top).map_err(FsError::io("list", &top))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// Whether something is mounted at `path`; a path that cannot be examined is no mount.
pub(crate) fn is_mount(path: &Path) -> bool {
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A file of the host, or nothing when it has none.
fn host_file(path: &str) -> Result<Vec<u8>, FsError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(FsError::io("read", Path::new(path))),
    }
}

fn own_lines<'a>(ips: impl Iterator<Item = &'a IpAddr>, hostname: &str) -> String {
    let mut lines = String::new();
    for ip in ips {
        if lines.is_empty() {
            // The host's file may end without a line break.
            lines.push('\n');
        }
        lines.push_str(&format!("{ip}\t{hostname}\n"));
    }
    lines
}

fn resolv_conf(dns: &DnsConfig) -> Result<String, PodFilesError> {
    let DnsConfig {
        servers,
        searches,
        options,
    } = dns;
    let mut values = servers.iter().chain(searches).chain(options);
    if let Some(value) = values.find(|value| value.chars().any(char::is_control)) {
        return Err(PodFilesError::Dns {
            value: value.chars().take(80).collect(),
        });
    }
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(servers: &[&str], searches: &[&str], options: &[&str]) -> DnsConfig {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        DnsConfig {
            servers: owned(servers),
            searches: owned(searches),
            options: owned(options),
        }
    }

    #[test]
    fn resolv_conf_says_what_was_asked_and_no_more() {
        let asked = dns(&["10.0.0.1", "::1"], &["a.b", "c"], &["ndots:5"]);
        assert_eq!(
            resolv_conf(&asked).unwrap(),
            "search a.b c\nnameserver 10.0.0.1\nnameserver ::1\noptions ndots:5\n"
        );
        assert_eq!(resolv_conf(&DnsConfig::default()).unwrap(), "");
        assert!(resolv_conf(&dns(&["1.1.1.1\nnameserver 6.6.6.6"], &[], &[])).is_err());
    }

    #[test]
    fn the_pod_finds_its_own_name() {
        let ips: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(own_lines(ips.iter(), "web"), "\n10.0.0.2\tweb\nfd00::2\tweb\n");
        assert_eq!(own_lines([].iter(), "web"), "");
    }
}
