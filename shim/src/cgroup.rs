//! The container's cgroup: made with its limits, joined by the container's first process and by execs, read at the
//! end, emptied and removed. cgroup v1 (one directory a hierarchy), hybrid and v2, chosen by what is mounted.
//!
//! Everything here is synchronous and short; what may have to wait has a form that does one step
//! ([`Cgroup::kill_pass`], [`Cgroup::try_remove`]) for a caller that must not block.

mod device;
pub(crate) mod error;
pub(crate) mod exec;
mod file;
pub(crate) mod join;
mod kill;
pub(crate) mod layout;
pub(crate) mod limits;
mod path;
pub(crate) mod remove;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::plan::resources::Resources;
use error::CgroupError;
use exec::ExecCgroup;
use join::JoinHandles;
use kill::Target;
use layout::{Hierarchy, Layout};
use limits::Note;
use path::CgroupPath;
use remove::Removal;

/// One container's cgroup. Dropping it removes nothing: the container may outlive this process.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    v1: Vec<Directory>,
    /// With v1 empty: the cgroup itself. Beside v1: only for killing and for execs.
    unified: Option<PathBuf>,
    notes: BTreeSet<Note>,
}

/// The container's directory in one v1 hierarchy.
#[derive(Debug, Clone)]
struct Directory {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Directory {
    fn has(&self, controller: &str) -> bool {
        self.hierarchy.controllers.iter().any(|name| name == controller)
    }
}

impl Cgroup {
    /// Makes the cgroup at `cgroups_path` (OCI `linux.cgroupsPath`, cgroupfs form) in every hierarchy, parents on
    /// demand, and limits it. An empty leftover of the same name is replaced, so that its counters start at 0.
    ///
    /// # Errors
    /// The path or a limit is refused; a directory is in use or cannot be made; a limit cannot be written. What was
    /// made is removed again.
    pub(crate) fn create(layout: &Layout, cgroups_path: &str, resources: &Resources) -> Result<Self, CgroupError> {
        let path = CgroupPath::parse(cgroups_path)?;
        limits::refuse_what_is_not_built(resources)?;
        let mut made = Made::default();
        let cgroup = Self::make(layout, &path, &mut made).and_then(|cgroup| cgroup.limit(resources));
        if cgroup.is_err() {
            made.undo();
        }
        cgroup
    }

    /// The cgroup as it is, for one that an earlier process made. Hierarchies where it does not exist are left out.
    ///
    /// # Errors
    /// The path is refused.
    pub(crate) fn open(layout: &Layout, cgroups_path: &str) -> Result<Self, CgroupError> {
        let path = CgroupPath::parse(cgroups_path)?;
        let directory = |hierarchy: &Hierarchy| Directory {
            hierarchy: hierarchy.clone(),
            path: path.below(&hierarchy.root),
        };
        Ok(Self {
            v1: layout
                .v1
                .iter()
                .map(directory)
                .filter(|directory| directory.path.is_dir())
                .collect(),
            unified: layout
                .unified
                .as_ref()
                .map(|root| path.below(root))
                .filter(|dir| dir.is_dir()),
            notes: BTreeSet::new(),
        })
    }

    fn make(layout: &Layout, path: &CgroupPath, made: &mut Made) -> Result<Self, CgroupError> {
        let mut v1 = Vec::with_capacity(layout.v1.len());
        for hierarchy in &layout.v1 {
            let directory = Directory {
                hierarchy: hierarchy.clone(),
                path: path.below(&hierarchy.root),
            };
            made.leaf(&directory.path)?;
            if directory.has("cpuset") {
                v1::seed_cpuset(&hierarchy.root, &directory.path)?;
            }
            v1.push(directory);
        }
        let unified = match &layout.unified {
            None => None,
            Some(root) => {
                let dir = path.below(root);
                match made.leaf(&dir) {
                    Ok(()) => Some(dir),
                    // Beside v1 it is a convenience: a host that mounts it read-only still runs containers.
                    Err(CgroupError::Create { .. }) if !layout.is_v2() => None,
                    Err(error) => return Err(error),
                }
            }
        };
        if let (true, Some(root), Some(dir)) = (layout.is_v2(), &layout.unified, &unified) {
            v2::enable_controllers(root, dir)?;
        }
        Ok(Self {
            v1,
            unified,
            notes: BTreeSet::new(),
        })
    }

    fn limit(mut self, resources: &Resources) -> Result<Self, CgroupError> {
        self.notes = match &self.unified {
            Some(dir) if self.v1.is_empty() => v2::apply(dir, resources)?,
            Some(_) | None => v1::apply(&self.v1, resources)?,
        };
        Ok(self)
    }

