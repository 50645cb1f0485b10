//! The entries of a tar archive (ustar, GNU and pax), one after the other.
//!
//! Strict where parsers are known to differ (sizes, names, numbers): such an archive could show one thing to a scanner
//! and another to us, so it is refused (CVE-2025-62518, CVE-2026-33055 and their like).

use std::io::BufRead;

use tar::Header;

use super::pax::{self, Extended};
use super::{UnpackError, number};

const BLOCK: usize = 512;
/// Most bytes of an extended header, long name or long link (yardstick L10, L11).
const MAX_EXTENSION: u64 = 1024 * 1024;

/// One entry; its content follows in the stream.
#[derive(Debug)]
pub(super) struct Entry {
    /// As written; escape it before showing it.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since the epoch and nanoseconds.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with this many bytes.
    File(u64),
    /// Another name of an earlier file.
    HardLink(Vec<u8>),
    SymbolicLink(Vec<u8>),
    Directory,
    /// Major and minor number.
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    /// Something that can't be unpacked, by name.
    Other(&'static str),
}

/// The entries of `reader`.
#[derive(Debug)]
pub(super) struct Entries<'a, R> {
    reader: &'a mut R,
    /// Bytes of the current entry's content that were not read yet, and padding after them.
    content: u64,
    padding: u64,
}

fn malformed(reason: &'static str) -> UnpackError {
    UnpackError::Archive { reason }
}

fn broken(source: std::io::Error) -> UnpackError {
    UnpackError::Read { source }
}

impl<'a, R: BufRead> Entries<'a, R> {
    pub(super) fn new(reader: &'a mut R) -> Self {
        Self {
            reader,
            content: 0,
            padding: 0,
        }
    }

    /// The next entry, whatever was left of the last one's content skipped; `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        self.skip()?;
        let mut extended: Option<Extended> = None;
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                let complete = extended.is_none() && long_name.is_none() && long_link.is_none();
                return if complete {
                    Ok(None)
                } else {
                    Err(malformed("an extended header stands at its end"))
                };
            };
            match header.as_old().linkflag[0] {
                b'x' if extended.is_none() => extended = Some(pax::parse(&self.extension(&header)?)?),
                b'L' if long_name.is_none() => long_name = Some(self.long(&header)?),
                b'K' if long_link.is_none() => long_link = Some(self.long(&header)?),
                b'g' => pax::check_global(&self.extension(&header)?)?,
                b'x' | b'L' | b'K' => return Err(malformed("an entry has two extended headers of a kind")),
                _ => {
                    let mut extended = extended.unwrap_or_default();
                    let doubly = (extended.path.is_some() && long_name.is_some())
                        || (extended.link.is_some() && long_link.is_some());
                    if doubly {
                        return Err(malformed("an entry has a pax name and a GNU name"));
                    }
                    extended.path = extended.path.or(long_name);
                    extended.link = extended.link.or(long_link);
                    return self.entry(&header, extended).map(Some);
                }
            }
        }
    }

    /// The next piece of the current entry's content; empty at its end.
    pub(super) fn content(&mut self) -> Result<&[u8], UnpackError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let buffer = self.reader.fill_buf().map_err(broken)?;
        if buffer.is_empty() {
            return Err(malformed("it ends in the middle of a file"));
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX);
        Ok(&buffer[..buffer.len().min(most)])
    }

    /// Marks `amount` bytes of what [`Self::content`] gave as read.
    pub(super) fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
        self.content -= amount as u64;
    }

    fn skip(&mut self) -> Result<(), UnpackError> {
        self.content += std::mem::take(&mut self.padding);
        loop {
            let available = self.content()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }

    fn announce(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// One block, `None` if there is nothing at all.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]).map_err(broken)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed("it ends in the middle of a header")),
                more => filled += more,
            }
        }
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block == [0; BLOCK] {
            return match self.block()? {
                None => Ok(None),
                Some(block) if block == [0; BLOCK] => Ok(None),
                // Some parsers go on here, some stop.
                Some(_) => Err(malformed("a single block of zeros is followed by more")),
            };
        }
        check_sum(&block)?;
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, UnpackError> {
        let size =
            number::unsigned(&header.as_old().size).ok_or(malformed("an extended header has a malformed size"))?;
        if size > MAX_EXTENSION {
            return Err(malformed("an extended header is larger than 1 MiB"));
        }
        self.announce(size);
        let mut bytes = Vec::new();
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(piece);
            let amount = piece.len();
            self.consume(amount);
        }
        self.skip()?;
        Ok(bytes)
    }

    /// A GNU long name: up to its NUL.
    fn long(&mut self, header: &Header) -> Result<Vec<u8>, UnpackError> {
        let mut bytes = self.extension(header)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        if bytes[end..].iter().any(|b| *b != 0) {
            return Err(malformed("a long name has a NUL in it"));
        }
        bytes.truncate(end);
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, extended: Extended) -> Result<Entry, UnpackError> {
        let old = header.as_old();
        let name = extended.path.unwrap_or_else(|| header_name(header));
        let link = extended.link.unwrap_or_else(|| until_nul(&old.linkname));
        let size = size(&old.size, extended.size)?;
        let mode = number::unsigned(&old.mode).ok_or(malformed("an entry has a malformed mode"))?;
        let uid = pax::id(extended.uid, &old.uid).ok_or(malformed("an entry has a malformed or too large user id"))?;
        let gid = pax::id(extended.gid, &old.gid).ok_or(malformed("an entry has a malformed or too large group id"))?;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => (
                number::signed(&old.mtime).ok_or(malformed("an entry has a malformed time"))?,
                0,
            ),
        };
        let kind = if extended.is_sparse {
            Kind::Other("a sparse file")
        } else {
            kind(header, link, size, name.ends_with(b"/"))?
        };
        self.announce(size);
        Ok(Entry {
            name,
            kind,
            // Higher bits are the file type of some archivers (yardstick L7).
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid,
            gid,
            mtime,
            xattrs: extended.xattrs,
        })
    }
}

