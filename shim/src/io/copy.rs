//! The log writer: a process that copies a container's output into its log and does nothing else.
//!
//! It is forked at the shim's birth, has no runtime and may block on a disk for as long as the disk likes: the shim
//! goes on serving. It outlives the shim's death and writes until the streams end. While it cannot write it does not
//! read either, so that the container is held up rather than its output lost; only after [`HOLD_UP`] does it let the
//! container go on, and then the log says how much is missing.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use copepod_proto::bundle::LogTarget;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};

use crate::io::link::{Answer, Order, receive_order, send_answer};
use crate::io::log::{Batch, Framer, Stamp, Stream};
use crate::io::logfile::open_log;
use crate::io::note::chain;

/// How long a failing log (full disk, I/O error) holds the container up before its output is given up.
const HOLD_UP: Duration = Duration::from_secs(30);
/// Pause between attempts to write to a failing log.
const RETRY: Duration = Duration::from_millis(250);
/// After the container's end, a stream that somebody else still holds open is given up when idle for so long.
const IDLE_AFTER_END: Duration = Duration::from_millis(200);
/// After the container's end, streams are given up after so long even if somebody goes on writing.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// Buffers are given back after so long without output.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// Size of the input and output buffers: two pipes' worth, and large enough that malloc maps each by itself.
const BUFFER_BYTES: usize = 132 * 1024;

/// What the writer is born with.
#[derive(Debug)]
pub(crate) struct Birthright {
    /// Our end of the link to the shim.
    pub(crate) link: OwnedFd,
    /// Read ends of the container's pipes; none for a container with a terminal.
    pub(crate) pipes: Option<(OwnedFd, OwnedFd)>,
    /// Where the log goes; `None` reads and discards.
    pub(crate) target: Option<LogTarget>,
}

/// Runs the writer until the streams have ended and the shim has been told, or is gone. Returns its exit status.
pub(crate) fn run(birthright: Birthright) -> i32 {
    let Birthright { link, pipes, target } = birthright;
    let max_line = target
        .as_ref()
        .map_or(1, |log| usize::try_from(log.max_line_bytes).unwrap_or(usize::MAX));
    let orders = Orders {
        link: Some(link),
        drain: None,
        terminal: None,
    };
    let mut sink = Sink::new(target);
    let opened = sink.reopen();
    orders.answer(0, opened);
    let mut sources = Vec::with_capacity(2);
    if let Some((stdout, stderr)) = pipes {
        sources.push(Source {
            fd: stdout,
            framer: Framer::new(Stream::Stdout, max_line),
        });
        sources.push(Source {
            fd: stderr,
            framer: Framer::new(Stream::Stderr, max_line),
        });
    }
    let mut writer = Writer {
        orders,
        sink,
        sources,
        input: Vec::new(),
        max_line,
    };
    writer.copy();
    0
}

struct Source {
    fd: OwnedFd,
    framer: Framer,
}

struct Writer {
    orders: Orders,
    sink: Sink,
    sources: Vec<Source>,
    input: Vec<u8>,
    max_line: usize,
}

impl Writer {
    fn copy(&mut self) {
        loop {
            if let Some(terminal) = self.orders.terminal.take() {
                self.sources.push(Source {
                    fd: terminal,
                    framer: Framer::new(Stream::Stdout, self.max_line),
                });
            }
            if self.sources.is_empty() && (self.orders.drain.is_some() || self.orders.link.is_none()) {
                break;
            }
            match self.wait() {
                Woken::By { link, sources } => {
                    if let Some(reopen) = if link { self.orders.take() } else { None } {
                        self.sink.reopen_and_answer(reopen, &self.orders);
                    }
                    self.pump(sources);
                }
                Woken::Idle if self.orders.drain.is_some() => self.end_all(),
                Woken::Idle => self.shrink(),
            }
            if self
                .orders
                .drain
                .as_ref()
                .is_some_and(|drain| drain.since.elapsed() > DRAIN_LIMIT)
            {
                self.end_all();
            }
        }
        if let Some(drain) = self.orders.drain.take() {
            self.orders.answer(drain.number, Ok(()));
        }
    }

