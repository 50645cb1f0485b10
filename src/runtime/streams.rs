//! An exec's streams, fetched from the shim's second socket by `SCM_RIGHTS`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use copepod_proto::bundle::FD_SOCKET;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::{ExecStreams, RuntimeError};
use crate::base::id::ContainerId;

/// The shim answers from memory.
const DEADLINE: Duration = Duration::from_secs(5);

/// When the queue of clients is full (64 wait), the next look.
const FULL: Duration = Duration::from_millis(2);

/// Longest answer; error texts are shorter.
const ANSWER: usize = 1024;

/// Most descriptors in one answer: the three standard streams.
const MOST_FDS: usize = 3;

/// Which streams were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// stdout and stderr.
    Output,
    /// stdin as well.
    All,
}

/// Connects to the second socket of the bundle `dir`.
pub(super) async fn dial(dir: &Path) -> io::Result<UnixDatagram> {
    let address = SocketAddrUnix::new(dir.join(FD_SOCKET))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let connected = async {
        loop {
            match connect(&socket, &address) {
                // A unix socket does not connect in the background: it is asked again.
                Err(Errno::AGAIN) => tokio::time::sleep(FULL).await,
                other => return other,
            }
        }
    };
    tokio::time::timeout(DEADLINE, connected).await??;
    // For tokio a socket with message borders is a datagram socket; this wrapper needs no unsafe, AsyncFd does.
    UnixDatagram::from_std(socket.into())
}

/// Asks for the streams of exec `exec_id`.
pub(super) async fn fetch(
    id: &ContainerId,
    socket: &UnixDatagram,
    exec_id: &str,
    wanted: Wanted,
) -> Result<ExecStreams, RuntimeError> {
    let failed = |source| RuntimeError::Streams { id: id.clone(), source };
    // One small message always fits an empty socket.
    let mut nothing = SendAncillaryBuffer::default();
    sendmsg(
        socket,
        &[IoSlice::new(exec_id.as_bytes())],
        &mut nothing,
        SendFlags::NOSIGNAL,
    )
    .map_err(|errno| failed(errno.into()))?;
    let received = tokio::time::timeout(DEADLINE, socket.async_io(Interest::READABLE, || receive(socket))).await;
    let (words, fds) = received.map_err(|elapsed| failed(elapsed.into()))?.map_err(failed)?;
    if words != b"ok" {
        let text = String::from_utf8_lossy(&words);
        let text = text.trim_start_matches("error: ");
        let text = if text.is_empty() { "the shim hung up" } else { text };
        return Err(RuntimeError::NoStreams {
            id: id.clone(),
            text: text.to_owned(),
        });
    }
    assemble(fds, wanted).ok_or_else(|| RuntimeError::NoStreams {
        id: id.clone(),
        text: "the shim sent another number of streams than was asked for".to_owned(),
    })
}

/// `[stdin?, stdout, stderr]`, or a terminal alone.
fn assemble(fds: Vec<OwnedFd>, wanted: Wanted) -> Option<ExecStreams> {
    let mut fds = fds.into_iter();
    let (first, second, third) = (fds.next(), fds.next(), fds.next());
    let (stdin, stdout, stderr) = match (wanted, first, second, third) {
        (Wanted::Output, Some(stdout), Some(stderr), None) => (None, stdout, Some(stderr)),
        (Wanted::All, Some(stdin), Some(stdout), Some(stderr)) => (Some(stdin), stdout, Some(stderr)),
        (_, Some(terminal), None, None) => (None, terminal, None),
        (_, _, _, _) => return None,
    };
    Some(ExecStreams { stdin, stdout, stderr })
}

fn receive(socket: &UnixDatagram) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = [0_u8; ANSWER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut message)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = item {
            fds.extend(passed);
        }
    }
    Ok((message[..received.bytes].to_vec(), fds))
}
