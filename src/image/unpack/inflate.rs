//! Compressed bytes to tar bytes on a thread of its own, in buffers that go round.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel as unbounded, sync_channel};

use flate2::bufread::GzDecoder;

use super::super::manifest::Compression;
use super::super::verify::Measured;
use super::{Order, UnpackError};

/// Bytes per buffer: few wake-ups, and still in the CPU's cache when it is hashed and written.
const BUFFER: usize = 256 * 1024;
/// Buffers per layer; what a layer in flight costs is their product.
const BUFFERS: usize = 4;
/// Largest zstd window, as a power of two: 128 MiB (yardstick L16).
const MAX_WINDOW_LOG: u32 = 27;

/// The inflater's end: full buffers out, empty ones back.
#[derive(Debug)]
pub(super) struct Feed {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct Inflated {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

/// Both ends, with all the buffers there will ever be.
pub(super) fn channel() -> (Feed, Inflated) {
    let (full, full_out) = sync_channel(BUFFERS);
    let (empty, empty_out) = unbounded();
    for _ in 0..BUFFERS {
        // The receiver is right here: this can't fail.
        drop(empty.send(Vec::with_capacity(BUFFER)));
    }
    let inflated = Inflated {
        full: full_out,
        empty,
        current: Vec::new(),
        at: 0,
    };
    (Feed { full, empty: empty_out }, inflated)
}

impl BufRead for Inflated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            // A feed that is gone is the end; whether it was a good one its own verdict tells.
            let Ok(next) = self.full.recv() else { break };
            let spent = std::mem::replace(&mut self.current, next);
            self.at = 0;
            if spent.capacity() > 0 {
                // The inflater may have finished and want no more buffers.
                drop(self.empty.send(spent));
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Inflated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(into.len());
        into[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

/// Inflates `source` into `feed`, then judges whether its bytes were those of `order`.
///
/// # Errors
/// They were not, or can't be inflated.
pub(super) fn run<R: BufRead>(source: R, order: &Order, feed: Feed, abandoned: &AtomicBool) -> Result<(), UnpackError> {
    let mut source = Measured::new(source, order.size);
    let inflated = inflate(&mut source, order.compression, &feed);
    // The reader must not wait for more while the rest is only hashed.
    drop(feed);
    if abandoned.load(Ordering::Relaxed) {
        return Ok(());
    }
    let drained = source.drain();
    let size = |found| UnpackError::Size {
        expected: order.size,
        found,
    };
    if source.overran() {
        return Err(size("more".to_owned()));
    }
    drained.map_err(|source| UnpackError::Read { source })?;
    if source.seen() != order.size {
        return Err(size(source.seen().to_string()));
    }
    let found = source.digest();
    if found != order.digest {
        return Err(UnpackError::Digest { found });
    }
    inflated
}

fn inflate<R: BufRead>(source: &mut Measured<R>, compression: Compression, feed: &Feed) -> Result<(), UnpackError> {
    let (said, found) = (name(compression), sniff(source)?);
    if found != compression {
        return Err(UnpackError::Mislabelled {
            said,
            found: name(found),
        });
    }
    let failed = |source| UnpackError::Inflate { format: said, source };
    match compression {
        Compression::None => pump(source, feed),
        Compression::Gzip => pump(&mut Members::new(source), feed),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(failed)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(failed)?;
            pump(&mut decoder, feed)
        }
    }
    .map_err(failed)
}

/// How the bytes are really packed, by their first four.
fn sniff<R: BufRead>(source: &mut Measured<R>) -> Result<Compression, UnpackError> {
    let start = source.fill_buf().map_err(|source| UnpackError::Read { source })?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or a skippable frame before the first one.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    })
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "plain tar",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn pump(source: &mut impl Read, feed: &Feed) -> io::Result<()> {
    // Without a buffer, or anybody to take it, the reader has given up: nothing more to do here.
    while let Ok(mut buffer) = feed.empty.recv() {
        buffer.resize(BUFFER, 0);
        let mut filled = 0;
        while filled < BUFFER {
            match source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        if feed.full.send(buffer).is_err() || filled < BUFFER {
            break;
        }
    }
    Ok(())
}

/// All members of a gzip stream; whatever follows the last one is no part of it (yardstick L15).
struct Members<R: BufRead> {
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(source: R) -> Self {
        Self {
            decoder: Some(GzDecoder::new(source)),
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(mut decoder) = self.decoder.take() {
            let amount = decoder.read(into)?;
            if amount > 0 {
                self.decoder = Some(decoder);
                return Ok(amount);
            }
            let mut source = decoder.into_inner();
            if source.fill_buf()?.first() == Some(&0x1f) {
                self.decoder = Some(GzDecoder::new(source));
            }
        }
        Ok(0)
    }
}
