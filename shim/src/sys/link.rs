//! Bringing the loopback interface up, by the oldest interface the kernel has for it: two ioctls on any socket.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::outcome;

/// `lo` of the calling thread's network namespace, with its addresses.
///
/// # Errors
/// What netdevice(7) says.
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let up = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::INVAL)?;
    set_flags(&socket, up)
}

fn set_flags(socket: &OwnedFd, flags: libc::c_short) -> Result<(), Errno> {
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).map_err(|_| Errno::INVAL)?;
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: `request` is a whole ifreq whose name ends with NUL; the kernel reads it during the call only.
    let ret = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_ref(&request),
        )
    };
    outcome(ret.into()).map(drop)
}
