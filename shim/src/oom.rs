//! Did the kernel's OOM killer end this container? Decided when it ends, before anybody is told: kubelet keeps the
//! first reason it sees (CRI contract §4.2).

use crate::cgroup::Cgroup;
use crate::cgroup::error::CgroupError;

/// Exit code of a process that SIGKILL ended: 128 + 9.
const KILLED: i32 = 137;

/// The OOM killer's count at a moment from which on a kill is the container's end. Take one when the cgroup is made,
/// and another before killing the container on request: a kill that was asked for is no OOM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Baseline(u64);

/// Why a container ended, as far as memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Out of memory.
    OomKilled,
    /// Anything else.
    NotOom,
}

impl Baseline {
    /// Reads the count.
    ///
    /// # Errors
    /// The cgroup's counter cannot be read.
    pub(crate) fn take(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        cgroup.oom_kills().map(Self)
    }

    /// Judges an exit. Call it before the cgroup is removed: its counters go with it. A container that lost a child to
    /// the OOM killer and exited by itself ended by itself.
    ///
    /// # Errors
    /// The cgroup's counter cannot be read.
    pub(crate) fn verdict(self, cgroup: &Cgroup, exit_code: i32) -> Result<Verdict, CgroupError> {
        if exit_code != KILLED {
            return Ok(Verdict::NotOom);
        }
        Ok(if cgroup.oom_kills()? > self.0 {
            Verdict::OomKilled
        } else {
            Verdict::NotOom
        })
    }
}
