//! Just enough netlink(7) to make links, addresses, routes and one nftables table: messages with nested attributes,
//! sent and acknowledged. Kernel and caller share the host's byte order except where a field is named `be`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: an answer comes for success too.
const ACK: u16 = 0x4;
/// `NLM_F_EXCL`: fail when it exists.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(super) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`: the type of an acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// A request under construction.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of `kind` with its fixed part; the kernel will acknowledge it.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self::build(kind, REQUEST | ACK | flags, fixed)
    }

    /// A message that gets no acknowledgement (batch begin and end).
    pub(super) fn silent(kind: u16, fixed: &[u8]) -> Self {
        Self::build(kind, REQUEST, fixed)
    }

    fn build(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(super) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds a number in the host's byte order.
    pub(super) fn attr_u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as nftables wants them.
    pub(super) fn attr_be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Adds a NUL-terminated string.
    pub(super) fn attr_str(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Adds an attribute made of attributes.
    pub(super) fn nest(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        let mut message = inside(self);
        message.close(start);
        message
    }

    /// Adds bytes that belong to the enclosing attribute but are none themselves (a peer's `ifinfomsg`).
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.close(start);
        self.pad();
    }

    fn close(&mut self, start: usize) {
        // Our messages are a few hundred bytes, far below the 64 KiB that an attribute's length can say.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A netlink socket; it acts in the network namespace it was made in, whoever uses it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
}

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Family {
    /// rtnetlink(7): links, addresses, routes.
    Route,
    /// nftables.
    Netfilter,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub(super) fn open(family: Family) -> io::Result<Self> {
        let protocol: Option<Protocol> = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self { fd })
    }

    /// Sends `message` and waits for its acknowledgement.
    pub(super) fn request(&self, message: Message) -> io::Result<()> {
        self.batch(vec![message])
    }

    /// Sends all of `messages` as one datagram; the first error is the answer.
    pub(super) fn batch(&self, messages: Vec<Message>) -> io::Result<()> {
        let mut datagram = Vec::new();
        let mut awaited = 0;
        for (sequence, message) in (1..).zip(messages) {
            let bytes = message.finish(sequence);
            if u16::from_ne_bytes([bytes[6], bytes[7]]) & ACK != 0 {
                awaited = sequence;
            }
            datagram.extend_from_slice(&bytes);
        }
        send(&self.fd, &datagram, SendFlags::empty())?;
        self.acknowledged(awaited)
    }

    /// Sends a question that one message answers; returns that message without its header.
    pub(super) fn ask(&self, message: Message) -> io::Result<Vec<u8>> {
        send(&self.fd, &message.finish(1), SendFlags::empty())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (received, _) = recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
            for message in messages(&buffer[..received]) {
                match message {
                    (NLMSG_ERROR, _, body) => return outcome(body).map(|()| answer),
                    (_, _, body) => answer = body.to_vec(),
                }
            }
        }
    }

    fn acknowledged(&self, last: u32) -> io::Result<()> {
        let mut buffer = vec![0; 8 * 1024];
        loop {
            let (received, _) = recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
            for (kind, sequence, body) in messages(&buffer[..received]) {
                if kind == NLMSG_ERROR {
                    outcome(body)?;
                    if sequence == last {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// The messages of a datagram as (type, sequence, body); a malformed rest is ignored.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let body = rest.get(HEADER..length)?;
        let message = (u16_at(header, 4)?, u32_at(header, 8)?, body);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn outcome(body: &[u8]) -> io::Result<()> {
    let code = body
        .get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code.saturating_neg()))
    }
}

/// The attributes in `bytes` as (type, value); a malformed rest is ignored.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & !NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A `u16` in host order at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A `u32` in host order at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_the_header_and_not_the_padding() {
        let bytes = Message::new(16, CREATE, &[0; 16]).attr_str(3, "eth0").finish(9);
        assert_eq!(bytes.len(), 16 + 16 + 12);
        assert_eq!(u32_at(&bytes, 0), Some(44));
        assert_eq!((u16_at(&bytes, 32), u16_at(&bytes, 34)), (Some(9), Some(3)));
        assert_eq!(u32_at(&bytes, 8), Some(9));
    }

    #[test]
    fn a_nest_spans_what_is_inside() {
        let bytes = Message::new(1, 0, &[])
            .nest(18, |inner| inner.attr_str(1, "veth").attr_u32(2, 7))
            .finish(1);
        assert_eq!(u16_at(&bytes, 16), Some(4 + 12 + 8));
        assert_eq!(u16_at(&bytes, 18), Some(18 | NESTED));
    }

    #[test]
    fn a_short_answer_ends_the_iteration() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        let mut lying = vec![0_u8; 16];
        lying[0] = 200;
        assert_eq!(messages(&lying).count(), 0);
    }

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let bytes = Message::new(1, 0, &[])
            .attr_str(3, "br0")
            .nest(18, |inner| inner.attr_str(1, "bridge"))
            .finish(1);
        let found: Vec<_> = attributes(&bytes[HEADER..]).collect();
        assert_eq!(found[0], (3, &b"br0\0"[..]));
        assert_eq!(attributes(found[1].1).next(), Some((1, &b"bridge\0"[..])));
        assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn the_kernel_answers() {
        let socket = Socket::open(Family::Route).unwrap();
        // RTM_GETLINK of a device that does not exist.
        let error = socket
            .ask(Message::new(18, 0, &[0; 16]).attr_str(3, "nosuchdev0"))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19));
    }
}
