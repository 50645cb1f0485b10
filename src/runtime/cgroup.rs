//! The daemon's hand on cgroups: a leaf of ours for the shims, counters, and killing and removing a container's cgroup
//! by path when its shim cannot.
//!
//! cgroups-rs finds the hierarchies. The counters are read here (62 us a container, measured; 267 with its
//! `memory_stat` and `cpuacct`), because those read fifteen files where four are needed and turn every error into 0: a
//! container that is gone would be one that uses nothing.

mod kill;
mod stats;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::hierarchies::{UNIFIED_MOUNTPOINT, is_cgroup2_unified_mode, mountinfo_self};

use crate::base::id::ContainerId;
use crate::domain::stats::CgroupStats;

/// Why something with a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The path cannot be a container's.
    #[error("{path:?} is not the cgroup of container {id}: an absolute path whose last part names it")]
    NotTheContainers {
        /// The path.
        path: String,
        /// The container.
        id: ContainerId,
    },
    /// The path cannot be one at all.
    #[error("{path:?} is not a cgroup: an absolute path below the root without `.` and `..`")]
    BadPath {
        /// The path.
        path: String,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy is mounted below {UNIFIED_MOUNTPOINT}")]
    NoHierarchy,
    /// A hierarchy that is needed is not mounted.
    #[error("the cgroup controller {controller} is not mounted")]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// An operation on a file or directory failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A counter is not a number.
    #[error("{} holds no number", path.display())]
    NotANumber {
        /// The file.
        path: PathBuf,
    },
    /// Processes are left although they were killed.
    #[error("{left} processes of cgroup {path} did not end within {} ms after SIGKILL", kill::PATIENCE.as_millis())]
    Unkillable {
        /// The cgroup.
        path: String,
        /// How many.
        left: usize,
    },
    /// The directory stays busy.
    #[error("cgroup {path} was still busy after {} ms", kill::REMOVAL.as_millis())]
    Busy {
        /// The cgroup.
        path: String,
        /// What the kernel said last.
        source: io::Error,
    },
}

impl CgroupError {
    fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    controllers: Vec<String>,
}

/// The cgroups of this host.
#[derive(Debug, Clone)]
pub(super) struct Cgroups {
    /// v1 hierarchies, each with the controllers of its mount options; none on a host with v2 alone.
    v1: Vec<Hierarchy>,
    /// The v2 hierarchy. Beside v1 it has no controllers and serves for killing.
    unified: Option<PathBuf>,
}

/// Mount options of a v1 hierarchy that are not controllers.
const OPTIONS: [&str; 6] = ["rw", "ro", "noprefix", "clone_children", "cpuset_v2_mode", "xattr"];

impl Cgroups {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// Nothing is, or the mount table cannot be read.
    pub(super) fn detect() -> Result<Self, CgroupError> {
        if is_cgroup2_unified_mode() {
            return Ok(Self {
                v1: Vec::new(),
                unified: Some(UNIFIED_MOUNTPOINT.into()),
            });
        }
        let mut v1: Vec<Hierarchy> = Vec::new();
        // Mounts of a whole hierarchy win over binds of parts of it, as in the root file systems of other containers.
        let (whole, parts): (Vec<_>, Vec<_>) = mountinfo_self()
            .into_iter()
            .partition(|mount| mount.mount_root == Path::new("/"));
        for mount in whole.into_iter().chain(parts) {
            let known = |option: &String| !OPTIONS.contains(&option.as_str()) && !option.starts_with("release_agent=");
            let controllers: Vec<_> = mount.super_opts.into_iter().filter(known).collect();
            // A hierarchy may be mounted more than once; it is the same tree.
            if !v1.iter().any(|seen| seen.controllers == controllers) {
                v1.push(Hierarchy {
                    mount: mount.mount_point,
                    controllers,
                });
            }
        }
        if v1.is_empty() {
            return Err(CgroupError::NoHierarchy);
        }
        let unified = unified_beside()?;
        Ok(Self { v1, unified })
    }

