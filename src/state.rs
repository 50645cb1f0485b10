//! What survives the daemon: versioned records in an embedded database, one writer, group commit (house decision 8).
//!
//! It knows records, not what they mean: whoever opens it gets everything that was recorded and decides what became of
//! it. Nothing here ever reads the database again after the start; the daemon's own tables answer queries.

mod db;
mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod migrate;
mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io, thread};

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::base::error::chain;
use crate::base::fs::{FsError, private_dir};
use crate::base::id::{ContainerId, PodId};
use crate::base::lock::{self, LockError};
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
pub enum StateError {
    /// The directory cannot be made ours.
    #[error("prepare the directory of the database")]
    Directory(#[source] FsError),
    /// Another daemon has it.
    #[error("{} is in use by another copepod{}: stop it, or give this one another `root`", dir.display(), lock::holder(*pid))]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who has it, when the lock file tells.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("lock the directory of the database")]
    Lock(#[source] LockError),
    /// The database's file cannot be opened.
    #[error("open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A newer copepod wrote it.
    #[error(
        "{} has schema version {found} and this copepod knows up to {known}: start the version that wrote it, or move the file away to begin with nothing recorded",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u64,
        /// The version of this program.
        known: u64,
    },
    /// What is in the file is not what was written to it.
    #[error(
        "{} is damaged: restore it, or move it away to begin with nothing recorded (what runs is then cleaned up)",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Box<redb::Error>,
    },
    /// Reading it stopped the thread that does so: worse than damaged.
    #[error(
        "{} cannot be read by the database library, which gave up: restore it, or move it away to begin with nothing recorded",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// Its content cannot be read for another reason.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// No thread for it.
    #[error("start the thread of the database")]
    Thread(#[source] io::Error),
    /// A record could not be made from a value.
    #[error("encode the record of {key}")]
    Encode {
        /// Kind and id.
        key: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The change was not recorded.
    #[error("record {changes} changes")]
    Commit {
        /// How many changes the group had.
        changes: usize,
        /// Why not; shared by everybody in the group.
        source: Arc<redb::Error>,
    },
    /// The disk is full.
    #[error(
        "the file system of {} (`root`) is full: remove images that no container uses (crictl rmi --prune), or other files on it",
        root.display()
    )]
    Full {
        /// Where the database is.
        root: PathBuf,
        /// The library's error; shared by everybody in the group.
        source: Arc<redb::Error>,
    },
    /// The disk failed to keep what it had accepted. What it holds now is unknown until it is read anew from the disk
    /// itself, and the kernel's cache would hide that.
    #[error("the disk failed to keep an earlier change, nothing more is recorded: check the disk and restart copepod")]
    Untrusted,
    /// The store was closed.
    #[error("the database is closed")]
    Closed,
}

/// The store; its database runs on a thread of its own.
#[derive(Debug, Clone)]
pub struct State {
    requests: mpsc::UnboundedSender<db::Request>,
    /// Why the last commit failed; `None` after one that did not.
    unwell: Arc<Mutex<Option<Unwell>>>,
    root: PathBuf,
}

/// Why nothing can be recorded at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwell {
    /// CamelCase, for Status.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Bytes that must be free before a disk that was full counts as usable again: room for the records of thousands of
/// pods, so that the state does not change with every one of them.
const ROOM: u64 = 16 * 1024 * 1024;

