//! Removing a container with nobody's help: its shim may be well, hung, dead or gone.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::bundle::{self, ShimProcess};
use super::shim::examine;
use super::{Runtime, RuntimeError};
use crate::base::id::ContainerId;
use crate::domain::stats::CgroupStats;

/// A shim holds no disk and no network: after SIGKILL it is gone at once.
pub(super) const SHIM_END: Duration = Duration::from_secs(2);

impl Runtime {
    /// Removes everything of a container by path alone: kills its cgroup, its shim, removes cgroup and bundle. Needs
    /// nobody's cooperation, bounded in time; fine to repeat. `cgroup` must be the one that its bundle records, or, when
    /// there is no bundle any more, one that names the container; empty when it never had one.
    ///
    /// # Errors
    /// Something stays; to be tried again.
    pub async fn cleanup(&self, id: &ContainerId, cgroup: &str) -> Result<(), RuntimeError> {
        let dir = self.bundle(id);
        if !cgroup.is_empty() {
            // First, so that a shim that is well sees its container end and records how.
            self.on_cgroup(id, cgroup, Step::Kill).await?;
        }
        self.end_shim(id, &dir).await?;
        if !cgroup.is_empty() {
            self.on_cgroup(id, cgroup, Step::Remove).await?;
        }
        // Whoever still waits for the exit gets what is known before the record goes.
        if self.announcer.expects(id) {
            self.announcer.tell(id, bundle::read_end(id, &dir).ok().flatten());
        }
        bundle::remove(&dir)
    }

    /// Whether the shim that the container's bundle records is still there. Quick: two small files.
    #[must_use]
    pub fn has_shim(&self, id: &ContainerId) -> bool {
        bundle::read_shim(&self.bundle(id)).and_then(hold).is_some()
    }

    /// Ends shims of ours that have no bundle any more, and their log writers: without it nobody can talk to them, or
    /// would ever find them again (yardstick X24). For the start, when no shim is on its way up.
    ///
    /// # Errors
    /// Which processes are shims cannot be read, or one does not end.
    pub async fn end_strays(&self) -> Result<(), RuntimeError> {
        let mut outcome = Ok(());
        for pid in self.cgroups.processes(&self.shims_cgroup())? {
            let Some(id) = served(pid).filter(|id| !self.bundle(id).exists()) else {
                continue;
            };
            if let Some(process) = examine(pid) {
                tracing::warn!(container = %id, pid, "ending a shim whose files are gone");
                outcome = outcome.and(end(&id, process).await);
            }
        }
        outcome
    }

    /// Reads a container's cgroup.
    ///
    /// # Errors
    /// It is gone or unreadable.
    pub fn stats(&self, cgroup: &str) -> Result<CgroupStats, RuntimeError> {
        self.cgroups.stats(cgroup).map_err(RuntimeError::Cgroup)
    }

    async fn on_cgroup(&self, id: &ContainerId, cgroup: &str, step: Step) -> Result<(), RuntimeError> {
        let (cgroups, owned, path) = (std::sync::Arc::clone(&self.cgroups), id.clone(), cgroup.to_owned());
        let done = tokio::task::spawn_blocking(move || match step {
            Step::Kill => cgroups.kill(&owned, &path),
            Step::Remove => cgroups.remove(&owned, &path),
        });
        done.await
            .map_err(|_| RuntimeError::Panicked { id: id.clone() })?
            .map_err(RuntimeError::Cgroup)
    }

    async fn end_shim(&self, id: &ContainerId, dir: &Path) -> Result<(), RuntimeError> {
        let candidates = match bundle::read_shim(dir) {
            Some(process) => vec![process],
            // The daemon died before it could write down which: it is one of those in our cgroup, by its arguments.
            None if dir.exists() => self.shims_of(id)?,
            None => Vec::new(),
        };
        for process in candidates {
            end(id, process).await?;
        }
        Ok(())
    }

    /// Processes of this container's shim among all in the shims' cgroup.
    fn shims_of(&self, id: &ContainerId) -> Result<Vec<ShimProcess>, RuntimeError> {
        let names_it = |pid: &i32| served(*pid).as_ref() == Some(id);
        let all = self.cgroups.processes(&self.shims_cgroup())?;
        Ok(all.into_iter().filter(names_it).filter_map(examine).collect())
    }
}

/// A step on a container's cgroup.
#[derive(Debug, Clone, Copy)]
enum Step {
    Kill,
    Remove,
}

/// Kills a shim and waits for its end; fine when it has ended already.
async fn end(id: &ContainerId, process: ShimProcess) -> Result<(), RuntimeError> {
    let Some(pidfd) = hold(process) else { return Ok(()) };
    pidfd_send_signal(&pidfd, Signal::KILL).ok();
    gone(pidfd).await.map_err(|()| RuntimeError::Unkillable {
        id: id.clone(),
        pid: process.pid,
    })
}

/// Which container a shim was started for, by its arguments.
fn served(pid: i32) -> Option<ContainerId> {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == b"--id")?;
    std::str::from_utf8(arguments.next()?).ok()?.parse().ok()
}

/// Opens a descriptor on the process if it is still the one that was meant. It is looked at after it was opened: what
/// the descriptor stands for cannot change any more.
fn hold(process: ShimProcess) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
    (examine(process.pid) == Some(process)).then_some(pidfd)
}

/// Waits for the end of a process; its descriptor becomes readable then (pidfd_open(2)).
async fn gone(pidfd: OwnedFd) -> Result<(), ()> {
    let waited = tokio::task::spawn_blocking(move || {
        let limit = Timespec::try_from(SHIM_END).map_err(|_| Errno::INVAL)?;
        retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)))
    });
    match waited.await {
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(()),
    }
}