fn size(field: &[u8], extended: Option<u64>) -> Result<u64, UnpackError> {
    let field = number::unsigned(field).ok_or(malformed("an entry has a malformed size"))?;
    let size = match extended {
        // Archivers write 0 or nothing sensible there only if the size does not fit; else both must agree.
        Some(size) if size != field && field != 0 && size <= 0o77_777_777_777 => {
            return Err(malformed("an entry has two sizes"));
        }
        Some(size) => size,
        None => field,
    };
    // Room for padding, and what no file system has anyway.
    if size > i64::MAX as u64 - BLOCK as u64 {
        return Err(malformed("an entry has an impossible size"));
    }
    Ok(size)
}

fn kind(header: &Header, link: Vec<u8>, size: u64, ends_with_slash: bool) -> Result<Kind, UnpackError> {
    let kind = match header.as_old().linkflag[0] {
        // Before ustar a directory was a file with a slash at its end.
        0 if ends_with_slash => Kind::Directory,
        b'0' | b'7' if ends_with_slash => return Err(malformed("a file's name ends with a slash")),
        0 | b'0' | b'7' => return Ok(Kind::File(size)),
        b'1' => Kind::HardLink(link),
        b'2' => Kind::SymbolicLink(link),
        b'3' => device(header).map(|(major, minor)| Kind::Character(major, minor))?,
        b'4' => device(header).map(|(major, minor)| Kind::Block(major, minor))?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Ok(Kind::Other("a sparse file")),
        b'M' => return Ok(Kind::Other("a part of a multi-volume archive")),
        _ => return Ok(Kind::Other("of an unknown type")),
    };
    // Parsers differ on whether content follows here.
    if size == 0 {
        Ok(kind)
    } else {
        Err(malformed("an entry that is no file has a size"))
    }
}

fn device(header: &Header) -> Result<(u32, u32), UnpackError> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => return Err(malformed("a device is in a format without device numbers")),
    };
    let number = |field: &[u8]| number::unsigned(field).and_then(|number| u32::try_from(number).ok());
    // Linux has 12 bits of major and 20 of minor numbers.
    match (number(major), number(minor)) {
        (Some(major), Some(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
        _ => Err(malformed("a device has malformed numbers")),
    }
}

fn header_name(header: &Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    match header.as_ustar().map(|ustar| until_nul(&ustar.prefix)) {
        Some(prefix) if !prefix.is_empty() => [&prefix[..], b"/", &name].concat(),
        Some(_) | None => name,
    }
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    field[..end].to_vec()
}

/// The sum of all bytes with those of the sum itself as spaces; old archivers summed signed characters.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), UnpackError> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if FIELD.contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    match number::signed(&block[FIELD]) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(malformed("a header has a wrong checksum")),
    }
}
