//! What the shim and its log writer say to one another over a `SOCK_SEQPACKET` pair.
//!
//! An order is one byte and a number; its answer repeats the number and adds an error text, empty when it is done.
//! The number tells an answer from one to an earlier order that the shim had stopped waiting for.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest message either way, in bytes; longer error texts are cut.
const MESSAGE_BYTES: usize = 1024;

/// What the log writer is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open the log at its path again.
    Reopen,
    /// The container has ended: write what is left, answer, end.
    Drain,
    /// The container has a terminal: this is its output.
    Terminal(OwnedFd),
}

/// The log writer's word on an order.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The order's number; 0 for the opening at birth, which nobody ordered.
    pub(crate) number: u32,
    /// Why it failed; `None` when it is done.
    pub(crate) error: Option<String>,
}

/// The shim's end, which does not block, and the writer's, which does.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Sends an order.
pub(crate) fn send_order(link: impl AsFd, number: u32, order: &Order) -> Result<(), Errno> {
    let (kind, passed) = match order {
        Order::Reopen => (b'R', None),
        Order::Drain => (b'D', None),
        Order::Terminal(master) => (b'T', Some(master)),
    };
    let mut message = [0_u8; 5];
    message[0] = kind;
    message[1..].copy_from_slice(&number.to_le_bytes());
    let passed: Vec<_> = passed.iter().map(|fd| fd.as_fd()).collect();
    send_with_fds(link, &message, &passed)
}

/// Receives an order and its number; `None` when the shim is gone.
pub(crate) fn receive_order(link: impl AsFd) -> Result<Option<(u32, Order)>, Errno> {
    let mut message = [0_u8; 5];
    let (length, passed) = receive_with_fds(link, &mut message)?;
    if length == 0 {
        return Ok(None);
    }
    let [kind, number @ ..] = message;
    let order = match (kind, passed.into_iter().next()) {
        (b'R', None) => Order::Reopen,
        (b'D', None) => Order::Drain,
        (b'T', Some(master)) => Order::Terminal(master),
        _unknown => return Err(Errno::BADMSG),
    };
    Ok(Some((u32::from_le_bytes(number), order)))
}

/// Answers an order.
pub(crate) fn send_answer(link: impl AsFd, answer: &Answer) -> Result<(), Errno> {
    let mut message = answer.number.to_le_bytes().to_vec();
    message.extend_from_slice(answer.error.as_deref().unwrap_or_default().as_bytes());
    message.truncate(MESSAGE_BYTES);
    send_with_fds(link, &message, &[])
}

/// Receives an answer; `None` when the writer is gone.
pub(crate) fn receive_answer(link: impl AsFd) -> Result<Option<Answer>, Errno> {
    let mut message = [0_u8; MESSAGE_BYTES];
    let (length, _no_fds) = receive_with_fds(link, &mut message)?;
    let Some((number, text)) = message[..length].split_first_chunk::<4>() else {
        return Ok(None);
    };
    let error = (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned());
    Ok(Some(Answer {
        number: u32::from_le_bytes(*number),
        error,
    }))
}

/// Most descriptors that one message carries: the three standard streams.
const MOST_FDS: usize = 3;

/// Sends one message with up to three descriptors.
pub(crate) fn send_with_fds(
    link: impl AsFd,
    message: &[u8],
    passed: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(passed)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(link, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptors that came with it, close-on-exec. Length 0 is the end.
pub(crate) fn receive_with_fds(link: impl AsFd, message: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            &link,
            &mut [IoSliceMut::new(message)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut passed = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = item {
            passed.extend(fds);
        }
    }
    Ok((received.bytes, passed))
}
