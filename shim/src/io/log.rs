//! The CRI log format: bytes of a stream in, log records out. Pure: no clock, no file.
//!
//! A record is `<RFC 3339 time> <stdout|stderr> <F|P> <content>\n` (CRI contract §7). Readers drop the newline of a `P`
//! record and concatenate, so that the contents of all records, with a newline after each `F`, are the input byte for
//! byte: nothing is added, dropped or translated here, not even a carriage return.

use std::time::{SystemTime, UNIX_EPOCH};

/// Which of a container's streams a record belongs to. A terminal's output is all `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b" stdout ",
            Self::Stderr => b" stderr ",
        }
    }
}

/// A record's first tag: whether its content ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `F`: the line ends here.
    Full,
    /// `P`: the line goes on in the next record of the stream, or ended without a newline.
    Partial,
}

/// Length of [`Stamp`]: `2006-01-02T15:04:05.123456789Z`.
const STAMP_BYTES: usize = 30;
/// A record's bytes besides its content: time, ` stdout `, tag, space, newline.
pub(crate) const OVERHEAD: usize = STAMP_BYTES + 8 + 1 + 1 + 1;

/// A point in time as a log record writes it: UTC, nanoseconds, as Go's `RFC3339Nano` parses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([u8; STAMP_BYTES]);

impl Stamp {
    /// Writes `at` out. Times before 1970 or after 9999 are shown as 1970: the format has no room for them.
    pub(crate) fn new(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = if days < 2_932_897 { civil(days) } else { (1970, 1, 1) };
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        decimal(&mut text[0..4], year);
        decimal(&mut text[5..7], month);
        decimal(&mut text[8..10], day);
        decimal(&mut text[11..13], second / 3600);
        decimal(&mut text[14..16], second / 60 % 60);
        decimal(&mut text[17..19], second % 60);
        decimal(&mut text[20..29], u64::from(since.subsec_nanos()));
        Self(text)
    }
}

/// Fills `field` with the low decimal digits of `value`.
fn decimal(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(value % 10).unwrap_or_default()];
        value /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Counts in years that begin in March, so that the leap day is the last one of a 400-year cycle of 146,097 days.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468; // from 0000-03-01
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

/// Whole records, ready for one write.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    limit: usize,
}

impl Batch {
    /// A batch that takes records until it holds about `limit` bytes; an empty one takes any record.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// The records so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the records. Memory is kept until [`Self::shrink`].
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Gives memory back; for an idle writer.
    pub(crate) fn shrink(&mut self) {
        self.bytes = Vec::new();
    }

    /// Adds a record whose content is `head` and then `tail`, or says that there is no room for it.
    fn push(&mut self, stamp: &Stamp, kind: (Stream, Tag), (head, tail): (&[u8], &[u8])) -> Room {
        let need = OVERHEAD + head.len() + tail.len();
        if !self.bytes.is_empty() && self.bytes.len() + need > self.limit {
            return Room::None;
        }
        if self.bytes.capacity() == 0 {
            // One allocation, large enough that malloc maps it by itself and gives it back when it is dropped.
            self.bytes.reserve_exact(self.limit.max(need));
        }
        self.bytes.extend_from_slice(&stamp.0);
        self.bytes.extend_from_slice(kind.0.name());
        self.bytes.extend_from_slice(match kind.1 {
            Tag::Full => b"F ",
            Tag::Partial => b"P ",
        });
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
        self.bytes.push(b'\n');
        Room::Taken
    }

    /// Adds a full record with `content`, however full the batch is.
    pub(crate) fn push_line(&mut self, stamp: &Stamp, stream: Stream, content: &[u8]) {
        if self.push(stamp, (stream, Tag::Full), (content, b"")) == Room::None {
            let limit = std::mem::replace(&mut self.limit, usize::MAX);
            let _taken = self.push(stamp, (stream, Tag::Full), (content, b""));
            self.limit = limit;
        }
    }
}

/// Whether a batch took a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Taken,
    None,
}

/// Cuts one stream into records, joining what arrives in pieces until its newline comes.
#[derive(Debug)]
pub(crate) struct Framer {
    stream: Stream,
    pending: Vec<u8>,
    max_line: usize,
}

impl Framer {
    /// A framer whose records hold at most `max_line` bytes of content (at least 1).
    pub(crate) fn new(stream: Stream, max_line: usize) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            max_line: max_line.max(1),
        }
    }

    /// Turns `data`, which arrived at `stamp`, into records in `batch`. Returns what found no room: the caller
    /// writes the batch out and calls again with it.
    pub(crate) fn push<'data>(&mut self, mut data: &'data [u8], stamp: &Stamp, batch: &mut Batch) -> &'data [u8] {
        while !data.is_empty() {
            let room = self.max_line - self.pending.len();
            let window = &data[..data.len().min(room + 1)];
            if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
                if batch.push(stamp, (self.stream, Tag::Full), (&self.pending, &data[..end])) == Room::None {
                    return data;
                }
                self.pending.clear();
                data = &data[end + 1..];
            } else if data.len() > room {
                // More than a record's worth without a newline, and at least one byte that follows it: so this is not
                // the line's last record.
                if batch.push(stamp, (self.stream, Tag::Partial), (&self.pending, &data[..room])) == Room::None {
                    return data;
                }
                self.pending.clear();
                data = &data[room..];
            } else {
                self.pending.extend_from_slice(data);
                data = &[];
            }
        }
        data
    }

    /// The stream has ended: what has no newline becomes a `P` record. Returns `false` when the batch had no room.
    pub(crate) fn finish(&mut self, stamp: &Stamp, batch: &mut Batch) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        if batch.push(stamp, (self.stream, Tag::Partial), (&self.pending, b"")) == Room::None {
            return false;
        }
        self.pending = Vec::new();
        true
    }

    /// Gives memory back when nothing is pending; for an idle writer.
    pub(crate) fn shrink(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
