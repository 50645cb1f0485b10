//! Bytes counted and hashed as they pass, so that nothing is believed that was not measured.

use std::io::{self, BufRead, Read};

use sha2::{Digest as _, Sha256};

use crate::domain::image::Digest;

/// The digest of `bytes`.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// A reader that counts and hashes what is consumed, and ends with an error beyond a limit.
#[derive(Debug)]
pub(super) struct Measured<R> {
    inner: R,
    hash: Sha256,
    seen: u64,
    limit: u64,
    overrun: bool,
}

impl<R: BufRead> Measured<R> {
    /// Measures `inner`, of which at most `limit` bytes may come.
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            seen: 0,
            limit,
            overrun: false,
        }
    }

    /// Reads what is left, for its measure only.
    ///
    /// # Errors
    /// Reading fails or there is too much.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        loop {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }

    /// Bytes consumed so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether more than the limit came.
    pub(super) fn overran(&self) -> bool {
        self.overrun
    }

    /// Digest of everything consumed.
    pub(super) fn digest(self) -> Digest {
        Digest::from_sha256(&self.hash.finalize().into())
    }
}

impl<R: BufRead> BufRead for Measured<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = self.limit - self.seen;
        let buffer = self.inner.fill_buf()?;
        if buffer.len() as u64 > left {
            self.overrun = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(buffer)
    }

    fn consume(&mut self, amount: usize) {
        // The buffer that fill_buf has just shown is still there; a second look can't fail for our readers.
        if let Ok(buffer) = self.inner.fill_buf() {
            self.hash.update(&buffer[..amount]);
        }
        self.seen += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Read for Measured<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(into.len());
        into[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_what_passes_and_no_more_than_allowed() {
        let mut exact = Measured::new(&b"hello"[..], 5);
        let mut text = String::new();
        exact.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), exact.seen()), ("hello", 5));
        assert_eq!(exact.digest(), digest_of(b"hello"));
        let mut long = Measured::new(&b"hello!"[..], 5);
        assert!(long.drain().is_err() && long.overran());
    }
}
