//! The layer store: one directory per layer under `layers`, what is in flight under `ingest`.
//!
//! A layer becomes visible by one rename, after its files are on disk. Who uses it is counted while pulls are in
//! flight, so that a failed pull takes back exactly what nobody else needs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{RenameFlags, renameat_with};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::OwnedMutexGuard;

use crate::base::error::chain;
use crate::base::fs::private_dir;
use crate::domain::image::{DiffId, Layer};

use super::error::PullError;
use super::unpack::error::UnpackError;
use super::unpack::{self, Budget, Order};

/// Prefix of what is being removed; never the name of a layer.
const GONE: &str = ".gone-";

/// The stores.
#[derive(Debug)]
pub(super) struct Content {
    layers: PathBuf,
    ingest: PathBuf,
    slots: Mutex<HashMap<DiffId, Slot>>,
}

/// What is known of a layer here; kept while it is used or may not be recorded yet.
#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever fetches it.
    fetching: Arc<tokio::sync::Mutex<()>>,
    layer: Option<Layer>,
    leases: usize,
    fate: Fate,
}

/// What happens to a layer when the last pull that uses it ends.
#[derive(Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It goes: no finished pull wanted it.
    #[default]
    Goes,
    /// It stays: it belongs to an image.
    Stays,
}

/// A layer could not be taken in.
#[derive(Debug)]
pub(super) enum IngestError {
    /// Its content.
    Unpack(UnpackError),
    /// Our directories.
    Store(PullError),
}