    /// Makes the cgroup `path` in every hierarchy, fit for processes. Returns its directories.
    ///
    /// # Errors
    /// A directory cannot be made or prepared.
    pub(super) fn make(&self, path: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let parts = parts(path)?;
        let mut made = Vec::new();
        for root in self.roots() {
            let mut dir = root.to_owned();
            for part in &parts {
                dir.push(part);
                match fs::create_dir(&dir) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other.map_err(CgroupError::io("create", &dir))?,
                }
                fill_cpuset(&dir)?;
            }
            made.push(dir);
        }
        Ok(made)
    }

    /// Removes an empty cgroup of ours and its parent if that is empty too; fine when they are gone.
    pub(super) fn unmake(&self, path: &str) -> Result<(), CgroupError> {
        let parts = parts(path)?;
        for root in self.roots() {
            let mut dir = root.join(parts.join("/"));
            for _ in &parts {
                remove_dir_if_there(&dir).map_err(CgroupError::io("remove", &dir))?;
                dir.pop();
            }
        }
        Ok(())
    }

    /// Processes in the cgroup itself, in any hierarchy.
    pub(super) fn processes(&self, path: &str) -> Result<Vec<i32>, CgroupError> {
        let parts = parts(path)?;
        let mut found = Vec::new();
        for root in self.roots() {
            kill::read_procs(&root.join(parts.join("/")), &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// SIGKILLs everything in the container's cgroup and below, frozen or not, and waits for it to be gone. Blocks, for
    /// [`kill::PATIENCE`] at most.
    ///
    /// # Errors
    /// The path is not that container's, or processes are left.
    pub(super) fn kill(&self, id: &ContainerId, path: &str) -> Result<(), CgroupError> {
        let dirs = self.container(id, path)?;
        kill::kill(path, &dirs)
    }

    /// Removes the container's cgroup and those below it; fine when it is gone. Blocks, for [`kill::REMOVAL`] at most.
    ///
    /// # Errors
    /// The path is not that container's, or it stays busy.
    pub(super) fn remove(&self, id: &ContainerId, path: &str) -> Result<(), CgroupError> {
        let dirs = self.container(id, path)?;
        kill::remove(path, &dirs)
    }

    /// Reads the counters of a cgroup.
    ///
    /// # Errors
    /// It is gone or unreadable.
    pub(super) fn stats(&self, path: &str) -> Result<CgroupStats, CgroupError> {
        let below = parts(path)?.join("/");
        match &self.unified {
            Some(root) if self.v1.is_empty() => stats::v2(&root.join(below)),
            Some(_) | None => stats::v1(
                &self.controller("cpuacct")?.join(&below),
                &self.controller("memory")?.join(&below),
                &self.controller("pids")?.join(&below),
            ),
        }
    }

    fn controller(&self, controller: &'static str) -> Result<&Path, CgroupError> {
        let has = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == controller);
        let found = self
            .v1
            .iter()
            .find(has)
            .ok_or(CgroupError::NoController { controller })?;
        Ok(&found.mount)
    }

    fn roots(&self) -> impl Iterator<Item = &Path> {
        let v1 = self.v1.iter().map(|hierarchy| hierarchy.mount.as_path());
        // The unified one first: one write there kills everything.
        self.unified.as_deref().into_iter().chain(v1)
    }

    /// The directories of a container's cgroup. What is killed and removed must bear the container's id: a damaged or
    /// forged record must not make us kill a stranger, or everything.
    fn container(&self, id: &ContainerId, path: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let parts = parts(path)?;
        if !parts.last().is_some_and(|last| last.contains(id.as_str())) {
            return Err(CgroupError::NotTheContainers {
                path: path.to_owned(),
                id: id.clone(),
            });
        }
        let below = parts.join("/");
        Ok(self.roots().map(|root| root.join(&below)).collect())
    }
}

/// The v2 hierarchy beside v1, which cgroups-rs does not look for.
fn unified_beside() -> Result<Option<PathBuf>, CgroupError> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(CgroupError::io("read", table))?;
    let mount = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (subtree, point) = (fields.next()?, fields.next()?);
        (file_system.starts_with("cgroup2 ") && subtree == "/").then(|| PathBuf::from(point))
    };
    Ok(text.lines().find_map(mount))
}

/// The parts of an absolute cgroup path in cgroupfs syntax, at least one; slashes in a row are one.
fn parts(path: &str) -> Result<Vec<&str>, CgroupError> {
    let bad = || CgroupError::BadPath { path: path.to_owned() };
    let parts = path.strip_prefix('/').ok_or_else(bad)?.split('/');
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    let plain = |part: &str| part != "." && part != ".." && !part.contains(char::is_control);
    if !parts.is_empty() && parts.iter().all(|part| plain(part)) {
        Ok(parts)
    } else {
        Err(bad())
    }
}

/// A new v1 cpuset has no CPU and no memory node, and refuses processes until it does (cpusets.rst).
fn fill_cpuset(dir: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = dir.join(name);
        let own = match fs::read_to_string(&file) {
            // Not the cpuset hierarchy.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(CgroupError::io("read", &file))?,
        };
        let parent = dir.with_file_name("").join(name);
        // On v2 an empty one means "as the parent", and the topmost directory has none.
        if own.trim().is_empty() && dir.join("tasks").exists() {
            let inherited = fs::read_to_string(&parent).map_err(CgroupError::io("read", &parent))?;
            fs::write(&file, inherited.trim()).map_err(CgroupError::io("write", &file))?;
        }
    }
    Ok(())
}

fn remove_dir_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
