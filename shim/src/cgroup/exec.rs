//! One exec's own cgroup below the container's, in one hierarchy only: what a probe leaves behind can be found and
//! killed, while limits and usage stay with the container.
//!
//! It lies in the v2 hierarchy where there is one, also beside v1; no controllers are enabled for it, so the
//! container's cgroup may go on having processes of its own. Otherwise in v1's freezer hierarchy, which limits nothing.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::CgroupError;
use super::join::JoinHandles;
use super::kill::Target;
use super::remove::{self, Removal};
use super::{Cgroup, Directory};

/// The cgroup of one exec.
#[derive(Debug)]
pub(crate) struct ExecCgroup {
    dir: PathBuf,
    home: Home,
    /// Where the exec's processes go: the container's directories, one of them replaced by `dir`.
    pub(super) v1: Vec<Directory>,
    pub(super) unified: Option<PathBuf>,
}

/// The hierarchy that the exec's own directory is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Unified,
    V1,
}

impl ExecCgroup {
    pub(super) fn create(container: &Cgroup, number: u64) -> Result<Self, CgroupError> {
        // A number and no name of the caller's: nothing to validate, and short, since tools take a 64-digit name of a
        // cgroup for a container.
        let name = format!("exec-{number}");
        let Cgroup { mut v1, unified, .. } = container.clone();
        if let Some(parent) = unified {
            let dir = parent.join(name);
            make(&dir)?;
            return Ok(Self {
                home: Home::Unified,
                v1,
                unified: Some(dir.clone()),
                dir,
            });
        }
        let position = |controller| v1.iter().position(|directory| directory.has(controller));
        let Some(home) = position("freezer").or(position("pids")).and_then(|at| v1.get_mut(at)) else {
            return Err(CgroupError::NoController {
                what: "a cgroup for an exec",
                controller: "freezer",
            });
        };
        home.path.push(name);
        let dir = home.path.clone();
        make(&dir)?;
        Ok(Self {
            home: Home::V1,
            v1,
            unified: None,
            dir,
        })
    }

    /// Opens what the exec's first process needs to join.
    ///
    /// # Errors
    /// The container's cgroup is gone.
    pub(crate) fn join_handles(&self) -> Result<JoinHandles, CgroupError> {
        JoinHandles::open(&self.v1, self.unified.as_deref())
    }

    /// As [`Cgroup::kill_pass`], for the exec's processes only.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn kill_pass(&self) -> Result<usize, CgroupError> {
        self.target().kill_pass()
    }

    /// As [`Cgroup::try_remove`], for the exec's own directory.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn try_remove(&self) -> Result<Removal, CgroupError> {
        remove::try_remove([self.dir.as_path()].into_iter())
    }

    pub(super) fn target(&self) -> Target {
        let kill_file = self.home == Home::Unified;
        Target {
            lists: vec![self.dir.clone()],
            kill_file: kill_file.then(|| self.dir.join("cgroup.kill")),
            freezer: (self.home == Home::V1).then(|| self.dir.clone()),
        }
    }
}

fn make(dir: &Path) -> Result<(), CgroupError> {
    let made = DirBuilder::new().mode(0o755).create(dir);
    made.map_err(|source| CgroupError::Create {
        path: dir.to_owned(),
        source,
    })
}