    /// Waits for an order or output. Polling, not blocking in read, so that an order is seen between outputs.
    fn wait(&self) -> Woken {
        let mut fds: Vec<PollFd<'_>> = self
            .sources
            .iter()
            .map(|from| PollFd::new(&from.fd, PollFlags::IN))
            .collect();
        if let Some(link) = &self.orders.link {
            fds.push(PollFd::new(link, PollFlags::IN));
        }
        let timeout = if self.orders.drain.is_some() {
            Some(IDLE_AFTER_END)
        } else {
            (self.input.capacity() > 0).then_some(SHRINK_AFTER)
        };
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Woken::Idle,
            Ok(_) => {
                let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
                let sources = self.sources.len();
                Woken::By {
                    link: self.orders.link.is_some() && ready(sources),
                    sources: [ready(0), ready(1)],
                }
            }
            Err(_interrupted) => Woken::By {
                link: false,
                sources: [false, false],
            },
        }
    }

    /// Reads once from each ready source and writes the records out.
    fn pump(&mut self, ready: [bool; 2]) {
        let Self {
            orders,
            sink,
            sources,
            input,
            ..
        } = self;
        let mut ended = [false; 2];
        for (at, source) in sources
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| ready.get(*at) == Some(&true))
        {
            input.clear();
            if input.capacity() == 0 {
                input.reserve_exact(BUFFER_BYTES);
            }
            match read(&source.fd, spare_capacity(input)) {
                // A terminal whose last holder is gone says EIO, not end of file.
                Ok(0) | Err(Errno::IO) => {
                    sink.finish(&mut source.framer, orders);
                    ended[at] = true;
                }
                Ok(_) => sink.take(&mut source.framer, input, orders),
                Err(_again) => {}
            }
        }
        sink.flush(orders);
        let mut at = 0;
        sources.retain(|_| {
            at += 1;
            !ended[at - 1]
        });
    }

    /// Gives the streams up: what they left without a newline is written.
    fn end_all(&mut self) {
        for mut source in std::mem::take(&mut self.sources) {
            self.sink.finish(&mut source.framer, &mut self.orders);
        }
        self.sink.flush(&mut self.orders);
    }

    fn shrink(&mut self) {
        self.input = Vec::new();
        self.sink.batch.shrink();
        for source in &mut self.sources {
            source.framer.shrink();
        }
    }
}

enum Woken {
    By { link: bool, sources: [bool; 2] },
    Idle,
}

/// The shim's side of the link, and the orders that are being carried out.
struct Orders {
    /// `None` once the shim is gone.
    link: Option<OwnedFd>,
    drain: Option<Drain>,
    terminal: Option<OwnedFd>,
}

struct Drain {
    number: u32,
    since: Instant,
}

/// A reopening that waits to be carried out, by its order's number.
struct Reopen(u32);

impl Orders {
    /// Takes one order. Returns whether it is to open the log again, which is for the sink to do.
    fn take(&mut self) -> Option<Reopen> {
        let link = self.link.as_ref()?;
        match receive_order(link) {
            Ok(Some((number, Order::Reopen))) => return Some(Reopen(number)),
            Ok(Some((number, Order::Drain))) => {
                self.drain = Some(Drain {
                    number,
                    since: Instant::now(),
                })
            }
            Ok(Some((number, Order::Terminal(master)))) => {
                self.terminal = Some(master);
                self.answer(number, Ok(()));
            }
            Err(Errno::INTR) => {}
            // The shim is dead, or talks nonsense: go on without it.
            Ok(None) | Err(_) => self.link = None,
        }
        None
    }

    fn answer(&self, number: u32, outcome: Result<(), String>) {
        if let Some(link) = &self.link {
            // A shim that is gone is noticed at the next order.
            let _sent = send_answer(
                link,
                &Answer {
                    number,
                    error: outcome.err(),
                },
            );
        }
    }