impl State {
    /// Opens (or makes) the database file `path` and takes the lock on its directory (the file `lock` in it), which it
    /// holds until [`State::close`] or until the last clone is gone.
    ///
    /// # Errors
    /// Another daemon holds it (says which pid), it is of a newer version, or damaged.
    pub async fn open(path: &Path) -> Result<(Self, Recorded), StateError> {
        let path = path.to_owned();
        let root = path.parent().unwrap_or(Path::new("/")).to_owned();
        let unreadable = StateError::Unreadable { path: path.clone() };
        let (requests, inbox) = mpsc::unbounded_channel();
        let (opened, outcome) = oneshot::channel();
        thread::Builder::new()
            .name("state".into())
            .stack_size(STACK)
            .spawn(move || match open_locked(&path) {
                Ok((store, recorded, lock)) => {
                    // Nobody waits any more: then there is nothing to serve either.
                    if opened.send(Ok(recorded)).is_err() {
                        return;
                    }
                    let closed = db::serve(store, inbox);
                    // Only now may the next one open it.
                    drop(lock);
                    // Whoever asked may have stopped waiting.
                    closed.map(|closed| closed.send(()).ok());
                }
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(StateError::Thread)?;
        let recorded = outcome.await.map_err(|_| unreadable)??;
        let state = Self {
            requests,
            unwell: Arc::default(),
            root,
        };
        Ok((state, recorded))
    }

    /// Durable when it returns. Commits that wait together are one transaction.
    ///
    /// # Errors
    /// Nothing of it was recorded; or, after [`StateError::Untrusted`], it is not known whether it was.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StateError> {
        let writes = changes.iter().map(record::encode).collect::<Result<Vec<_>, _>>()?;
        let outcome = self.send(writes).await;
        *self.unwell.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().map(unwell);
        outcome
    }

    async fn send(&self, writes: Vec<record::Write>) -> Result<(), StateError> {
        let (reply, outcome) = oneshot::channel();
        self.requests
            .send(db::Request::Commit { writes, reply })
            .map_err(|_| StateError::Closed)?;
        outcome.await.map_err(|_| StateError::Closed)?
    }

    /// Whether changes can be recorded: from memory while they can, and by trying again once one could not.
    ///
    /// # Errors
    /// Why not, for Status.
    pub async fn health(&self) -> Result<(), Unwell> {
        if self.requests.is_closed() {
            return Err(unwell(&StateError::Closed));
        }
        let Some(last) = self.unwell.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        let room = statvfs(&self.root).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if last.reason == FULL && room < ROOM {
            return Err(last);
        }
        // Nobody asks for a change while Status says that none is taken, so an empty one is tried.
        self.commit(Vec::new()).await.map_err(|error| unwell(&error))
    }

    /// Closes the database and gives up the lock; what was sent before is recorded first. Clones get
    /// [`StateError::Closed`] from now on.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();
        if self.requests.send(db::Request::Close { closed }).is_ok() {
            // An error means that the thread has ended already, which is what is wanted.
            drop(done.await);
        }
    }
}

const FULL: &str = "DiskFull";

fn unwell(error: &StateError) -> Unwell {
    let reason = match error {
        StateError::Full { .. } => FULL,
        StateError::Untrusted => "DiskFailed",
        StateError::Closed => "ShuttingDown",
        StateError::Directory(_)
        | StateError::Locked { .. }
        | StateError::Lock(_)
        | StateError::File { .. }
        | StateError::Newer { .. }
        | StateError::Damaged { .. }
        | StateError::Unreadable { .. }
        | StateError::Read { .. }
        | StateError::Thread(_)
        | StateError::Encode { .. }
        | StateError::Commit { .. } => "RecordsFailed",
    };
    Unwell {
        reason,
        message: chain(error),
    }
}

/// Stack of the database's thread in bytes. Its deepest calls are tree descents; half a megabyte is ten times what a
/// debug build was seen to use, and only what is touched is real.
const STACK: usize = 512 * 1024;

fn open_locked(path: &Path) -> Result<(db::Store, Recorded, fs::File), StateError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    private_dir(dir, 0o700).map_err(StateError::Directory)?;
    let lock = lock::hold(dir).map_err(|error| match error {
        LockError::Held { dir, pid } => StateError::Locked { dir, pid },
        LockError::File { .. } => StateError::Lock(error),
    })?;
    let (store, recorded) = db::Store::open(path)?;
    Ok((store, recorded, lock))
}
