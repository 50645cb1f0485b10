//! The shim's own words, on standard error: `shim.log` in the bundle.
//!
//! The file lies on a small memory file system beside every other container's, so what one shim writes in its life
//! is bounded. What a caller is told in a reply is not repeated here.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes one process writes at most.
const BUDGET: usize = 64 * 1024;

static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// Writes one line, unless the budget is spent.
pub(crate) fn note(what: impl Display) {
    let line = format!("{what}\n");
    if WRITTEN.fetch_add(line.len(), Ordering::Relaxed) + line.len() <= BUDGET {
        // There is nobody left to tell when this fails.
        let _written = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
