//! The conversation between the shim and a child that is being built: a pair of packet sockets, so that a frame is
//! whole or absent and never longer than [`MAX_FRAME`] (CVE-2021-43784). The child's end closes on exec, which is how
//! the shim learns that it succeeded.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::InitError;

/// Longest frame in bytes; a longer message is cut when it is sent and refused when it is received.
pub(crate) const MAX_FRAME: usize = 4096;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
}

/// What the child says.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything is built; it waits at the gate.
    Ready,
    /// Something was done another way than asked.
    Note(String),
    /// A descriptor: the master of its terminal, or the mount that a stage has made.
    Handed(OwnedFd),
    /// It is about to exec.
    Executing,
    /// A step failed.
    Failed(Failure),
    /// The end is closed: after [`Event::Executing`] the exec succeeded, before it the child died.
    Closed,
}

/// A step that failed in the child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// What it was doing, and why it failed.
    pub(crate) text: String,
    /// The kernel's reason; `None` when it was not a system call that failed.
    pub(crate) errno: Option<i32>,
}

const READY: u8 = b'R';
const NOTE: u8 = b'N';
const HANDED: u8 = b'C';
const EXECUTING: u8 = b'X';
const FAILED: u8 = b'F';
const RELEASE: u8 = b'G';

impl Channel {
    /// A connected pair, close-on-exec: the shim's end and the child's.
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { fd: ours }, Self { fd: theirs }))
    }

    /// Shim: opens the gate.
    ///
    /// # Errors
    /// `EPIPE` when the child is gone.
    pub(crate) fn release(&self) -> Result<(), Errno> {
        rustix::net::send(&self.fd, &[RELEASE], SendFlags::NOSIGNAL).map(drop)
    }

    /// Shim: the next thing that the child says; `None` when it has said nothing yet. Never blocks.
    ///
    /// # Errors
    /// `EBADMSG` for a frame that no child of ours sends, else what recvmsg(2) says.
    pub(crate) fn receive(&self) -> Result<Option<Event>, Errno> {
        let mut frame = [0_u8; MAX_FRAME];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&self.fd, &mut [IoSliceMut::new(&mut frame)], &mut ancillary, flags) {
            Err(Errno::AGAIN) => return Ok(None),
            // The child ended with our release unread.
            Err(Errno::CONNRESET) => return Ok(Some(Event::Closed)),
            other => other?,
        };
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Errno::BADMSG);
        }
        let fd = ancillary.drain().find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fds.next()
            } else {
                None
            }
        });
        let Some((&kind, rest)) = frame.get(..received.bytes).and_then(<[u8]>::split_first) else {
            return Ok(Some(Event::Closed));
        };
        match (kind, fd) {
            (READY, None) => Ok(Some(Event::Ready)),
            (NOTE, None) => Ok(Some(Event::Note(text(rest)))),
            (HANDED, Some(fd)) => Ok(Some(Event::Handed(fd))),
            (EXECUTING, None) => Ok(Some(Event::Executing)),
            (FAILED, None) => failure(rest).map(|failure| Some(Event::Failed(failure))),
            _ => Err(Errno::BADMSG),
        }
    }

    /// Child: everything is built.
    ///
    /// # Errors
    /// When the shim is gone.
    pub(super) fn ready(&self) -> Result<(), InitError> {
        self.send(READY, b"")
    }

    /// Child: about to exec.
    ///
    /// # Errors
    /// When the shim is gone.
    pub(super) fn executing(&self) -> Result<(), InitError> {
        self.send(EXECUTING, b"")
    }

    /// Child: something was done another way than asked.
    ///
    /// # Errors
    /// When the shim is gone.
    pub(super) fn note(&self, note: &str) -> Result<(), InitError> {
        self.send(NOTE, cut(note, MAX_FRAME - 1).as_bytes())
    }

    /// Child: waits until the gate opens.
    ///
    /// # Errors
    /// `EPIPE` when the shim is gone.
    pub(super) fn wait_for_release(&self) -> Result<(), InitError> {
        let mut byte = [0_u8; 1];
        let received = rustix::net::recv(&self.fd, &mut byte, RecvFlags::empty());
        match received.map(|_| byte) {
            Ok([RELEASE]) => Ok(()),
            Ok(_) => Err(InitError::Channel { source: Errno::PIPE }),
            Err(source) => Err(InitError::Channel { source }),
        }
    }

    /// Child: sends a descriptor.
    ///
    /// # Errors
    /// When the shim is gone.
    pub(crate) fn hand(&self, fd: BorrowedFd<'_>) -> Result<(), InitError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(
            &self.fd,
            &[IoSlice::new(&[HANDED])],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
        .map_err(|source| InitError::Channel { source })
    }

    /// Child: says why it failed; returns the status to end with.
    pub(crate) fn report(&self, error: &InitError) -> i32 {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            text.push_str(": ");
            text.push_str(&source.to_string());
            cause = source.source();
        }
        let errno = error.errno().map_or(0, Errno::raw_os_error);
        let mut frame = errno.to_le_bytes().to_vec();
        frame.extend(cut(&text, MAX_FRAME - 5).as_bytes());
        // Nobody is left to tell when this fails.
        if self.send(FAILED, &frame).is_ok() { 1 } else { 2 }
    }

    /// By write(2), which any seccomp profile that can run a program allows.
    fn send(&self, kind: u8, rest: &[u8]) -> Result<(), InitError> {
        let mut frame = vec![kind];
        frame.extend(rest);
        rustix::io::write(&self.fd, &frame)
            .map(drop)
            .map_err(|source| InitError::Channel { source })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn failure(rest: &[u8]) -> Result<Failure, Errno> {
    let (errno, rest) = rest.split_first_chunk::<4>().ok_or(Errno::BADMSG)?;
    let errno = i32::from_le_bytes(*errno);
    Ok(Failure {
        text: text(rest),
        errno: (errno != 0).then_some(errno),
    })
}

#[cfg(test)]
mod tests;
