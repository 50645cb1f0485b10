//! Making a process by clone3, which no wrapper crate has: only it gives a pidfd, new namespaces and a place in a
//! v2 cgroup in the same step.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::{outcome, signal};

/// `clone_args` of the kernel, first two versions (88 bytes; Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// libc's constant overflows a C int and reads 0 (libc issue 3584).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The runtime's signal handlers write to descriptors that the child has closed.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// A new PID namespace, whose first process the child is.
pub(crate) const NEW_PID: u64 = 0x2000_0000;
/// A copy of the caller's mount namespace.
pub(crate) const NEW_MOUNT: u64 = 0x0002_0000;
/// A new host name.
pub(crate) const NEW_UTS: u64 = 0x0400_0000;
/// New System V IPC and POSIX message queues.
pub(crate) const NEW_IPC: u64 = 0x0800_0000;
/// A new, empty network.
pub(crate) const NEW_NETWORK: u64 = 0x4000_0000;

/// A child that runs.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// As the caller's PID namespace knows it.
    pub(crate) pid: Pid,
    /// Close-on-exec.
    pub(crate) pidfd: OwnedFd,
}

/// Runs `child` in a new process, which ends with what it returns; the caller gets the process.
///
/// The child is a copy of the caller with everything it had open. It begins with every signal blocked and all handlers
/// removed, and it must never use the caller's async runtime. If it panics it says so on standard error and ends
/// with 125: the C library's abort would signal the thread id that it remembers, which is the caller's.
///
/// # Errors
/// What clone3(2) says: `ENOMEM` when the PID namespace set for children has no living init, `EAGAIN`, `ENOSPC`,
/// `EBUSY` or `EOPNOTSUPP` for a cgroup that cannot take processes.
pub(crate) fn spawn(
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> Result<Spawned, Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: u64::try_from(libc::SIGCHLD).unwrap_or_default(),
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // A signal that arrives between the clone and the handlers' removal must not run a handler in the child.
    let blocked = signal::block_all()?;
    // SAFETY: without CLONE_VM the child gets its own copy of memory and goes on on its own copy of this stack, and
    // the shim has one thread for life, so no lock can be held by a thread that the child lacks. `args` and `pidfd`
    // outlive the call.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if ret == 0 {
        run(child);
    }
    let result = outcome(ret);
    signal::restore(&blocked)?;
    let pid = i32::try_from(result?).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    // SAFETY: the kernel stored a new descriptor here before it returned the pid; nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned { pid, pidfd })
}

fn run(child: impl FnOnce() -> i32) -> ! {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("child of the shim: {panic}");
        end(125);
    }));
    end(child())
}

fn end(status: i32) -> ! {
    // SAFETY: _exit only ends the process; exit handlers belong to the parent and must not run twice.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor above standard error but those in `keep`. Only for a process that is a fresh copy or has
/// just begun: owners of the closed descriptors must never be used or dropped.
///
/// # Errors
/// What close_range(2) says; it exists since Linux 5.9.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .filter(|&fd| fd > 2)
        .collect();
    kept.sort_unstable();
    let mut from = 3_u32;
    for fd in kept {
        if from < fd {
            close_range(from, fd - 1, 0)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX, 0)
}

/// Marks every descriptor above standard error close-on-exec, so that the program sees none of them whatever
/// somebody forgot (CVE-2024-21626).
///
/// # Errors
/// What close_range(2) says; the flag exists since Linux 5.11.
pub(crate) fn cloexec_all() -> Result<(), Errno> {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: the call takes three numbers. Descriptors vanish under their owners: the callers of `close_all_but`
    // promise that none of those is used or dropped afterwards.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    outcome(ret).map(drop)
}
