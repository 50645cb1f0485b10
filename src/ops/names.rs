//! Names in use. A key is reserved before any work is done for it; a second request with the same key joins the work
//! in flight and shares its outcome (house decision 9, contract §2.1).
//!
//! A reservation that is dropped without completion frees its key, so neither a failure, a time-out nor a panic leaves
//! a name behind.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::error::{Failure, Kind};

/// Keys of one sort of object with ids of type `I`.
#[derive(Debug)]
pub(crate) struct Names<I> {
    slots: Arc<Mutex<HashMap<String, Slot<I>>>>,
}

#[derive(Debug)]
enum Slot<I> {
    InFlight(watch::Receiver<Outcome<I>>),
    Taken(I),
}

#[derive(Debug, Clone)]
enum Outcome<I> {
    Pending,
    Complete(I),
    Failed(Kind, String),
}

/// What became of an attempt to reserve.
#[derive(Debug)]
pub(crate) enum Claim<I> {
    /// The key is ours to complete.
    Ours(Reservation<I>),
    /// Somebody else is at it.
    Joined(Flight<I>),
}

/// A key that is being worked for.
#[derive(Debug)]
pub(crate) struct Reservation<I> {
    key: String,
    slots: Arc<Mutex<HashMap<String, Slot<I>>>>,
    outcome: watch::Sender<Outcome<I>>,
    state: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Open,
    Settled,
}

/// The work of another request for the same key.
#[derive(Debug)]
pub(crate) struct Flight<I> {
    key: String,
    outcome: watch::Receiver<Outcome<I>>,
}

impl<I: Clone + Display> Names<I> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Arc::new(Mutex::new(HashMap::new())),
        }
    }

    /// Reserves `key`, or joins who did.
    ///
    /// # Errors
    /// `AlreadyExists` when a complete object has it; `what` says the name to people.
    pub(crate) fn claim(&self, key: &str, what: &str) -> Result<Claim<I>, Failure> {
        match lock(&self.slots).entry(key.to_owned()) {
            Entry::Occupied(slot) => match slot.get() {
                Slot::InFlight(outcome) => Ok(Claim::Joined(Flight {
                    key: what.to_owned(),
                    outcome: outcome.clone(),
                })),
                Slot::Taken(id) => Err(Failure::new(
                    Kind::AlreadyExists,
                    format!("{what} exists already with id {id}: use it, or remove it first"),
                )),
            },
            Entry::Vacant(slot) => {
                let (sender, receiver) = watch::channel(Outcome::Pending);
                slot.insert(Slot::InFlight(receiver));
                Ok(Claim::Ours(Reservation {
                    key: key.to_owned(),
                    slots: Arc::clone(&self.slots),
                    outcome: sender,
                    state: Held::Open,
                }))
            }
        }
    }

    /// Records at boot that a complete object has `key`.
    pub(crate) fn take(&self, key: &str, id: I) {
        lock(&self.slots).insert(key.to_owned(), Slot::Taken(id));
    }

    /// Frees the key of a removed object.
    pub(crate) fn release(&self, key: &str) {
        lock(&self.slots).remove(key);
    }
}

impl<I: Clone> Reservation<I> {
    /// The object is complete and visible: later requests learn that it exists, joined ones get its id.
    pub(crate) fn complete(mut self, id: &I) {
        lock(&self.slots).insert(self.key.clone(), Slot::Taken(id.clone()));
        self.settle(Outcome::Complete(id.clone()));
    }

    /// The work failed and is undone: the key is free, joined requests get the failure.
    pub(crate) fn fail(mut self, failure: &Failure) {
        lock(&self.slots).remove(&self.key);
        self.settle(Outcome::Failed(failure.kind(), failure.chain()));
    }

    /// The work failed and could not be undone: the key stays with what is left of the object until that is removed.
    pub(crate) fn keep_broken(mut self, id: &I, failure: &Failure) {
        lock(&self.slots).insert(self.key.clone(), Slot::Taken(id.clone()));
        self.settle(Outcome::Failed(failure.kind(), failure.chain()));
    }

