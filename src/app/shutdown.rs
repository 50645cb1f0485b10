//! The beginning and the end of serving, as the service manager sees them (sd_notify(3), signals).

use std::future::Future;
use std::io;
use std::path::Path;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal as listen_for};

/// A future that ends with the first SIGTERM or SIGINT; the signals are caught from now on.
///
/// # Errors
/// Handlers cannot be installed.
pub fn signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        notify(&[NotifyState::Stopping]);
    })
}

/// Tells the service manager, if there is one, that clients may come.
pub fn tell_ready(socket: &Path) {
    notify(&[NotifyState::Ready]);
    tracing::info!(socket = %socket.display(), version = env!("CARGO_PKG_VERSION"), "serving the CRI");
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be notified");
    }
}
