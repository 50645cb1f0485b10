//! What happens when the container's first process ends: the rest is killed, the log completed, the exit recorded on
//! disk, and only then is anybody told.

use std::sync::Arc;

use copepod_proto::bundle::{ExitRecord, VERSION};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::oneshot;

use crate::io::note::{chain, note};
use crate::oom::Verdict;
use crate::ops::{Shim, cleanup};
use crate::reap::now;
use crate::task::{Ended, Phase, START_FAILED};

/// Follows the first process to its end and the container to `Stopped`.
pub(crate) async fn follow(shim: Arc<Shim>, exit: oneshot::Receiver<Ended>) {
    // The reaper lives as long as the shim: if it does not answer, the shim is ending.
    let Ok(ended) = exit.await else { return };
    let mut phases = shim.phase.subscribe();
    // Whether it was ever started, and why not, is known when Create and Start have said their word.
    let settled = phases
        .wait_for(|phase| !matches!(phase, Phase::Creating | Phase::Starting { .. }))
        .await;
    let Ok(before) = settled.map(|phase| phase.clone()) else {
        return;
    };
    let started_at = match &before {
        Phase::Running { started_at, pid: _ } => *started_at,
        Phase::Absent
        | Phase::Creating
        | Phase::Created { .. }
        | Phase::Starting { .. }
        | Phase::Ending { .. }
        | Phase::Stopped { .. }
        | Phase::Deleted { .. } => 0,
    };
    shim.phase.send_replace(Phase::Ending { pid: before.pid() });
    let record = conclude(&shim, ended, started_at).await;
    let ended = Ended {
        code: record.exit_code,
        at: record.exited_at,
    };
    shim.phase.send_replace(Phase::Stopped {
        pid: before.pid(),
        ended,
    });
}

/// Ends what is left, completes the log and writes the exit record.
async fn conclude(shim: &Arc<Shim>, ended: Ended, started_at: i64) -> ExitRecord {
    let (container, start_error) = match shim.parts().as_mut() {
        Some(parts) => {
            parts.input = None;
            (Some((Arc::clone(&parts.cgroup), parts.oom)), parts.start_error.take())
        }
        None => (None, None),
    };
    let mut oom_killed = false;
    if let Some((cgroup, oom)) = container {
        // Before the kill below and before anybody removes the cgroup: afterwards the counter says something else.
        match oom.verdict(&cgroup, ended.code) {
            Ok(verdict) => oom_killed = verdict == Verdict::OomKilled,
            Err(error) => note(chain(&error)),
        }
        if let Err(error) = cleanup::kill_all(&*cgroup).await {
            note(format_args!("kill what the container left: {}", chain(&error)));
        }
    }
    shim.execs.end_all();
    if let Err(error) = shim.log.lock().await.drain().await {
        note(format_args!("complete the container's log: {}", chain(&error)));
    }
    let exit_code = if start_error.is_some() {
        START_FAILED
    } else {
        ended.code
    };
    let record = ExitRecord {
        version: VERSION,
        exit_code,
        oom_killed,
        started_at,
        exited_at: ended.at,
        start_error,
    };
    if let Err(error) = copepod_proto::bundle::write_exit(&shim.bundle, &record) {
        note(format_args!("write the exit record: {}", chain(&error)));
    }
    record
}

/// Kills the first process, if there is one.
pub(crate) fn kill_first(shim: &Shim) {
    if let Some(parts) = shim.parts().as_ref() {
        // It has ended already, then.
        let _killed = pidfd_send_signal(&*parts.pidfd, Signal::KILL);
    }
}

/// Waits until the container has stopped, and says how. Answers at once when it has already.
pub(crate) async fn stopped(shim: &Shim) -> Ended {
    let mut phases = shim.phase.subscribe();
    let ended = phases
        .wait_for(|phase| phase.ended().is_some())
        .await
        .ok()
        .and_then(|phase| phase.ended());
    // The sender lives in `shim`, so the wait cannot fail.
    ended.unwrap_or(Ended {
        code: START_FAILED,
        at: now(),
    })
}
