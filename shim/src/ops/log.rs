//! Keeps a log writer alive and reopens the log.

use std::sync::Arc;
use std::time::Duration;

use crate::io::note::{chain, note};
use crate::io::writer::Drained;
use crate::ops::Shim;
use crate::ops::error::OpError;
use crate::sys::clone::Spawned;
use crate::sys::watch;

/// Pause before a dead writer is replaced, grown with each death, so that a writer that cannot live costs little.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Opens the log at its path again, after a rotation.
///
/// # Errors
/// The log cannot be opened (the old file stays in use), or its disk does not answer.
pub(crate) async fn reopen(shim: &Shim) -> Result<(), OpError> {
    shim.log
        .lock()
        .await
        .reopen()
        .await
        .map_err(|source| OpError::ReopenLog { source })
}

/// Replaces the writer whenever it dies before its work is done.
pub(crate) async fn keep_writer_alive(shim: Arc<Shim>) {
    let mut pause = PAUSE;
    loop {
        let process = shim.log.lock().await.process();
        // Its own watch, not the reaper's: a writer replaced within an order has been collected by then, perhaps.
        if let Err(error) = ended(&process).await {
            note(format_args!("watch the log writer: {error}"));
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let mut log = shim.log.lock().await;
        if log.drained() == Drained::Yes {
            return;
        }
        // An order that found it dead may have replaced it already.
        if log.process().pid == process.pid {
            note(format_args!(
                "log writer {} has died, starting another",
                process.pid.as_raw_nonzero()
            ));
            if let Err(error) = log.replace() {
                note(format_args!("replace the log writer: {}", chain(&error)));
                return;
            }
        }
    }
}

/// Waits for a process's end, which its pidfd shows by becoming readable.
async fn ended(process: &Spawned) -> std::io::Result<()> {
    let watched = watch::readable(process.pidfd.try_clone()?)?;
    let _readable = watched.readable().await?;
    Ok(())
}
