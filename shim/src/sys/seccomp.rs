//! Installing a seccomp filter.

use rustix::io::Errno;

use super::outcome;

/// One instruction of classic BPF, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation, see linux/bpf_common.h.
    pub(crate) code: u16,
    /// Instructions to skip when the comparison holds.
    pub(crate) jt: u8,
    /// Instructions to skip when it does not.
    pub(crate) jf: u8,
    /// Operand.
    pub(crate) k: u32,
}

/// Installs `program` for the calling thread and all that it starts, for good.
///
/// # Errors
/// What seccomp(2) says: `EACCES` without `CAP_SYS_ADMIN` and without no_new_privs, `EINVAL` for a bad program.
pub(crate) fn install(program: &[Instruction], flags: u32) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of sock_filter, `filter` names `length` of them, and the kernel copies them
    // during the call without writing.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&filter),
        )
    };
    outcome(ret).map(drop)
}
