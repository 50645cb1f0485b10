//! Compiled filters on disk, one file a profile, shared by all shims of one daemon.
//!
//! The name is a hash and decides nothing: a file counts only if it holds the very profile that is asked for. A file
//! appears whole, by rename, so two shims that store the same profile at once do no harm.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Filter, Program};
use crate::sys::seccomp::Instruction;

/// To be raised whenever the compiler changes what it makes of a profile.
const VERSION: u32 = 1;
const MAGIC: [u8; 4] = *b"CPSF";
/// Magic, version, flags, number of instructions, length of the profile.
const HEADER: usize = 20;
const INSTRUCTION: usize = 8;

/// The filter of `json`, if it is there.
///
/// # Errors
/// What open(2) and read(2) say.
pub(super) fn find(directory: &Path, json: &str) -> Result<Option<Filter>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(directory.join(name(json)), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let head = read_at(&file, 0, HEADER + json.len())?;
    let Some((header, stored)) = head.split_at_checked(HEADER) else {
        return Ok(None);
    };
    let word = |index: usize| {
        header
            .get(index * 4..index * 4 + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
    };
    let number = |index| word(index).map(u32::from_le_bytes);
    let (Some(flags), Some(count)) = (number(2), number(3)) else {
        return Ok(None);
    };
    let same = word(0) == Some(MAGIC) && number(1) == Some(VERSION) && number(4) == u32::try_from(json.len()).ok();
    if !same || stored != json.as_bytes() {
        return Ok(None);
    }
    let (Ok(offset), Ok(count)) = (u64::try_from(HEADER + json.len()), usize::try_from(count)) else {
        return Ok(None);
    };
    let whole = u64::try_from(count * INSTRUCTION).ok().map(|size| size + offset);
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).ok();
    Ok((size == whole).then_some(Filter {
        program: Program::Stored { file, offset, count },
        flags,
    }))
}

/// Keeps a filter and answers the kept one.
///
/// # Errors
/// What open(2), write(2) and rename(2) say; nothing stays behind then.
pub(super) fn store(directory: &Path, json: &str, program: &[Instruction], flags: u32) -> Result<Filter, Errno> {
    let number = |value: usize| u32::try_from(value).map_err(|_| Errno::FBIG);
    let mut content = MAGIC.to_vec();
    for word in [VERSION, flags, number(program.len())?, number(json.len())?] {
        content.extend(word.to_le_bytes());
    }
    content.extend(json.as_bytes());
    for instruction in program {
        content.extend(instruction.code.to_ne_bytes());
        content.extend([instruction.jt, instruction.jf]);
        content.extend(instruction.k.to_ne_bytes());
    }
    let name = name(json);
    let temporary = directory.join(format!("{name}.{}", rustix::process::getpid().as_raw_nonzero()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temporary, flags, Mode::from_raw_mode(0o600))?;
    let written = write_all(&file, &content).and_then(|()| rustix::fs::rename(&temporary, directory.join(&name)));
    if let Err(errno) = written {
        // The first reason counts; the temporary file carries our pid and is overwritten by the next try.
        return rustix::fs::unlinkat(CWD, &temporary, rustix::fs::AtFlags::empty()).and(Err(errno));
    }
    find(directory, json)?.ok_or(Errno::NOENT)
}

/// The instructions of a stored filter.
///
/// # Errors
/// What read(2) says; `EIO` for a file that has become shorter.
pub(super) fn load(file: &OwnedFd, offset: u64, count: usize) -> Result<Vec<Instruction>, Errno> {
    let content = read_at(file, offset, count * INSTRUCTION)?;
    if content.len() != count * INSTRUCTION {
        return Err(Errno::IO);
    }
    let (chunks, _) = content.as_chunks::<INSTRUCTION>();
    let instruction = |&[a, b, jt, jf, c, d, e, f]: &[u8; INSTRUCTION]| Instruction {
        code: u16::from_ne_bytes([a, b]),
        jt,
        jf,
        k: u32::from_ne_bytes([c, d, e, f]),
    };
    Ok(chunks.iter().map(instruction).collect())
}

fn write_all(file: impl AsFd, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        let written = rustix::io::write(&file, content)?;
        content = content.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn read_at(file: impl AsFd, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let mut content = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + u64::try_from(filled).map_err(|_| Errno::FBIG)?;
        match rustix::io::pread(&file, rest, at)? {
            0 => break,
            read => filled += read,
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// FNV-1a, 64 bits: spreads files, proves nothing.
fn name(json: &str) -> String {
    let hash = json.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{hash:016x}", std::env::consts::ARCH)
}
