//! Ends of containers: `TaskExit` → published state → record → the shim may go (house §4, rule 4).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::base::clock::Timestamp;
use crate::base::error::chain;
use crate::base::id::ContainerId;
use crate::domain::container::{Exit, ExitReason};
use crate::domain::pod::PodState;
use crate::ops::table::{ContainerEntry, PodEntry, lock};
use crate::ops::{Inner, pod_init};
use crate::runtime::{TaskEnd, TaskExit};

/// Exit status of a process that SIGKILL ended, which is what the OOM killer sends.
const KILLED: i32 = 137;
/// Exit status of a container whose real one is lost (contract §4.2).
const LOST: i32 = 255;

/// Ends of containers that are not in the table yet: their process may die between being built and being listed.
#[derive(Debug, Default)]
pub(crate) struct Early {
    expected: Arc<Mutex<BTreeMap<ContainerId, Option<TaskExit>>>>,
}

/// A container under construction; dropping it forgets what was noted.
#[derive(Debug)]
pub(crate) struct Expecting {
    id: ContainerId,
    expected: Arc<Mutex<BTreeMap<ContainerId, Option<TaskExit>>>>,
}

impl Early {
    /// From now on the end of this container is kept until asked for.
    pub(crate) fn expect(&self, id: ContainerId) -> Expecting {
        lock(&self.expected).insert(id.clone(), None);
        Expecting {
            id,
            expected: Arc::clone(&self.expected),
        }
    }

    /// Keeps the end of a container under construction; others are nobody's.
    fn note(&self, exit: TaskExit) {
        if let Some(slot) = lock(&self.expected).get_mut(&exit.id) {
            *slot = Some(exit);
        }
    }
}

impl Expecting {
    /// The container is listed: handles its end if that came first.
    pub(crate) fn listed(self, ops: &Arc<Inner>) {
        let early = lock(&self.expected).remove(&self.id).flatten();
        if let Some(exit) = early {
            tokio::spawn(handle(Arc::clone(ops), exit));
        }
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        lock(&self.expected).remove(&self.id);
    }
}

/// Handles every end until the daemon goes.
pub(crate) async fn run(ops: Weak<Inner>, mut exits: UnboundedReceiver<TaskExit>) {
    while let Some(exit) = exits.recv().await {
        let Some(ops) = ops.upgrade() else { return };
        // Each in its own task: one shim that is slow to go delays nobody, and their commits become one.
        tokio::spawn(handle(ops, exit));
    }
}

async fn handle(ops: Arc<Inner>, exit: TaskExit) {
    if let Some(entry) = ops.table.exact_container(&exit.id) {
        container_ended(&ops, &entry, exit.exit).await;
    } else if let Some(entry) = ops.table.exact_pod(exit.id.as_str()) {
        tracing::info!(pod = %entry.id, end = ?exit.exit, "the pod's init ended");
        init_ended(&ops, &entry).await;
    } else {
        ops.early.note(exit);
    }
}

async fn container_ended(ops: &Arc<Inner>, entry: &ContainerEntry, end: Option<TaskEnd>) {
    let exit = match end {
        Some(end) => told(end),
        None => {
            // First its processes, so that what is said to have ended has.
            let container = entry.container();
            if let Err(error) = ops.runtime.cleanup(&entry.id, &container.cgroup).await {
                tracing::warn!(container = %entry.id, error = chain(&error), "clean up after a lost shim");
            }
            lost()
        }
    };
    let Saved::Yes = publish(ops, entry, exit).await else {
        // The shim's exit record is the only durable word on this end: the shim stays, and the next start reads it.
        return;
    };
    if let Some(task) = entry.has_task() {
        if let Err(error) = task.delete().await {
            tracing::debug!(container = %entry.id, error = chain(&error), "release the shim; its removal follows with the container's");
        }
        entry.set_task(None);
    }
}