    /// Waits for an order for at most [`RETRY`].
    fn wait(&mut self) -> Option<Reopen> {
        let Some(link) = &self.link else {
            // An empty poll is a sleep.
            let _slept = poll(&mut [], Timespec::try_from(RETRY).ok().as_ref());
            return None;
        };
        let timeout = Timespec::try_from(RETRY).ok();
        match poll(&mut [PollFd::new(link, PollFlags::IN)], timeout.as_ref()) {
            Ok(1) => self.take(),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Where records go.
struct Sink {
    target: Option<LogTarget>,
    file: Option<OwnedFd>,
    batch: Batch,
    /// Bytes of the batch that are in the file.
    written: usize,
    /// Since when writing has failed.
    failing: Option<(Instant, Errno)>,
    /// Bytes of records that were given up since the log last worked.
    lost: u64,
    /// The file ends within a record.
    torn: bool,
}

impl Sink {
    fn new(target: Option<LogTarget>) -> Self {
        let batch = Batch::new(BUFFER_BYTES);
        Self {
            target,
            file: None,
            batch,
            written: 0,
            failing: None,
            lost: 0,
            torn: false,
        }
    }

    /// Opens the log at its path. The old file stays in use when that fails.
    fn reopen(&mut self) -> Result<(), String> {
        let Some(target) = &self.target else { return Ok(()) };
        self.file = Some(open_log(target).map_err(|error| chain(&error))?);
        // A record begun in the old file is written whole to the new one.
        let begun = &self.batch.bytes()[..self.written];
        self.written = begun
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        self.torn = false;
        Ok(())
    }

    fn reopen_and_answer(&mut self, Reopen(number): Reopen, orders: &Orders) {
        let outcome = self.reopen();
        orders.answer(number, outcome);
    }

    /// Frames `data` and writes out full batches; the last one stays for [`Self::flush`].
    fn take(&mut self, framer: &mut Framer, data: &[u8], orders: &mut Orders) {
        if self.target.is_none() {
            return;
        }
        let stamp = Stamp::new(SystemTime::now());
        let mut rest = framer.push(data, &stamp, &mut self.batch);
        while !rest.is_empty() {
            self.flush(orders);
            rest = framer.push(rest, &stamp, &mut self.batch);
        }
    }

    fn finish(&mut self, framer: &mut Framer, orders: &mut Orders) {
        let stamp = Stamp::new(SystemTime::now());
        while !framer.finish(&stamp, &mut self.batch) {
            self.flush(orders);
        }
    }

    /// Writes the batch, holding everything up while the log fails; at most [`HOLD_UP`], then the batch is given up.
    fn flush(&mut self, orders: &mut Orders) {
        while self.written < self.batch.bytes().len() {
            match self.write_some() {
                Ok(()) => self.failing = None,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let (since, _) = *self.failing.get_or_insert((Instant::now(), errno));
                    if since.elapsed() >= HOLD_UP {
                        return self.give_up();
                    }
                    if let Some(reopen) = orders.wait() {
                        self.reopen_and_answer(reopen, orders);
                    }
                }
            }
        }
        self.batch.clear();
        self.written = 0;
    }

    fn write_some(&mut self) -> Result<(), Errno> {
        let file = self.file.as_ref().ok_or(Errno::NOENT)?;
        if self.lost > 0 {
            write_gap(file, self.lost, &mut self.torn, self.failing)?;
            self.lost = 0;
        }
        let bytes = self.batch.bytes();
        self.written += write(file, &bytes[self.written..])?;
        self.torn = self.written > 0 && bytes.get(self.written - 1) != Some(&b'\n');
        Ok(())
    }

    fn give_up(&mut self) {
        self.lost += u64::try_from(self.batch.bytes().len() - self.written).unwrap_or(u64::MAX);
        self.batch.clear();
        self.written = 0;
    }
}

/// Tells the log's reader how much is missing and why.
fn write_gap(file: &OwnedFd, lost: u64, torn: &mut bool, why: Option<(Instant, Errno)>) -> Result<(), Errno> {
    let mut gap = Batch::new(0);
    let why = why.map_or_else(String::new, |(_, errno)| format!(": {}", std::io::Error::from(errno)));
    let text = format!("copepod: {lost} bytes of this log are missing here, it could not be written{why}");
    gap.push_line(&Stamp::new(SystemTime::now()), Stream::Stderr, text.as_bytes());
    let mut record = if *torn { b"\n".to_vec() } else { Vec::new() };
    record.extend_from_slice(gap.bytes());
    let written = write(file, &record)?;
    // Torn again: the next attempt says it all once more, after a newline.
    *torn = written < record.len();
    if *torn { Err(Errno::NOSPC) } else { Ok(()) }
}
