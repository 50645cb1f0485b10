//! What can go wrong while measuring.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// A measurement, or the reading of one, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("start the client's threads")]
    Threads { source: io::Error },
    #[error("connect to {}", socket.display())]
    Connect {
        socket: PathBuf,
        source: tonic::transport::Error,
    },
    #[error("{step} through {endpoint}")]
    Rpc {
        step: &'static str,
        endpoint: String,
        source: Box<tonic::Status>,
    },
    #[error("exec in a container of {endpoint} ended with {code}")]
    ExecFailed { endpoint: String, code: i32 },
    #[error("a worker ended before its pods did")]
    Worker { source: tokio::task::JoinError },
    #[error("run {}", path.display())]
    Floor { path: PathBuf, source: io::Error },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} has a line that is no measurement", path.display())]
    Line { path: PathBuf, source: serde_json::Error },
    #[error("{} is no budget", path.display())]
    Budget { path: PathBuf, source: toml::de::Error },
    #[error("{} says no number for {what}", path.display())]
    Number { path: PathBuf, what: &'static str },
    #[error("{broken} of {all} promises are broken or were not measured")]
    Broken { broken: usize, all: usize },
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &BenchError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(line, ": {error}");
        cause = error.source();
    }
    line
}
