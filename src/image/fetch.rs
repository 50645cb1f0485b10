//! A layer's bytes from whichever host gives them, into the channel that its unpacking reads.
//!
//! This is the seam for the spool of resumable pulls: it knows how many bytes were handed on, and goes on from there
//! after a broken connection, at the same host or another. Whether they were the right ones the reader decides.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::domain::image::LayerDescriptor;

use super::registry::Session;
use super::registry::error::RegistryError;

/// Pieces of a body on their way, at most; each is what one read of a socket gave, a few KiB to 64.
pub(super) const CHANNEL: usize = 32;
/// Connections in a row without a new byte until a host is given up.
const FRUITLESS: u32 = 3;
/// Pause before the second connection; doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// Sends the layer's bytes until it is complete, more than complete, or nobody reads any more. Which of `sessions` gave
/// the last of them.
///
/// # Errors
/// What the last host said, when none of them gives the layer whole.
pub(super) async fn send(
    sessions: &[Arc<Session>],
    layer: &LayerDescriptor,
    to: Sender<Bytes>,
) -> Result<usize, Option<RegistryError>> {
    let mut transfer = Transfer { layer, to, sent: 0 };
    let mut last = None;
    for (at, session) in sessions.iter().enumerate().filter(|(_, session)| session.pulls()) {
        match transfer.from(session).await {
            Ok(()) => return Ok(at),
            Err(error) => last = Some(error),
        }
    }
    Err(last)
}

struct Transfer<'a> {
    layer: &'a LayerDescriptor,
    to: Sender<Bytes>,
    sent: u64,
}

impl Transfer<'_> {
    /// Everything that is still missing, from one host.
    async fn from(&mut self, session: &Session) -> Result<(), RegistryError> {
        let mut fruitless = 0;
        loop {
            let before = self.sent;
            let error = match self.connection(session).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let may_pass = matches!(
                error,
                RegistryError::Broken { .. } | RegistryError::Stalled { .. } | RegistryError::Unreachable { .. }
            );
            fruitless = if self.sent > before { 1 } else { fruitless + 1 };
            // The very first connection tells whether the host is there at all.
            if !may_pass
                || fruitless >= FRUITLESS
                || (self.sent == 0 && matches!(error, RegistryError::Unreachable { .. }))
            {
                return Err(error);
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(fruitless - 1)).await;
        }
    }

    async fn connection(&mut self, session: &Session) -> Result<(), RegistryError> {
        let mut blob = session.blob(&self.layer.digest, self.sent).await?;
        let mut at = blob.starts_at;
        while let Some(mut piece) = blob.chunk().await? {
            // A server without ranges starts again; what was handed on already is left out.
            let known = usize::try_from(self.sent.saturating_sub(at))
                .unwrap_or(usize::MAX)
                .min(piece.len());
            at += piece.len() as u64;
            piece.advance(known);
            if piece.is_empty() {
                continue;
            }
            self.sent += piece.len() as u64;
            let too_much = self.sent > self.layer.size;
            if self.to.send(piece).await.is_err() || too_much {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The reading end, for a thread that may block.
#[derive(Debug)]
pub(super) struct Pieces {
    from: Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    pub(super) fn new(from: Receiver<Bytes>) -> Self {
        Self {
            from,
            current: Bytes::new(),
        }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.current = piece,
                // The end, or a pull that was given up: the count of bytes tells which.
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount);
    }
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(into.len());
        into[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}
