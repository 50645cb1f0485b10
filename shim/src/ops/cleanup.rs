//! Emptying and removing cgroups without blocking: the kernel takes its time, and other requests must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::cgroup::error::CgroupError;
use crate::cgroup::exec::ExecCgroup;
use crate::cgroup::remove::Removal;
use crate::io::note::{chain, note};
use crate::ops::error::OpError;

/// How long processes may take to die after SIGKILL before they are left to the kernel (a dead disk holds them).
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// How long a cgroup may stay busy after its processes were killed.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);
/// First pause between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A cgroup that can be emptied and removed step by step.
pub(crate) trait Emptied {
    /// See [`Cgroup::kill_pass`].
    fn kill_pass(&self) -> Result<usize, CgroupError>;
    /// See [`Cgroup::try_remove`].
    fn try_remove(&self) -> Result<Removal, CgroupError>;
}

impl Emptied for Cgroup {
    fn kill_pass(&self) -> Result<usize, CgroupError> {
        Self::kill_pass(self)
    }

    fn try_remove(&self) -> Result<Removal, CgroupError> {
        Self::try_remove(self)
    }
}

impl Emptied for ExecCgroup {
    fn kill_pass(&self) -> Result<usize, CgroupError> {
        Self::kill_pass(self)
    }

    fn try_remove(&self) -> Result<Removal, CgroupError> {
        Self::try_remove(self)
    }
}

/// Kills everything in `cgroup` and waits until it is dead, for at most 2 s.
///
/// # Errors
/// The processes cannot be listed or killed, or do not die.
pub(crate) async fn kill_all(cgroup: &impl Emptied) -> Result<(), OpError> {
    let done = || {
        cgroup
            .kill_pass()
            .map(|left| left == 0)
            .map_err(|source| OpError::KillAll { source })
    };
    if attempt(done, KILL_LIMIT).await? {
        Ok(())
    } else {
        Err(OpError::Undying(KILL_LIMIT.as_secs()))
    }
}

/// Kills what is in `cgroup` and removes it.
///
/// # Errors
/// It cannot be removed, or is busy for too long.
pub(crate) async fn remove(cgroup: &impl Emptied) -> Result<(), OpError> {
    kill_all(cgroup).await?;
    let remove = || cgroup.try_remove().map_err(|source| OpError::RemoveCgroup { source });
    let done = || remove().map(|removal| removal != Removal::Busy);
    if attempt(done, REMOVE_LIMIT).await? {
        Ok(())
    } else {
        Err(OpError::CgroupBusy(REMOVE_LIMIT.as_secs()))
    }
}

/// Removes `cgroup` while nobody waits for it.
pub(crate) fn in_background<C: Emptied + Send + Sync + 'static>(cgroup: Arc<C>) {
    tokio::spawn(async move {
        if let Err(error) = remove(&*cgroup).await {
            note(chain(&error));
        }
    });
}

/// Tries until `done`, with growing pauses; `false` when the time is up.
async fn attempt(mut done: impl FnMut() -> Result<bool, OpError>, limit: Duration) -> Result<bool, OpError> {
    let (mut pause, mut waited) = (PAUSE, Duration::ZERO);
    while !done()? {
        if waited >= limit {
            return Ok(false);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(true)
}