    /// What was asked for and could not be done here; worth one log line each.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> {
        self.notes.iter().copied()
    }

    /// Opens what a new process needs to join.
    ///
    /// # Errors
    /// The cgroup is gone, or has no such files.
    pub(crate) fn join_handles(&self) -> Result<JoinHandles, CgroupError> {
        JoinHandles::open(&self.v1, self.unified.as_deref())
    }

    /// How many processes of this cgroup, and of cgroups below it, the kernel's OOM killer has ended so far. Read it
    /// before the cgroup is removed. 0 without a memory controller.
    ///
    /// # Errors
    /// The counter cannot be read.
    pub(crate) fn oom_kills(&self) -> Result<u64, CgroupError> {
        if let Some(memory) = self.v1.iter().find(|directory| directory.has("memory")) {
            // v1 counts each cgroup for itself.
            let mut kills = 0;
            for dir in file::subtree(&memory.path)? {
                let control = file::read_if_there(&dir.join("memory.oom_control"))?;
                kills += control.map_or(0, |text| file::keyed(&text, "oom_kill"));
            }
            return Ok(kills);
        }
        match &self.unified {
            Some(dir) if self.v1.is_empty() => {
                let events = file::read_if_there(&dir.join("memory.events"))?;
                Ok(events.map_or(0, |text| file::keyed(&text, "oom_kill")))
            }
            Some(_) | None => Ok(0),
        }
    }

    /// The processes in this cgroup and below it, in ascending order.
    ///
    /// # Errors
    /// The lists cannot be read.
    pub(crate) fn pids(&self) -> Result<BTreeSet<i32>, CgroupError> {
        self.target().pids()
    }

    /// Sends SIGKILL to every process in this cgroup and below it, but never to this one, and thaws them. Answers how
    /// many it found; they may take a moment to die, and a fork in flight may escape, so call it until it says 0.
    ///
    /// # Errors
    /// The lists cannot be read, or a process cannot be killed.
    pub(crate) fn kill_pass(&self) -> Result<usize, CgroupError> {
        self.target().kill_pass()
    }

    /// Removes the cgroup and what the workload made below it. `Busy` when processes are left, or die just now: call
    /// it again a little later.
    ///
    /// # Errors
    /// A directory cannot be removed for another reason; the others were.
    pub(crate) fn try_remove(&self) -> Result<Removal, CgroupError> {
        remove::try_remove(self.directories())
    }

    /// A cgroup below this one for the processes of one exec, so that all of them can be found and killed. Usage and
    /// limits stay the container's.
    ///
    /// # Errors
    /// It cannot be made, for instance because the workload used up `cgroup.max.descendants`: run the exec in the
    /// container's own cgroup then.
    pub(crate) fn exec_child(&self, number: u64) -> Result<ExecCgroup, CgroupError> {
        ExecCgroup::create(self, number)
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.v1
            .iter()
            .map(|directory| directory.path.as_path())
            .chain(self.unified.as_deref())
    }

    fn target(&self) -> Target {
        // Any hierarchy lists the processes; pids is the one that workloads have no reason to rearrange.
        let list = self
            .v1
            .iter()
            .find(|directory| directory.has("pids"))
            .or(self.v1.first());
        let freezer = self.v1.iter().find(|directory| directory.has("freezer"));
        Target {
            lists: list
                .map(|directory| directory.path.clone())
                .into_iter()
                .chain(self.unified.clone())
                .collect(),
            kill_file: self.unified.as_ref().map(|dir| dir.join("cgroup.kill")),
            freezer: freezer.map(|directory| directory.path.clone()),
        }
    }
}

/// Directories made so far, in order.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory that must be new, and its parents where they are missing.
    fn leaf(&mut self, dir: &Path) -> Result<(), CgroupError> {
        let failed = |source| CgroupError::Create {
            path: dir.to_owned(),
            source,
        };
        match self.directory(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing: Vec<&Path> = dir.ancestors().skip(1).take_while(|parent| !parent.exists()).collect();
                for parent in missing.into_iter().rev() {
                    match self.directory(parent) {
                        // Another container's shim was faster.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        done => done.map_err(failed)?,
                    }
                }
                self.directory(dir).map_err(failed)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(dir).map_err(|_| CgroupError::Occupied { path: dir.to_owned() })?;
                self.directory(dir).map_err(failed)
            }
            done => done.map_err(failed),
        }
    }

    fn directory(&mut self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o755).create(dir)?;
        self.0.push(dir.to_owned());
        Ok(())
    }

    /// Best effort: the error that led here is the one to report. A parent that another container uses by now stays.
    fn undo(self) {
        for dir in self.0.iter().rev() {
            drop(fs::remove_dir(dir));
        }
    }
}

#[cfg(test)]
mod tests;
