//! OCI seccomp profiles: compiled to the kernel's classic BPF once a profile, kept on disk, and handed to the child
//! that installs them. Neither libseccomp (a C library older than the newer calls) nor a crate with one action a
//! filter would do.

mod assemble;
mod cache;
pub(crate) mod profile;
mod syscalls;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use profile::ProfileError;

use crate::sys::seccomp::Instruction;

/// A compiled filter.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Program,
    flags: u32,
}

/// Where the instructions are.
#[derive(Debug)]
enum Program {
    /// In memory.
    Held(Vec<Instruction>),
    /// In a file of the cache, at this offset: a resident shim keeps a descriptor, not 10 kB.
    Stored { file: OwnedFd, offset: u64, count: usize },
}

impl Filter {
    /// The filter of a profile, from the cache directory if it is there, else compiled and put there.
    ///
    /// A cache that cannot be read or written costs time only: the filter is then compiled and held.
    ///
    /// # Errors
    /// Names what of the profile is malformed or not supported.
    pub(crate) fn for_profile(json: &str, directory: Option<&Path>) -> Result<Self, ProfileError> {
        if let Some(found) = directory.and_then(|directory| cache::find(directory, json).ok().flatten()) {
            return Ok(found);
        }
        let profile = profile::parse(json)?;
        let (program, flags) = (assemble::compile(&profile)?, profile.flags);
        let stored = directory.and_then(|directory| cache::store(directory, json, &program, flags).ok());
        Ok(stored.unwrap_or(Self {
            program: Program::Held(program),
            flags,
        }))
    }

    /// The instructions.
    ///
    /// # Errors
    /// What read(2) says; `EIO` for a file that has become shorter.
    pub(crate) fn load(&self) -> Result<Vec<Instruction>, Errno> {
        match &self.program {
            Program::Held(program) => Ok(program.clone()),
            Program::Stored { file, offset, count } => cache::load(file, *offset, *count),
        }
    }

    /// Flags for seccomp(2).
    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }

    /// The descriptor that [`Filter::load`] needs, if any.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.program {
            Program::Held(_) => None,
            Program::Stored { file, .. } => Some(file.as_fd()),
        }
    }
}

#[cfg(test)]
mod tests;
