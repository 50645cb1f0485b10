//! The only unsafe code of the repository: system calls that neither nix nor rustix wraps safely.
#![allow(
    unsafe_code,
    reason = "the one door to unsafe; every block says which invariant it relies on"
)]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod link;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod sealed;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod watch;

use rustix::io::Errno;

/// What a raw system call through libc returned, as a result.
fn outcome(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret < 0 { Err(last_errno()) } else { Ok(ret) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
