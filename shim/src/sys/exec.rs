//! Replacing the process by the container's program.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use nix::fcntl::AtFlags;
use rustix::io::Errno;

/// execve(2); returns only when it failed.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(errno) => Errno::from_raw_os_error(errno as i32),
    }
}

/// Runs the program that `file` is open on; returns only when it failed.
pub(crate) fn fexecve(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execveat(file, c"", args, env, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => Errno::from_raw_os_error(errno as i32),
    }
}