    fn settle(&mut self, outcome: Outcome<I>) {
        self.state = Held::Settled;
        self.outcome.send_replace(outcome);
    }
}

impl<I> Drop for Reservation<I> {
    fn drop(&mut self) {
        if self.state == Held::Open {
            lock(&self.slots).remove(&self.key);
        }
    }
}

impl<I: Clone> Flight<I> {
    /// The outcome of the work in flight, whenever it comes: the caller's deadline bounds the wait.
    ///
    /// # Errors
    /// That of the work itself; `Unavailable` if it vanished without an outcome.
    pub(crate) async fn join(mut self) -> Result<I, Failure> {
        let settled = self
            .outcome
            .wait_for(|outcome| !matches!(outcome, Outcome::Pending))
            .await
            .map(|outcome| outcome.clone());
        match settled {
            Ok(Outcome::Complete(id)) => Ok(id),
            Ok(Outcome::Failed(kind, message)) => Err(Failure::new(kind, message)),
            Ok(Outcome::Pending) | Err(_) => Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "the request for {} that this one joined was abandoned: try again",
                    self.key
                ),
            )),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here leaves the map whole, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(names: &Names<String>, key: &str) -> Reservation<String> {
        match names.claim(key, "pod a").unwrap() {
            Claim::Ours(reservation) => reservation,
            Claim::Joined(_) => panic!("joined"),
        }
    }

    fn joined(names: &Names<String>, key: &str) -> Flight<String> {
        match names.claim(key, "pod a").unwrap() {
            Claim::Ours(_) => panic!("reserved twice"),
            Claim::Joined(flight) => flight,
        }
    }

    #[tokio::test]
    async fn a_second_request_gets_the_id_of_the_first() {
        let names = Names::new();
        let first = ours(&names, "a");
        let (second, third) = (joined(&names, "a"), joined(&names, "a"));
        let waiting = tokio::spawn(second.join());
        first.complete(&"id1".to_owned());
        assert_eq!(waiting.await.unwrap().unwrap(), "id1");
        assert_eq!(third.join().await.unwrap(), "id1");
        let failure = names.claim("a", "pod a").unwrap_err();
        assert_eq!(failure.kind(), Kind::AlreadyExists);
        assert!(failure.to_string().contains("id1"), "{failure}");
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_frees_the_name() {
        let names = Names::new();
        let first = ours(&names, "a");
        let second = joined(&names, "a");
        first.fail(&Failure::new(Kind::ResourceExhausted, "disk full"));
        let failure = second.join().await.unwrap_err();
        assert_eq!(
            (failure.kind(), failure.to_string().as_str()),
            (Kind::ResourceExhausted, "disk full")
        );
        drop(ours(&names, "a"));
    }

    #[tokio::test]
    async fn a_dropped_reservation_leaves_no_name_and_no_waiter() {
        let names = Names::new();
        let first = ours(&names, "a");
        let second = joined(&names, "a");
        drop(first);
        assert_eq!(second.join().await.unwrap_err().kind(), Kind::Unavailable);
        drop(ours(&names, "a"));
    }

    #[tokio::test]
    async fn a_cancelled_join_disturbs_nobody() {
        let names = Names::new();
        let first = ours(&names, "a");
        drop(joined(&names, "a").join());
        first.complete(&"id1".to_owned());
        names.release("a");
        drop(ours(&names, "a"));
    }

    #[test]
    fn what_is_left_of_a_failed_object_keeps_its_name() {
        let names = Names::new();
        ours(&names, "a").keep_broken(&"id1".to_owned(), &Failure::new(Kind::Unknown, "network"));
        assert_eq!(names.claim("a", "pod a").unwrap_err().kind(), Kind::AlreadyExists);
        names.release("a");
        drop(ours(&names, "a"));
    }
}