fn store(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PullError + use<> {
    let path = path.to_owned();
    move |source| PullError::Store { doing, path, source }
}

impl Content {
    /// Makes the directories, for root alone: images have setuid files in them (yardstick L7).
    pub(super) fn open(layers: PathBuf, ingest: PathBuf) -> Result<Arc<Self>, PullError> {
        for dir in [&layers, &ingest] {
            private_dir(dir, 0o700).map_err(|error| store("prepare", dir)(io::Error::other(error)))?;
        }
        Ok(Arc::new(Self {
            layers,
            ingest,
            slots: Mutex::default(),
        }))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<DiffId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that a pull uses a layer. `known` is what is recorded of it.
    pub(super) fn lease(self: &Arc<Self>, diff_id: &DiffId, known: Option<Layer>) -> Lease {
        // A record whose files are gone is no layer: fetch it again.
        let is_here = |layer: &Layer| self.layers.join(&layer.dir).is_dir();
        let known = known.filter(is_here);
        let mut slots = self.slots();
        let slot = slots.entry(diff_id.clone()).or_default();
        slot.leases += 1;
        if slot.layer.as_ref().is_some_and(|layer| !is_here(layer)) {
            slot.layer = None;
            slot.fate = Fate::Goes;
        }
        if let Some(layer) = known {
            slot.layer = Some(layer);
            slot.fate = Fate::Stays;
        }
        Lease {
            content: Arc::clone(self),
            diff_id: diff_id.clone(),
        }
    }

    /// Gives a layer up: at once, or when the last pull that uses it fails.
    pub(super) fn give_up(&self, dir: &str) -> Result<(), PullError> {
        {
            let mut slots = self.slots();
            let found = slots
                .iter_mut()
                .find(|(_, slot)| slot.layer.as_ref().is_some_and(|layer| layer.dir == dir));
            if let Some((diff_id, slot)) = found {
                if slot.leases > 0 {
                    slot.fate = Fate::Goes;
                    return Ok(());
                }
                let diff_id = diff_id.clone();
                slots.remove(&diff_id);
            }
        }
        self.discard(&self.layers.join(dir))
    }

    /// Renames a tree away and removes it where that can take its time.
    fn discard(&self, path: &Path) -> Result<(), PullError> {
        let gone = self.layers.join(format!("{GONE}{}", random_name()));
        match fs::rename(path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => {
                other.map_err(store("remove", path))?;
                in_background(move || remove_gone(&gone));
                Ok(())
            }
        }
    }

    /// Removes whatever is not in `keep`, in flight or half removed. For the start: no pull may be in flight.
    pub(super) fn sweep(&self, keep: &[Layer]) -> Result<(), PullError> {
        let kept: std::collections::HashSet<&str> = keep.iter().map(|layer| layer.dir.as_str()).collect();
        for (dir, kept) in [(&self.layers, Some(&kept)), (&self.ingest, None)] {
            for entry in fs::read_dir(dir).map_err(store("list", dir))? {
                let entry = entry.map_err(store("list", dir))?;
                let name = entry.file_name();
                let is_kept = name
                    .to_str()
                    .is_some_and(|name| kept.is_some_and(|kept| kept.contains(name)));
                if !is_kept {
                    self.discard(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Takes a layer in: unpacks and verifies it, makes it durable, gives it its name.
    fn ingest(&self, source: impl BufRead + Send, order: &Order, budget: &Budget) -> Result<Layer, IngestError> {
        let path = self.ingest.join(random_name());
        let result = self.fill(&path, source, order, budget);
        if result.is_err() {
            // The first error is the one to tell; what stays is swept at the next start.
            if let Err(error) = self.discard(&path) {
                tracing::warn!(error = chain(&error), path = %path.display(), "cannot remove a failed layer");
            }
        }
        result
    }

    fn fill(
        &self,
        path: &Path,
        source: impl BufRead + Send,
        order: &Order,
        budget: &Budget,
    ) -> Result<Layer, IngestError> {
        let failed = |doing, path: &Path| {
            let store = store(doing, path);
            move |error| IngestError::Store(store(error))
        };
        fs::create_dir(path).map_err(failed("make", path))?;
        let root = File::open(path).map_err(failed("open", path))?;
        let unpacked = unpack::layer(source, root.as_fd(), order, budget).map_err(IngestError::Unpack)?;
        // One syncfs for all its files costs a fraction of an fsync for each (house §8).
        rustix::fs::syncfs(&root).map_err(|errno| failed("sync", path)(errno.into()))?;
        let dir = self.name(path).map_err(failed("rename", path))?;
        let synced = File::open(&self.layers).and_then(|layers| layers.sync_all());
        synced.map_err(failed("sync", &self.layers))?;
        Ok(Layer {
            diff_id: order.diff_id.clone(),
            dir,
            bytes: unpacked.bytes,
            inodes: unpacked.inodes,
        })
    }

    /// Gives the tree at `path` a name among the layers. Random: names made of digests could be made to collide.
    fn name(&self, path: &Path) -> io::Result<String> {
        let layers = File::open(&self.layers)?;
        loop {
            let name = random_name();
            match renameat_with(rustix::fs::CWD, path, &layers, &name, RenameFlags::NOREPLACE) {
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
                Ok(()) => return Ok(name),
            }
        }
    }
}

/// A pull's use of a layer.
#[derive(Debug)]
pub(super) struct Lease {
    content: Arc<Content>,
    diff_id: DiffId,
}

impl Lease {
    /// The layer, once it is there.
    pub(super) fn layer(&self) -> Option<Layer> {
        self.content.slots().get(&self.diff_id)?.layer.clone()
    }

    /// Waits until nobody else fetches it. Look at [`Self::layer`] then.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        let fetching = self
            .content
            .slots()
            .get(&self.diff_id)
            .map(|slot| Arc::clone(&slot.fetching))
            .unwrap_or_default();
        fetching.lock_owned().await
    }

    /// Takes the layer in. Blocking.
    pub(super) fn ingest(
        &self,
        source: impl BufRead + Send,
        order: &Order,
        budget: &Budget,
    ) -> Result<Layer, IngestError> {
        let layer = self.content.ingest(source, order, budget)?;
        if let Some(slot) = self.content.slots().get_mut(&self.diff_id) {
            slot.layer = Some(layer.clone());
        }
        Ok(layer)
    }

    /// The error for a layer that should be here and is not.
    pub(super) fn gone(&self) -> PullError {
        PullError::LayerGone {
            diff_id: self.diff_id.clone(),
        }
    }

    /// Says that the layer belongs to an image now.
    pub(super) fn keep(&self) {
        if let Some(slot) = self.content.slots().get_mut(&self.diff_id) {
            slot.fate = Fate::Stays;
        }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.content.lease(&self.diff_id, None)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let unwanted = {
            let mut slots = self.content.slots();
            let Some(slot) = slots.get_mut(&self.diff_id) else {
                return;
            };
            slot.leases -= 1;
            if slot.leases > 0 || (slot.layer.is_some() && slot.fate == Fate::Stays) {
                return;
            }
            slots.remove(&self.diff_id).and_then(|slot| slot.layer)
        };
        if let Some(layer) = unwanted
            && let Err(error) = self.content.discard(&self.content.layers.join(&layer.dir))
        {
            tracing::warn!(error = chain(&error), layer = %self.diff_id, "cannot remove a layer that no image uses");
        }
    }
}

fn remove_gone(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(error = chain(&error), path = %path.display(), "cannot remove; the next start tries again");
    }
}

/// On the runtime's blocking threads, or right here where there is no runtime (a pull's thread that outlives it).
fn in_background(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// Eight letters and digits: overlay options have one page for all layers of an image (house §8).
fn random_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0_u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect()
}

#[cfg(test)]
mod tests;