/// Whether an end is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Publishes the end and records it. The first word on an end stands.
pub(crate) async fn publish(ops: &Arc<Inner>, entry: &ContainerEntry, exit: Exit) -> Saved {
    let (code, reason) = (exit.code, exit.reason);
    if entry.transition(|state| state.exited(exit)).is_ok() {
        tracing::info!(container = %entry.id, code, reason = reason.as_str(), "container exited");
    }
    match ops.save_container(entry).await {
        Ok(()) => Saved::Yes,
        Err(error) => {
            tracing::warn!(container = %entry.id, error = error.chain());
            Saved::No
        }
    }
}

/// A pod whose init is gone has lost its PID namespace: nothing can be started in it any more.
pub(crate) async fn init_ended(ops: &Arc<Inner>, entry: &PodEntry) {
    let pod = entry.pod();
    if pod.state == PodState::NotReady {
        return;
    }
    entry.update(|pod| pod.state = PodState::NotReady);
    tracing::info!(pod = %entry.id, "pod is not ready any more");
    if let Err(error) = ops.save_pod(entry).await {
        tracing::warn!(pod = %entry.id, error = error.chain());
    }
    if let Err(error) = pod_init::remove(ops, &entry.id, &pod.spec).await {
        tracing::warn!(pod = %entry.id, error = error.chain());
    }
}

/// What the shim's record means (contract §4.2).
pub(crate) fn told(end: TaskEnd) -> Exit {
    let TaskEnd {
        code,
        oom_killed,
        started_at,
        exited_at,
        start_error,
    } = end;
    let reason = match (&start_error, code) {
        (Some(_), _) => ExitReason::StartError,
        (None, KILLED) if oom_killed => ExitReason::OomKilled,
        (None, 0) => ExitReason::Completed,
        (None, _) => ExitReason::Error,
    };
    Exit {
        code,
        reason,
        message: start_error.unwrap_or_default(),
        // One that never ran counts as started when it ended, else clients show 1970.
        started_at: if started_at == Timestamp(0) {
            exited_at
        } else {
            started_at
        },
        finished_at: exited_at,
    }
}

/// An end that nobody can tell of.
pub(crate) fn lost() -> Exit {
    let now = Timestamp::now();
    Exit {
        code: LOST,
        reason: ExitReason::Unknown,
        message: "its shim ended without leaving an exit record".to_owned(),
        started_at: now,
        finished_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_4_2_reasons() {
        let end = |code, oom_killed, start_error: Option<&str>| TaskEnd {
            code,
            oom_killed,
            started_at: Timestamp(if start_error.is_some() { 0 } else { 5 }),
            exited_at: Timestamp(9),
            start_error: start_error.map(str::to_owned),
        };
        for (given, reason) in [
            (end(0, false, None), ExitReason::Completed),
            (end(3, false, None), ExitReason::Error),
            (end(137, false, None), ExitReason::Error),
            (end(137, true, None), ExitReason::OomKilled),
            // A child was OOM-killed and the container went on, to end by itself.
            (end(0, true, None), ExitReason::Completed),
            (end(1, true, None), ExitReason::Error),
            (end(128, false, Some("no such file")), ExitReason::StartError),
        ] {
            assert_eq!(told(given.clone()).reason, reason, "{given:?}");
        }
        let failed = told(end(128, false, Some("no such file")));
        assert_eq!((failed.started_at, failed.finished_at), (Timestamp(9), Timestamp(9)));
        assert_eq!(failed.message, "no such file");
    }

    #[test]
    fn an_end_is_kept_only_for_who_waits_for_it() {
        let early = Early::default();
        let exit = TaskExit {
            id: ContainerId::generate(),
            exit: None,
        };
        early.note(exit.clone());
        assert!(lock(&early.expected).is_empty());
        let expecting = early.expect(exit.id.clone());
        early.note(exit.clone());
        assert_eq!(lock(&early.expected).get(&exit.id), Some(&Some(exit)));
        drop(expecting);
        assert!(lock(&early.expected).is_empty());
    }
}
