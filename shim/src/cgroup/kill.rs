//! Killing everything in a cgroup, also what forks meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::error::CgroupError;
use super::{file, v1};

/// Where to find and how to kill the processes of one cgroup.
#[derive(Debug)]
pub(super) struct Target {
    /// Directories whose `cgroup.procs`, with those below, list them.
    pub(super) lists: Vec<PathBuf>,
    /// v2's `cgroup.kill` (since 5.14, so always there).
    pub(super) kill_file: Option<PathBuf>,
    /// The directory in v1's freezer hierarchy.
    pub(super) freezer: Option<PathBuf>,
}

impl Target {
    /// Every process listed. Those of another PID namespace (listed as 0) are left out.
    pub(super) fn pids(&self) -> Result<BTreeSet<i32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for list in &self.lists {
            for dir in file::subtree(list)? {
                let text = file::read_if_there(&dir.join("cgroup.procs"))?.unwrap_or_default();
                pids.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<i32>().ok())
                        .filter(|pid| *pid > 0),
                );
            }
        }
        Ok(pids)
    }

    pub(super) fn kill_pass(&self) -> Result<usize, CgroupError> {
        if let Some(path) = &self.kill_file {
            // Atomic against forks. Whatever it fails with (just removed, say), the way below is tried.
            drop(file::try_write(path, "1"));
        }
        // A number may have passed to a stranger between the list and the open. Only what is listed again after it was
        // opened is a process of this cgroup: the number cannot have passed on while the process it names is alive.
        let opened: BTreeMap<i32, OwnedFd> = self
            .others()?
            .into_iter()
            .filter_map(|pid| Some((pid, open(pid)?)))
            .collect();
        let listed = self.others()?;
        for (pid, process) in opened.iter().filter(|(pid, _)| listed.contains(pid)) {
            match pidfd_send_signal(process, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => {
                    return Err(CgroupError::Kill {
                        pid: *pid,
                        source: io::Error::from(error),
                    });
                }
            }
        }
        if let Some(freezer) = &self.freezer {
            file::subtree(freezer)?.iter().for_each(|dir| v1::thaw(dir));
        }
        Ok(listed.len())
    }

    fn others(&self) -> Result<BTreeSet<i32>, CgroupError> {
        let mut pids = self.pids()?;
        pids.remove(&getpid().as_raw_nonzero().get());
        Ok(pids)
    }
}

/// `None` when the process has ended meanwhile.
fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}
