//! The second socket: hands an exec's streams to the client that comes for them.
//!
//! The client connects, sends the exec id as one message and gets one message back: `ok` with the descriptors
//! `[stdin?, stdout, stderr]` (a terminal: its master end alone), or `error: ` and the reason.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::io::link::{receive_with_fds, send_with_fds};
use crate::io::note::note;
use crate::ops::Shim;
use crate::sys::watch;

/// How long a client may take to say what it came for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no descriptor left), so that it is not tried in a tight loop.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest request, in bytes.
const REQUEST_BYTES: usize = 256;

/// Serves `listener`, which must not block, for ever.
///
/// # Errors
/// The listener cannot be watched.
pub(crate) async fn serve(shim: Arc<Shim>, listener: OwnedFd) -> std::io::Result<()> {
    let listener = watch::readable(listener)?;
    loop {
        let accept = |socket: &OwnedFd| Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?);
        match listener.async_io(Interest::READABLE, accept).await {
            Ok(client) => {
                tokio::spawn(attend(Arc::clone(&shim), client));
            }
            Err(error) => {
                note(format_args!("accept a client of the second socket: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn attend(shim: Arc<Shim>, client: OwnedFd) {
    // The socket's mode keeps others out; this keeps out a descriptor that was passed on.
    if !socket_peercred(&client).is_ok_and(|peer| peer.uid.is_root()) {
        return;
    }
    if let Ok(Err(error)) = timeout(PATIENCE, answer(&shim, client)).await {
        note(format_args!("hand streams over: {error}"));
    }
}

async fn answer(shim: &Shim, client: OwnedFd) -> std::io::Result<()> {
    let client = watch::readable(client)?;
    let mut request = [0_u8; REQUEST_BYTES];
    let (length, _unasked) = client
        .async_io(Interest::READABLE, |socket| Ok(receive_with_fds(socket, &mut request)?))
        .await?;
    let streams = std::str::from_utf8(&request[..length])
        .map_err(|_| "an exec id is UTF-8".to_owned())
        .and_then(|id| shim.execs.take_streams(id).map_err(|error| error.to_string()));
    let sent = match streams {
        Ok(streams) => {
            let passed: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
            send_with_fds(client.get_ref(), b"ok", &passed)
        }
        Err(reason) => send_with_fds(client.get_ref(), format!("error: {reason}").as_bytes(), &[]),
    };
    match sent {
        // The client has gone away; its exec is killed by whoever sees that.
        Ok(()) | Err(Errno::PIPE) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
