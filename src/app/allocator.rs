//! Settings of glibc's allocator, which it reads from the environment before `main`: the daemon executes itself once
//! more with them. Without, every thread gets an arena that keeps what a pull used, and the limit above which memory
//! goes back to the kernel at once grows with use: some MB resident for the daemon's whole life.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Where glibc looks, and how this process knows that it has been executed already. What an operator sets there stands.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// Two arenas for two workers; 128 KiB and more go back when freed (glibc's own starting values, kept from growing).
const TUNABLES: &str = "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072";

/// Executes this program again with the settings, unless there are some. Comes back when that is done or not possible;
/// the daemon works without, it is only larger.
///
/// # Errors
/// Why it was not possible.
pub fn settle() -> io::Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again.args(arguments).env(VARIABLE, TUNABLES).exec())
}
