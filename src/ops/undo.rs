//! What a verb must take back if a later step fails: a stack of named steps, run in reverse order with deadlines of
//! their own, since the caller's may be what failed.
//!
//! Undoing is async and cannot live in `Drop`: [`Undo::finish`] runs it, `Drop` only shouts that somebody forgot.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::base::error::chain;
use crate::domain::error::Failure;

/// Each step gets this long, however late the verb is. A CNI DEL chain that hangs is the slowest step there is; 60 s is
/// what the network driver itself allows a plugin.
const STEP_DEADLINE: Duration = Duration::from_secs(60);

type Cause = Box<dyn StdError + Send + Sync>;
type Step = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>>;

/// The stack.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(&'static str, Step)>,
}

/// A step that could not be undone.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// Its name.
    pub(crate) step: &'static str,
    /// Why.
    pub(crate) why: String,
}

/// A failed verb: why, and what is left of it.
#[derive(Debug)]
pub(crate) struct Undone {
    /// What failed first; its message tells of leftovers too.
    pub(crate) cause: Failure,
    /// What could not be undone; empty when all is as before.
    pub(crate) leftovers: Vec<Leftover>,
}

impl Undo {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds the way back from a step. Nothing of `step` runs unless [`Undo::finish`] does.
    pub(crate) fn push<F, E>(&mut self, name: &'static str, step: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: StdError + Send + Sync + 'static,
    {
        self.steps
            .push((name, Box::pin(async move { step.await.map_err(Cause::from) })));
    }

    /// The verb succeeded: nothing is to be undone.
    pub(crate) fn disarm(mut self) {
        self.steps.clear();
    }

    /// Undoes everything, last step first, whatever fails on the way.
    pub(crate) async fn finish(mut self, cause: Failure) -> Undone {
        let mut leftovers = Vec::new();
        while let Some((name, step)) = self.steps.pop() {
            match tokio::time::timeout(STEP_DEADLINE, step).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => leftovers.push(Leftover {
                    step: name,
                    why: chain(error.as_ref()),
                }),
                Err(_) => leftovers.push(Leftover {
                    step: name,
                    why: format!("not done within {} s", STEP_DEADLINE.as_secs()),
                }),
            }
        }
        let cause = if leftovers.is_empty() {
            cause
        } else {
            cause.leaving(&told(&leftovers))
        };
        Undone { cause, leftovers }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.steps.is_empty() {
            let steps: Vec<_> = self.steps.iter().map(|(name, _)| *name).collect();
            tracing::error!(?steps, "undo steps were dropped without being run: a fault of ours");
        }
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(name, _)| name)).finish()
    }
}

fn told(leftovers: &[Leftover]) -> String {
    let each: Vec<_> = leftovers.iter().map(|l| format!("{}: {}", l.step, l.why)).collect();
    each.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::Kind;
    use std::io;
    use std::sync::{Arc, Mutex};

    type Trail = Arc<Mutex<Vec<u8>>>;

    async fn note(trail: Trail, what: u8) -> io::Result<()> {
        trail.lock().unwrap().push(what);
        Ok(())
    }

    #[tokio::test]
    async fn undoes_in_reverse_and_keeps_leftovers_beside_the_cause() {
        let trail = Trail::default();
        let mut undo = Undo::new();
        undo.push("files", note(trail.clone(), 1));
        undo.push("network", async { Err(io::Error::other("plugin is gone")) });
        undo.push("init", note(trail.clone(), 3));
        let undone = undo.finish(Failure::new(Kind::Unknown, "no address")).await;
        assert_eq!(*trail.lock().unwrap(), [3, 1]);
        assert_eq!(undone.leftovers.len(), 1);
        assert_eq!(
            undone.cause.chain(),
            "no address (could not be undone: network: plugin is gone)"
        );
    }

    #[tokio::test]
    async fn a_success_undoes_nothing() {
        let trail = Trail::default();
        let mut undo = Undo::new();
        undo.push("files", note(trail.clone(), 1));
        undo.disarm();
        assert!(trail.lock().unwrap().is_empty());
    }
}
