//! Work inside another network namespace, always on a thread of its own that ends with the work: a thread that has
//! entered one must never go back to a pool (house decision 18).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Opens a pinned namespace.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    File::open(path).map(OwnedFd::from)
}

/// Runs `work` inside the namespace and gives back what it returns. Blocks for as long as `work` does.
pub(super) fn run_in<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                work()
            })?;
        inside
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
