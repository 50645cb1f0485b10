//! unshare, and the session keyring. Both act on the calling thread, which here is the whole process.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::outcome;

/// Leaves the namespaces named by `flags` for new ones.
///
/// # Errors
/// What unshare(2) says.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    let flags = flags.difference(UnshareFlags::FILES);
    // SAFETY: only CLONE_FILES could take descriptors from under another thread; it is masked out, and the shim has
    // one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Joins a new, empty session keyring: the container must not see keys of the session that started us.
///
/// # Errors
/// What keyctl(2) says: `ENOSYS` without keyrings in the kernel, `EDQUOT` when the user has too many keys.
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing else is read.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    outcome(ret).map(drop)
}
