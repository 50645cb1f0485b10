//! Accepts ttrpc clients, root only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};

use crate::io::note::note;

/// Pause after a failed accept (no descriptor left), so that it is not tried in a tight loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections whose peer is root. The socket's mode keeps others out already; this keeps out a descriptor that was
/// passed on.
#[derive(Debug)]
pub(crate) struct RootOnly {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl RootOnly {
    /// Accepts from `listener`.
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, pause: None }
    }
}

impl Stream for RootOnly {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match std::task::ready!(this.listener.poll_accept(cx)) {
                Ok((client, _address)) => {
                    if client.peer_cred().is_ok_and(|peer| peer.uid() == 0) {
                        return Poll::Ready(Some(Ok(client)));
                    }
                }
                Err(error) => {
                    note(format_args!("accept a ttrpc client: {error}"));
                    this.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}
