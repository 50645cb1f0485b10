//! The CRI socket's name in the file system: taken only when nobody answers there, given back only while it is ours.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixListener;

use crate::base::fs::{FsError, remove_file_if_there};
use crate::base::lock::holder;

/// The socket cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody serves it.
    #[error(
        "another process{} serves {}: stop it, or give this daemon another `cri.socket`",
        holder(*pid), path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Who, when the kernel tells.
        pid: Option<u32>,
    },
    /// Something else has that name.
    #[error("{} is there and no socket: move it away, or give this daemon another `cri.socket`", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Whether somebody serves it cannot be found out.
    #[error("find out whether somebody serves {}", path.display())]
    Ask {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("listen on {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The name of the socket that we listen on.
#[derive(Debug)]
pub struct Name {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Name {
    /// Removes it, unless somebody has put another file there since.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<(), FsError> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => remove_file_if_there(&self.path),
            Ok(_) | Err(_) => {
                tracing::warn!(socket = %self.path.display(), "somebody has replaced or removed our socket; left alone");
                Ok(())
            }
        }
    }
}

/// Makes sure that nobody would lose the name if we took it.
///
/// # Errors
/// Somebody answers there, or the file is no socket.
pub fn refuse_if_taken(path: &Path) -> Result<(), SocketError> {
    let ask = |source| SocketError::Ask {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ask(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    // Not blocking: who listens and does not accept is there too (EAGAIN from a full backlog, connect(2)).
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|errno| ask(errno.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|errno| ask(errno.into()))?;
    match connect(&socket, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Taken {
            path: path.to_owned(),
            pid: socket_peercred(&socket)
                .ok()
                .and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()),
        }),
        Err(errno) => Err(ask(errno.into())),
    }
}

/// A socket that root and its group may use.
///
/// # Errors
/// As [`refuse_if_taken`], or it cannot be made.
pub fn listen(path: &Path) -> Result<(UnixListener, Name), SocketError> {
    refuse_if_taken(path)?;
    let failed = |source| SocketError::Listen {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) | Ok(()) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    let made = fs::symlink_metadata(path).map_err(failed)?;
    let name = Name {
        path: path.to_owned(),
        device: made.dev(),
        inode: made.ino(),
    };
    Ok((listener, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leftover_is_replaced_and_a_served_socket_is_not() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("below/s");
        let (listener, name) = listen(&path).unwrap();
        let text = listen(&path).unwrap_err().to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        assert!(text.contains("cri.socket"), "{text}");
        drop(listener);
        // A process that another test of this binary is just starting holds the listener from its fork to its exec.
        let begun = std::time::Instant::now();
        let (_listener, newer) = loop {
            match listen(&path) {
                Ok(made) => break made,
                Err(error) => assert!(begun.elapsed().as_secs() < 10, "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        // The first one's name is gone: it must not take the second one's away. An inode may be used again at once,
        // so that only a name which differs proves anything.
        if name.inode != newer.inode {
            name.remove().unwrap();
            assert!(path.exists());
        }
        newer.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("s");
        fs::write(&path, "mine").unwrap();
        assert!(listen(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
