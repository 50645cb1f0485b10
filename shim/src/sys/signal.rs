//! Signal masks and dispositions around a clone and before an exec.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::io::Errno;

use super::outcome;

/// `_NSIG` of every architecture we build for.
const LAST: libc::c_int = 64;

/// Blocks every signal; the old mask is returned for [`restore`].
///
/// # Errors
/// Never in practice: sigprocmask(2) refuses only bad arguments.
pub(crate) fn block_all() -> Result<SigSet, Errno> {
    let mut old = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut old)).map_err(errno)?;
    Ok(old)
}

/// Sets the mask back to what [`block_all`] returned.
///
/// # Errors
/// As [`block_all`].
pub(crate) fn restore(mask: &SigSet) -> Result<(), Errno> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None).map_err(errno)
}

/// Every signal to its default action and unblocked: what a program may expect when it begins. clone3 has removed the
/// handlers, but not what was ignored (Rust ignores SIGPIPE).
///
/// # Errors
/// As [`block_all`].
pub(crate) fn reset_for_exec() -> Result<(), Errno> {
    // By the bare call: the C library refuses the two or three signals it keeps for itself, which a parent may have
    // ignored all the same. All zero is the kernel's sigaction for the default, on every architecture.
    let default = [0_u64; 4];
    for signal in (1..=LAST).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: `default` is at least as large as the kernel's sigaction and names no handler; the old one is not
        // asked for; 8 is the size of the kernel's signal set.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8_usize,
            )
        };
        outcome(ret)?;
    }
    restore(&SigSet::empty())
}

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
