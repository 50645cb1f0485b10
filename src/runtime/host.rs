//! What the driver needs of the host before the first container: directories, mounts, cgroups, a read-only shim.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use copepod_proto::bundle::{FD_SOCKET, TASK_SOCKET};
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxFlags, statvfs, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount, unmount,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::cgroup::Cgroups;
use super::events::Announcer;
use super::{Config, Runtime, RuntimeError, TaskExit, bundle, kernel};
use crate::base::cmd::{Program, run};
use crate::base::fs::{FsError, private_dir};
use crate::base::id;

/// Longest path of a unix socket, without its final NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// Name of the binary; what `ps` and the OOM killer show.
const BINARY: &str = "containerd-shim-copepod-v1";

/// The shim answers `--version` without doing anything; longer means that the disk or the machine is in trouble.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

impl Runtime {
    /// Probes the host, prepares the shims' cgroup and the sealed copy of the binary. Exits arrive on the receiver.
    ///
    /// # Errors
    /// The shim is missing or of another version, or `state` is too long for socket paths: says which and what to do.
    pub async fn open(mut config: Config) -> Result<(Self, mpsc::UnboundedReceiver<TaskExit>), RuntimeError> {
        check_length(&config.state)?;
        check_version(&config.shim).await?;
        kernel::add_missing(&mut config.force_fallbacks);
        // 0711: an unprivileged user namespace may have to walk through it; what lies in it is 0700.
        private_dir(&config.state, 0o711).map_err(RuntimeError::Files)?;
        for below in [bundle::DIR, "ns", "bin", "seccomp"] {
            private_dir(&config.state.join(below), 0o700).map_err(RuntimeError::Files)?;
        }
        let cgroups = Arc::new(Cgroups::detect()?);
        make_private_mount(&config.state.join("ns"))?;
        let shim = seal(&config.shim, &config.state.join("bin"))?;
        retire(&config.state.join("bin"), &shim);
        let shim_cgroups = cgroups.make(&shims_cgroup(&config.instance))?;
        let (announcer, exits) = Announcer::new();
        let runtime = Self {
            config,
            cgroups,
            shim,
            shim_cgroups,
            announcer: Arc::new(announcer),
        };
        Ok((runtime, exits))
    }

    /// Gives back what [`Runtime::open`] took from the host, mounts and the shims' cgroup, unless a container or a pod
    /// is left that needs it. For an orderly end of the daemon.
    ///
    /// # Errors
    /// Something could not be given back; nothing depends on it.
    pub fn close(&self) -> Result<(), RuntimeError> {
        let pins = self.config.state.join("ns");
        let pinned = fs::read_dir(&pins)
            .map_err(|source| RuntimeError::Files(FsError::io("list", &pins)(source)))?
            .next()
            .is_some();
        // A pod without containers has no bundle and no shim, only its pins, which lie inside of the mount.
        let held = pinned || !self.bundles()?.is_empty();
        if held || !self.cgroups.processes(&shims_cgroup(&self.config.instance))?.is_empty() {
            return Ok(());
        }
        self.cgroups.unmake(&shims_cgroup(&self.config.instance))?;
        for path in [self.shim.parent(), Some(pins.as_path())].into_iter().flatten() {
            match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // Not mounted: was never, or somebody was quicker.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(mount_error("unmount", path)(errno)),
            }
        }
        Ok(())
    }

    /// Where shims of this daemon are, besides their bundles.
    pub(super) fn shims_cgroup(&self) -> String {
        shims_cgroup(&self.config.instance)
    }
}

fn shims_cgroup(instance: &str) -> String {
    format!("/copepod-{instance}/shims")
}

/// Checked at start, so that no container fails for it later.
fn check_length(state: &Path) -> Result<(), RuntimeError> {
    let below = 1 + bundle::DIR.len() + 1 + id::LEN + 1 + TASK_SOCKET.len().max(FD_SOCKET.len());
    let length = state.as_os_str().len() + below;
    if length <= LONGEST_SOCKET {
        return Ok(());
    }
    Err(RuntimeError::StateTooLong {
        state: state.to_owned(),
        length,
        longest: LONGEST_SOCKET,
        room: LONGEST_SOCKET - below,
    })
}

async fn check_version(shim: &Path) -> Result<(), RuntimeError> {
    fs::metadata(shim).map_err(|source| RuntimeError::ShimMissing {
        path: shim.to_owned(),
        source,
    })?;
    let said = run(Program {
        path: shim.to_owned(),
        args: vec!["--version".into()],
        env: Vec::new(),
        stdin: Vec::new(),
        timeout: VERSION_DEADLINE,
        output_limit: 4096,
    })
    .await
    .map_err(|source| RuntimeError::ShimVersion {
        path: shim.to_owned(),
        source,
    })?;
    let found = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    let needed = format!("{BINARY} {}", env!("CARGO_PKG_VERSION"));
    if found == needed {
        return Ok(());
    }
    Err(RuntimeError::OtherShim {
        path: shim.to_owned(),
        found,
        needed,
    })
}

