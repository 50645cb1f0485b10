//! Ends of containers on their way up: each is told once, whoever finds out first.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{TaskEnd, TaskExit};
use crate::base::id::ContainerId;

/// Tells the daemon of ended containers.
#[derive(Debug)]
pub(super) struct Announcer {
    exits: mpsc::UnboundedSender<TaskExit>,
    /// Containers that somebody waits for and that have not been reported.
    open: Mutex<BTreeSet<ContainerId>>,
}

impl Announcer {
    /// Also returns where the ends arrive.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<TaskExit>) {
        let (exits, receiver) = mpsc::unbounded_channel();
        let open = Mutex::default();
        (Self { exits, open }, receiver)
    }

    /// From now on an end of `id` is due.
    pub(super) fn expect(&self, id: &ContainerId) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
    }

    /// Whether the end of `id` is still due.
    pub(super) fn expects(&self, id: &ContainerId) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// No end of `id` is due any more, told or not: it was never created.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Tells the end of `id`, unless it was told or is not due.
    pub(super) fn tell(&self, id: &ContainerId, exit: Option<TaskEnd>) {
        let due = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if due {
            // Nobody listens when the daemon is ending; the next one reads the record.
            self.exits.send(TaskExit { id: id.clone(), exit }).ok();
        }
    }
}
