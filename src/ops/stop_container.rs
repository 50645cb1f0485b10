//! StopContainer: signal, wait, kill, wait, and then do without the shim (house decision 10).
//!
//! All stops of one container share one driver: the signal is sent once, and a later stop with less patience shortens
//! the wait of all (contract §4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::error::chain;
use crate::domain::container::ContainerState;
use crate::domain::error::{Failure, Kind};
use crate::ops::request::StopMode;
use crate::ops::table::{ContainerEntry, lock};
use crate::ops::{Inner, driver, watch as exits};
use crate::runtime::Task;

/// From SIGKILL to the published exit: the kernel needs milliseconds, a process in an uninterruptible sleep may need
/// some seconds more, and the shim may take one to drain the log.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// Longer graces are cut to this: far beyond any pod's life, and an `Instant` can hold it.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A stop under way.
#[derive(Debug, Clone)]
pub(crate) struct Stopping {
    deadline: watch::Sender<Instant>,
    outcome: watch::Receiver<Option<Result<(), (Kind, String)>>>,
}

/// The runbook.
pub(crate) async fn stop(ops: &Arc<Inner>, text: &str, mode: StopMode) -> Result<(), Failure> {
    let Some(entry) = ops.table.find_container(text)? else {
        return Ok(());
    };
    if entry.container().state == ContainerState::Created {
        // It may be on its way to running: then the start comes first and is stopped afterwards.
        drop(entry.lifecycle.lock().await);
    }
    stop_entry(ops, &entry, mode).await
}

/// The same, for who has found the container already.
pub(crate) async fn stop_entry(ops: &Arc<Inner>, entry: &Arc<ContainerEntry>, mode: StopMode) -> Result<(), Failure> {
    if entry.container().state.running().is_none() {
        return Ok(());
    }
    let deadline = Instant::now()
        + match mode {
            StopMode::Now => Duration::ZERO,
            StopMode::After(grace) => grace.min(LONGEST_GRACE),
        };
    let mut outcome = join(ops, entry, deadline);
    let settled = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
    match settled {
        Ok(Some(Ok(())) | None) => Ok(()),
        Ok(Some(Err((kind, message)))) => Err(Failure::new(kind, message)),
        Err(_) => Err(Failure::new(
            Kind::Internal,
            format!("the stop of container {} ended by a fault of the daemon", entry.id),
        )),
    }
}

/// Joins the stop under way, or begins one.
fn join(
    ops: &Arc<Inner>,
    entry: &Arc<ContainerEntry>,
    deadline: Instant,
) -> watch::Receiver<Option<Result<(), (Kind, String)>>> {
    let mut slot = lock(&entry.stopping);
    if let Some(stopping) = slot.as_ref() {
        stopping.deadline.send_if_modified(|current| shorten(current, deadline));
        return stopping.outcome.clone();
    }
    let (deadline, patience) = watch::channel(deadline);
    let (done, outcome) = watch::channel(None);
    *slot = Some(Stopping {
        deadline,
        outcome: outcome.clone(),
    });
    let (ops, entry) = (Arc::clone(ops), Arc::clone(entry));
    let tracker = ops.verbs.clone();
    tracker.spawn(async move {
        let stopped = drive(&ops, &entry, patience).await;
        // Cleared first: whoever comes after a failed stop begins a new one.
        *lock(&entry.stopping) = None;
        done.send_replace(Some(stopped.map_err(|failure| (failure.kind(), failure.chain()))));
    });
    outcome
}

/// Patience only shrinks.
fn shorten(current: &mut Instant, wanted: Instant) -> bool {
    let shorter = wanted < *current;
    if shorter {
        *current = wanted;
    }
    shorter
}

async fn drive(
    ops: &Arc<Inner>,
    entry: &Arc<ContainerEntry>,
    patience: watch::Receiver<Instant>,
) -> Result<(), Failure> {
    let task = entry.has_task();
    if let Some(task) = &task {
        let asked = *patience.borrow() > Instant::now() && ask(entry, task).await;
        if asked {
            match patient(entry.ended(), patience, ops.closing.cancelled()).await {
                Waited::Ended => return Ok(()),
                Waited::Enough => {}
                Waited::Closing => return Err(interrupted(entry)),
            }
        }
        if let Err(error) = task.kill().await {
            tracing::debug!(container = %entry.id, error = chain(&error), "kill through the shim");
        }
        if tokio::time::timeout(KILL_WAIT, entry.ended()).await.is_ok() {
            return Ok(());
        }
    }
    let container = entry.container();
    let cleaned = ops.runtime.cleanup(&entry.id, &container.cgroup).await;
    if let Err(error) = cleaned {
        let doing = format!(
            "end the processes of container {} (is a device or network disk hanging?)",
            entry.id
        );
        return Err(driver::runtime(doing, error));
    }
    entry.set_task(None);
    exits::publish(ops, entry, exits::lost()).await;
    Ok(())
}

/// Sends the stop signal; whether there is a point in waiting for its effect.
async fn ask(entry: &ContainerEntry, task: &Task) -> bool {
    match task.signal(entry.container().stop_signal).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(container = %entry.id, error = chain(&error), "stop signal not delivered: killing at once");
            false
        }
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The container did.
    Ended,
    /// Patience ran out.
    Enough,
    /// The daemon is to end.
    Closing,
}

/// Waits for `ended` until patience runs out, which others may shorten meanwhile, or until the daemon is to end: its
/// own end must not take as long as the most patient stop.
async fn patient(
    ended: impl Future<Output = ()>,
    mut patience: watch::Receiver<Instant>,
    closing: impl Future<Output = ()>,
) -> Waited {
    tokio::pin!(ended, closing);
    loop {
        let until = *patience.borrow_and_update();
        tokio::select! {
            biased;
            () = &mut ended => return Waited::Ended,
            () = &mut closing => return Waited::Closing,
            () = tokio::time::sleep_until(until) => return Waited::Enough,
            shorter = patience.changed() => if shorter.is_err() {
                // The sender lives as long as the stop does; without it nobody waits.
                return Waited::Enough;
            },
        }
    }
}

/// Clients repeat a stop that failed, so the container gets its whole grace again from the next daemon.
fn interrupted(entry: &ContainerEntry) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!(
            "the daemon is shutting down: container {} has its stop signal and is left alone, stop it again when the daemon is back",
            entry.id
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_only_shrinks() {
        let now = Instant::now();
        let mut current = now + Duration::from_secs(30);
        assert!(!shorten(&mut current, now + Duration::from_secs(60)));
        assert!(shorten(&mut current, now));
        assert_eq!(current, now);
    }

    #[tokio::test]
    async fn a_later_stop_with_less_patience_shortens_the_wait() {
        let (deadline, patience) = watch::channel(Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn(patient(std::future::pending(), patience, std::future::pending()));
        tokio::task::yield_now().await;
        deadline.send_if_modified(|current| shorten(current, Instant::now() + Duration::from_millis(5)));
        let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(waited.unwrap().unwrap(), Waited::Enough);
    }

    #[tokio::test]
    async fn an_end_in_time_is_noticed_at_once() {
        let (_deadline, patience) = watch::channel(Instant::now() + Duration::from_secs(3600));
        assert_eq!(patient(async {}, patience, async {}).await, Waited::Ended);
    }

    #[tokio::test]
    async fn the_daemons_end_ends_the_wait() {
        let (_deadline, patience) = watch::channel(Instant::now() + Duration::from_secs(3600));
        assert_eq!(
            patient(std::future::pending(), patience, async {}).await,
            Waited::Closing
        );
    }
}