/// Copies the binary below `bin` under a name made from its content, and mounts that directory read-only on itself: a
/// container that gets hold of a shim's `/proc/PID/exe` cannot write through it (CVE-2019-5736), all shims share one
/// file's pages, and an upgrade of the original leaves running shims alone.
fn seal(shim: &Path, bin: &Path) -> Result<PathBuf, RuntimeError> {
    let content = fs::read(shim).map_err(|source| RuntimeError::ShimMissing {
        path: shim.to_owned(),
        source,
    })?;
    let name = hex::encode(&Sha256::digest(&content)[..8]);
    let dir = bin.join(name);
    let copy = dir.join(BINARY);
    if is_read_only(&copy) {
        return Ok(copy);
    }
    private_dir(&dir, 0o700).map_err(RuntimeError::Files)?;
    let files = |doing: &'static str, source| RuntimeError::Files(FsError::io(doing, &copy)(source));
    // Not mounted yet (a new boot or a new mount namespace): what lies there may be half a copy.
    if fs::read(&copy).ok().as_deref() != Some(content.as_slice()) {
        // Under another name first: a shim that runs from the old file keeps it, and nobody sees a part.
        let beside = dir.join("copy");
        fs::write(&beside, &content).map_err(|source| files("write the copy of", source))?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o500))
            .and_then(|()| fs::rename(&beside, &copy))
            .map_err(|source| files("write", source))?;
    }
    mount_bind(&dir, &dir).map_err(mount_error("mount on itself", &dir))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_change(&dir, MountPropagationFlags::PRIVATE).map_err(mount_error("make private", &dir))?;
    mount_remount(&dir, flags, "").map_err(mount_error("make read-only", &dir))?;
    Ok(copy)
}

/// Removes the copies of earlier versions that nothing runs from any more. What cannot be removed now is tried again
/// at the next start; nobody needs it.
fn retire(bin: &Path, current: &Path) {
    let dirs = fs::read_dir(bin)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let old: Vec<_> = dirs.filter(|dir| Some(dir.as_path()) != current.parent()).collect();
    if old.is_empty() {
        return;
    }
    // A shim has its own copy open, and so has a process that it has not turned into a container's yet.
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let running: Vec<_> = processes
        .filter_map(|entry| fs::read_link(entry.path().join("exe")).ok())
        .collect();
    for dir in old {
        if running.iter().any(|exe| exe.parent() == Some(dir.as_path())) {
            continue;
        }
        let unmounted = unmount(&dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let removed = match unmounted {
            Ok(()) | Err(Errno::INVAL) => fs::remove_dir_all(&dir),
            Err(errno) => Err(errno.into()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "the shim's copy {} stays until the next start", dir.display());
        }
    }
}

fn is_read_only(file: &Path) -> bool {
    statvfs(file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Pins below stay in this directory: without private propagation each would be copied into every mount namespace
/// that other programs made as slaves, and keep the namespace alive there.
fn make_private_mount(dir: &Path) -> Result<(), RuntimeError> {
    let id = |path: &Path| {
        let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID);
        stat.map(|stat| stat.stx_mnt_id).map_err(mount_error("examine", path))
    };
    let parent = dir.parent().unwrap_or(Path::new("/"));
    if id(dir)? == id(parent)? {
        mount_bind(dir, dir).map_err(mount_error("mount on itself", dir))?;
    }
    mount_change(dir, MountPropagationFlags::PRIVATE).map_err(mount_error("make private", dir))
}

fn mount_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> RuntimeError + 'a {
    move |errno| RuntimeError::Mount {
        doing,
        path: path.to_owned(),
        source: io::Error::from(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_earlier_versions_go_once_nothing_runs_from_them() {
        let top = tempfile::tempdir().unwrap();
        let bin = top.path().canonicalize().unwrap();
        let copy = |name: &str| {
            let dir = bin.join(name);
            fs::create_dir(&dir).unwrap();
            fs::copy("/bin/sleep", dir.join(BINARY)).unwrap();
            dir
        };
        let (current, used, unused) = (copy("current"), copy("used"), copy("unused"));
        let mut running = std::process::Command::new(used.join(BINARY))
            .arg("100")
            .spawn()
            .unwrap();
        retire(&bin, &current.join(BINARY));
        assert!(current.exists() && used.exists() && !unused.exists());
        running.kill().unwrap();
        running.wait().unwrap();
        retire(&bin, &current.join(BINARY));
        assert!(current.exists() && !used.exists());
    }
}
