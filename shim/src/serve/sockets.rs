//! The two sockets in the bundle directory, which is the working directory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use copepod_proto::bundle::{FD_SOCKET, TASK_SOCKET};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, listen, socket_with,
};
use rustix::process::umask;

/// Longest path of a unix socket, without the NUL that ends it (unix(7)).
const LONGEST_PATH: usize = 107;
/// Clients that may wait to be accepted. The daemon keeps one connection; probes come one by one.
const BACKLOG: i32 = 64;

/// Why a socket is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another shim serves {}", path.display())]
    InUse { path: PathBuf },
    #[error("remove the stale socket {}", path.display())]
    Stale { path: PathBuf, source: std::io::Error },
    #[error("make socket {}", path.display())]
    Make { path: PathBuf, source: Errno },
}

/// Both sockets, listening and not blocking.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// ttrpc.
    pub(crate) task: UnixListener,
    /// `SOCK_SEQPACKET`.
    pub(crate) fd: OwnedFd,
}

/// Binds both sockets, mode 0600. A socket that a dead shim left is replaced.
///
/// # Errors
/// A living shim serves this bundle already, or the socket cannot be made.
pub(crate) fn bind(bundle: &Path) -> Result<Sockets, SocketError> {
    let task = one(bundle, TASK_SOCKET, SocketType::STREAM)?;
    let fd = one(bundle, FD_SOCKET, SocketType::SEQPACKET)?;
    Ok(Sockets {
        task: UnixListener::from(task),
        fd,
    })
}

fn one(bundle: &Path, name: &str, kind: SocketType) -> Result<OwnedFd, SocketError> {
    let full = bundle.join(name);
    // The full path is what operators see in /proc/net/unix; the bare name always fits.
    let path = if full.as_os_str().len() <= LONGEST_PATH {
        full.clone()
    } else {
        PathBuf::from(name)
    };
    let refuse = |source| SocketError::Make {
        path: full.clone(),
        source,
    };
    let address = SocketAddrUnix::new(&path).map_err(refuse)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(refuse)?;
    let before = umask(Mode::from_raw_mode(0o177));
    let mut bound = bind_to(&socket, &address);
    if bound == Err(Errno::ADDRINUSE) {
        let probe = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(refuse)?;
        if connect(&probe, &address) != Err(Errno::CONNREFUSED) {
            umask(before);
            return Err(SocketError::InUse { path: full });
        }
        if let Err(source) = std::fs::remove_file(&path) {
            umask(before);
            return Err(SocketError::Stale { path: full, source });
        }
        bound = bind_to(&socket, &address);
    }
    umask(before);
    bound.map_err(refuse)?;
    listen(&socket, BACKLOG).map_err(refuse)?;
    Ok(socket)
}

/// Removes both sockets.
pub(crate) fn unlink() {
    for name in [TASK_SOCKET, FD_SOCKET] {
        // The daemon removes the bundle, and may have begun.
        let _removed = std::fs::remove_file(name);
    }
}
