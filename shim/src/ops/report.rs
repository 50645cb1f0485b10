//! Follows a new process to its next station without blocking.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::timeout;

use crate::child::launch::{Launch, LaunchError, Progress};
use crate::io::note::note;
use crate::ops::error::OpError;
use crate::sys::watch;

/// How long a process may take to its next station. Only a volume whose server is dead takes that long.
const LIMIT: Duration = Duration::from_secs(120);

/// Why a process did not come to its next station.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// It failed, and said why or died.
    Failed(LaunchError),
    /// It cannot be watched, or takes for ever.
    Lost(OpError),
}

/// Waits until the process is built, or runs its program. What it did another way than asked goes to the shim's log.
pub(crate) async fn next_station(launch: &mut Launch) -> Result<Progress, Stopped> {
    let lost = |source| Stopped::Lost(OpError::Watch { source });
    let own = launch.as_fd().try_clone_to_owned().map_err(lost)?;
    let watched = watch::readable(own).map_err(lost)?;
    let station = async {
        loop {
            // First, then wait: what came before the watch began is not announced again.
            match launch.advance() {
                Ok(Progress::Waiting) => {}
                Ok(station) => return Ok(station),
                Err(error) => return Err(Stopped::Failed(error)),
            }
            let mut ready = watched.ready(Interest::READABLE).await.map_err(lost)?;
            ready.clear_ready();
        }
    };
    let station = timeout(LIMIT, station)
        .await
        .unwrap_or(Err(Stopped::Lost(OpError::BuildSlow(LIMIT.as_secs()))));
    for text in launch.take_notes() {
        note(text);
    }
    station
}
