//! What survives the daemon: versioned records in an embedded database, one writer, group commit (house decision 8).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::id::{ContainerId, PodId};
use crate::domain::container::Container;
use crate::domain::image::{DiffId, Image, ImageId, Layer};
use crate::domain::pod::{Pins, Pod, PodSpec};

/// One change; a commit is a list of them, all or none.
#[derive(Debug, Clone)]
pub enum Change {
    /// Adds or replaces a pod.
    PutPod(Box<Pod>),
    /// Removes a pod.
    DeletePod(PodId),
    /// Adds or replaces a container.
    PutContainer(Box<Container>),
    /// Removes a container.
    DeleteContainer(ContainerId),
    /// Adds or replaces an image.
    PutImage(Box<Image>),
    /// Removes an image.
    DeleteImage(ImageId),
    /// Adds a layer.
    PutLayer(Layer),
    /// Removes a layer.
    DeleteLayer(DiffId),
    /// Begins an operation that leaves traces outside (journal).
    Begin(Box<Intent>),
    /// Ends it, completed or rolled back.
    End(PodId),
}

/// An operation that the boot path must complete or roll back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Intent {
    /// A sandbox under construction: network DEL, unpin and cgroup removal are owed unless it completes.
    RunPod {
        /// The id it will have.
        id: PodId,
        /// What is asked for.
        spec: Box<PodSpec>,
        /// Where its namespaces are being pinned.
        pins: Pins,
    },
}

/// Everything recorded, as read at start.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Pods.
    pub pods: Vec<Pod>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Images.
    pub images: Vec<Image>,
    /// Layers.
    pub layers: Vec<Layer>,
    /// Operations begun and not ended.
    pub intents: Vec<Intent>,
    /// Records that could not be read, each with its key and why; set aside, not lost.
    pub quarantined: Vec<String>,
}

/// Why the store fails.
#[derive(Debug, thiserror::Error)]
pub enum StateError {}

/// The store; its database runs on a thread of its own.
#[derive(Debug, Clone)]
pub struct State {}

impl State {
    /// Opens (or makes) the database and takes the lock on its directory.
    ///
    /// # Errors
    /// Another daemon holds it (says which pid), it is of a newer version, or damaged.
    pub async fn open(_path: &Path) -> Result<(Self, Recorded), StateError> {
        todo!()
    }

    /// Durable when it returns. Commits that wait together are one transaction.
    ///
    /// # Errors
    /// Nothing of it was recorded.
    pub async fn commit(&self, _changes: Vec<Change>) -> Result<(), StateError> {
        todo!()
    }
}
