//! A pseudo-terminal of the container's own devpts.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::InitError;
use super::attach::{clone_tree, move_onto, refuse_linked_base};
use super::channel::Channel;
use super::rootfs::{Make, Rootfs};
use crate::plan::process::Terminal;
use crate::sys::mount::Depth;

/// devpts, linux/magic.h.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Both ends.
#[derive(Debug)]
pub(crate) struct Console {
    /// For the shim.
    master: OwnedFd,
    /// For the process.
    peer: OwnedFd,
}

/// Opens a terminal for `user`. The peer comes from the multiplexer, never from a path: a path below `/dev/pts` can be
/// replaced (CVE-2025-52565).
///
/// # Errors
/// [`InitError::NotDevpts`] when the image decided what `/dev/pts/ptmx` is.
pub(crate) fn open(root: &Rootfs, terminal: Terminal, user: u32) -> Result<Console, InitError> {
    let failed = |source| InitError::Terminal { source };
    let master = root
        .find_without_links("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY)
        .map_err(failed)?;
    let filesystem = rustix::fs::fstatfs(&master).map_err(failed)?.f_type;
    let number = rustix::fs::fstat(&master).map_err(failed)?.st_rdev;
    if u64::try_from(filesystem) != Ok(DEVPTS_SUPER_MAGIC) || number != rustix::fs::makedev(5, 2) {
        return Err(InitError::NotDevpts);
    }
    rustix::pty::unlockpt(&master).map_err(failed)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed)?;
    rustix::fs::fchown(&peer, Some(Uid::from_raw(user)), None).map_err(failed)?;
    if let Some(size) = terminal.size {
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).map_err(failed)?;
    }
    Ok(Console { master, peer })
}

impl Console {
    /// Shows the terminal at `/dev/console`.
    ///
    /// # Errors
    /// Names the step.
    pub(crate) fn show(self, root: &Rootfs) -> Result<Self, InitError> {
        let path = "/dev/console";
        refuse_linked_base(root, path)?;
        let attach = || -> Result<(), Errno> {
            let mount = clone_tree(self.peer.as_fd(), Depth::Top)?;
            let point = root.make(path, Make::File)?;
            move_onto(mount.as_fd(), point.as_fd())
        };
        attach().map_err(|source| InitError::Attach {
            destination: path.to_owned(),
            source,
        })?;
        Ok(self)
    }

    /// Makes it the controlling terminal and the three standard streams, and sends the master to the shim.
    ///
    /// # Errors
    /// Names the step.
    pub(crate) fn hand_over(self, channel: &Channel) -> Result<(), InitError> {
        rustix::process::ioctl_tiocsctty(&self.peer).map_err(|source| InitError::Terminal { source })?;
        super::process::set_stdio([self.peer.as_fd(); 3])?;
        channel.hand(self.master.as_fd())
    }
}
