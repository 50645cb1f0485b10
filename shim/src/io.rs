//! Streams of a container and of its execs: pipes, the CRI log and the process that writes it.
//!
//! Nothing here knows a verb or a wire type; `ops` puts these parts together.

pub(crate) mod copy;
pub(crate) mod link;
pub(crate) mod log;
pub(crate) mod logfile;
pub(crate) mod note;
pub(crate) mod pipes;
pub(crate) mod writer;
