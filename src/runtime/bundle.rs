//! A container's directory `state/c/<id>`: what the daemon writes for the shim and reads after it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use copepod_proto::bundle::{CONFIG, ExitRecord, LogTarget, ShimOptions, VERSION, read_exit, write_options};
use serde::Deserialize;

use super::{Build, Runtime, RuntimeError, TaskEnd};
use crate::base::clock::Timestamp;
use crate::base::fs::{FsError, remove_tree_if_there, write_atomic};
use crate::base::id::ContainerId;

/// Directory of all bundles below `state`.
pub(super) const DIR: &str = "c";

/// The shim's pid and start time, written by the daemon once it has said that it is ready.
const SHIM_PID: &str = "shim.pid";

/// Bytes of content in one log record; what kubelet and its readers expect (CRI contract §7).
const MAX_LINE: u32 = 16 * 1024;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShimProcess {
    /// Its number.
    pub(super) pid: i32,
    /// When it was started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(super) started: u64,
}

impl Runtime {
    /// The directory of a container.
    pub(super) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.config.state.join(DIR).join(id.as_str())
    }

    /// Bundles on disk, for orphan scans.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bundles(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        let dir = self.config.state.join(DIR);
        let failed = |source| RuntimeError::Files(FsError::io("list", &dir)(source));
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // Whatever else lies there is not ours to touch.
            found.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(found)
    }

    /// The cgroup recorded in a bundle, for orphans.
    #[must_use]
    pub fn bundle_cgroup(&self, id: &ContainerId) -> Option<String> {
        cgroup_of(&self.bundle_spec(id).ok()?).ok()?
    }

    /// The OCI runtime spec in a bundle. One small file of a tmpfs: read in place, never worth a thread.
    ///
    /// # Errors
    /// The bundle is gone: the container has ended, or the host was rebooted.
    pub fn bundle_spec(&self, id: &ContainerId) -> Result<Vec<u8>, RuntimeError> {
        let path = self.bundle(id).join(CONFIG);
        fs::read(&path).map_err(|source| RuntimeError::Files(FsError::io("read", &path)(source)))
    }

    /// Writes a new bundle. Returns its directory and the cgroup that its spec names.
    pub(super) async fn write_bundle(&self, build: &Build) -> Result<(PathBuf, String), RuntimeError> {
        let Build {
            id,
            spec,
            rootfs: _, // goes to the shim with Create
            stdio,
        } = build;
        let named = cgroup_of(spec).map_err(|source| RuntimeError::Spec { id: id.clone(), source })?;
        let cgroup = named.unwrap_or_default();
        let dir = self.bundle(id);
        let options = ShimOptions {
            version: VERSION,
            log: stdio.log.clone().map(|(directory, path)| LogTarget {
                directory,
                path,
                max_line_bytes: MAX_LINE,
            }),
            tty: stdio.tty,
            stdin: stdio.stdin,
            stdin_once: stdio.stdin_once,
            shim_cgroups: self.shim_cgroups.clone(),
            seccomp_cache: Some(self.config.state.join("seccomp")),
            force_fallbacks: self.config.force_fallbacks.clone(),
        };
        let (of, at, spec) = (id.clone(), dir.clone(), spec.clone());
        // `state` is a tmpfs unless the configuration puts it on a disk, which may stall.
        let written = tokio::task::spawn_blocking(move || write(&of, &at, (&spec, &options))).await;
        written.map_err(|_| RuntimeError::Panicked { id: id.clone() })??;
        Ok((dir, cgroup))
    }
}

/// Makes the directory `dir` with the spec and the shim's options in it.
fn write(id: &ContainerId, dir: &Path, (spec, options): (&[u8], &ShimOptions)) -> Result<(), RuntimeError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(RuntimeError::BundleExists { id: id.clone() });
        }
        other => other.map_err(|source| RuntimeError::Files(FsError::io("create", dir)(source)))?,
    }
    write_atomic(&dir.join(CONFIG), spec, 0o600).map_err(RuntimeError::Files)?;
    write_options(dir, options).map_err(|source| RuntimeError::Record { id: id.clone(), source })
}

/// Removes a bundle; fine when it is gone.
pub(super) fn remove(dir: &Path) -> Result<(), RuntimeError> {
    remove_tree_if_there(dir).map_err(RuntimeError::Files)
}

/// How a container ended, if that is on disk.
pub(super) fn read_end(id: &ContainerId, dir: &Path) -> Result<Option<TaskEnd>, RuntimeError> {
    let record = read_exit(dir).map_err(|source| RuntimeError::Record { id: id.clone(), source })?;
    Ok(record.map(|record| {
        let ExitRecord {
            version: _, // checked when it was read
            exit_code,
            oom_killed,
            started_at,
            exited_at,
            start_error,
        } = record;
        TaskEnd {
            code: exit_code,
            oom_killed,
            started_at: Timestamp(started_at),
            exited_at: Timestamp(exited_at),
            start_error,
        }
    }))
}

/// Remembers which process is the shim.
pub(super) fn write_shim(dir: &Path, process: ShimProcess) -> Result<(), RuntimeError> {
    let text = format!("{} {}\n", process.pid, process.started);
    write_atomic(&dir.join(SHIM_PID), text.as_bytes(), 0o600).map_err(RuntimeError::Files)
}

/// Which process was the shim; `None` when that was never written.
pub(super) fn read_shim(dir: &Path) -> Option<ShimProcess> {
    let text = fs::read_to_string(dir.join(SHIM_PID)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some(ShimProcess {
        pid: pid.parse().ok()?,
        started: started.parse().ok()?,
    })
}

#[derive(Deserialize)]
struct SpecCgroup {
    linux: Option<LinuxCgroup>,
}

#[derive(Deserialize)]
struct LinuxCgroup {
    #[serde(rename = "cgroupsPath")]
    path: Option<String>,
}

/// The cgroup that an OCI runtime spec names (config-linux.md, `linux.cgroupsPath`).
fn cgroup_of(spec: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let SpecCgroup { linux } = serde_json::from_slice(spec)?;
    Ok(linux.and_then(|linux| linux.path))
}
