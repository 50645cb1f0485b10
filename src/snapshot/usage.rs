//! How much disk writable layers take, measured by one thread in the background so that no request ever waits for a
//! walk (contract §9.2, §10.1). Only what somebody asked for lately is measured.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::clock::Timestamp;
use crate::base::id::ContainerId;

use crate::domain::stats::Usage;

/// Between two measurements; kubelet's own housekeeping looks as often.
const PERIOD: Duration = Duration::from_secs(10);
/// What nobody asked for so long is not measured any more.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// A walk ends here: the number is then too low, but the thread stays useful to others.
const MAX_INODES: u64 = 4_000_000;
/// Deeper trees are counted no further, since every level holds a descriptor.
const MAX_DEPTH: usize = 256;

/// The measuring of the layers below one directory.
#[derive(Debug)]
pub(super) struct Meter {
    root: PathBuf,
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    measured: HashMap<ContainerId, Measured>,
    running: bool,
}

#[derive(Debug)]
struct Measured {
    usage: Usage,
    asked: Instant,
}

impl Meter {
    pub(super) fn of(root: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            root,
            state: Mutex::default(),
            asked: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last measure. The first ask for a container wakes the thread, or starts it.
    pub(super) fn usage(self: &Arc<Self>, id: &ContainerId) -> Usage {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(measured) = state.measured.get_mut(id) {
            measured.asked = now;
            return measured.usage;
        }
        let usage = Usage::default();
        state.measured.insert(id.clone(), Measured { usage, asked: now });
        if !state.running {
            let meter = Arc::downgrade(self);
            // Without a thread the numbers stay 0, "not measured yet", and the next first ask tries again.
            state.running = thread::Builder::new()
                .name("usage".to_owned())
                .spawn(move || run(&meter))
                .is_ok();
        }
        self.asked.notify_one();
        usage
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.state().measured.remove(id);
    }

    /// Measures what is wanted.
    fn measure_all(&self) {
        let now = Instant::now();
        let wanted: Vec<ContainerId> = {
            let mut state = self.state();
            state
                .measured
                .retain(|_, measured| now.duration_since(measured.asked) < FORGOTTEN);
            state.measured.keys().cloned().collect()
        };
        for id in wanted {
            let found = measure(&self.root.join(id.as_str()).join("upper"));
            let mut state = self.state();
            match (found, state.measured.get_mut(&id)) {
                (Some(usage), Some(measured)) => measured.usage = usage,
                // There is no such layer (any more): who asks again makes us look again.
                (None, _) => drop(state.measured.remove(&id)),
                (Some(_), None) => {}
            }
        }
    }

    /// Waits for the next round: the period's end, or somebody who asks for the first time.
    fn wait(&self) {
        let state = self.state();
        let is_quiet = |state: &mut State| state.measured.values().all(|m| m.usage.at != 0);
        drop(self.asked.wait_timeout_while(state, PERIOD, is_quiet));
    }
}

fn run(meter: &Weak<Meter>) {
    while let Some(meter) = meter.upgrade() {
        meter.measure_all();
        meter.wait();
    }
}

/// Bytes and inodes of a tree; `None` if it is not there.
fn measure(dir: &Path) -> Option<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = fs::open(dir, flags, Mode::empty()).ok()?;
    let mut walk = Walk::default();
    // What vanishes or can't be read meanwhile is not counted; the next round counts again.
    walk.directory(root.as_fd(), 0).unwrap_or_default();
    Some(Usage {
        bytes: walk.bytes,
        inodes: walk.inodes,
        at: Timestamp::now().as_nanos(),
    })
}

#[derive(Default)]
struct Walk {
    bytes: u64,
    inodes: u64,
    /// Files with several names, which count once.
    linked: HashSet<u64>,
}

impl Walk {
    fn directory(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
        let own = fs::fstat(dir)?;
        self.count(&own);
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if self.inodes >= MAX_INODES {
                return Ok(());
            }
            let name = OsStr::from_bytes(name);
            if entry.file_type() == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if depth < MAX_DEPTH
                    && let Ok(below) = fs::openat(dir, name, flags, Mode::empty())
                {
                    self.directory(below.as_fd(), depth + 1).unwrap_or_default();
                }
            } else if let Ok(stat) = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                && (stat.st_nlink < 2 || self.linked.insert(stat.st_ino))
            {
                self.count(&stat);
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: &fs::Stat) {
        self.inodes += 1;
        self.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
    }
}
