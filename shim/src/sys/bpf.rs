//! Loading and attaching the one kind of eBPF program that a container needs: cgroup v2 asks it about devices.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::outcome;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups further up, and of what the workload makes below, are asked too.
const ALLOW_MULTI: u32 = 2;

/// One eBPF instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation, see linux/bpf.h.
    pub(crate) code: u8,
    /// Destination register in the low half, source in the high half.
    registers: u8,
    /// Instructions to skip, or bytes from the source register.
    pub(crate) offset: i16,
    /// Operand.
    pub(crate) immediate: i32,
}

impl Instruction {
    /// With registers as `[destination, source]`, each 0 to 10.
    pub(crate) fn new(code: u8, [destination, source]: [u8; 2], offset: i16, immediate: i32) -> Self {
        // The halves are swapped on big-endian machines; none of those is supported.
        Self {
            code,
            registers: destination & 0xf | source << 4,
            offset,
            immediate,
        }
    }

    /// Destination and source register.
    #[cfg(test)]
    pub(crate) fn registers(self) -> [u8; 2] {
        [self.registers & 0xf, self.registers >> 4]
    }
}

/// The beginning of bpf_attr for `BPF_PROG_LOAD`; the kernel takes what is missing for zeros.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
}

/// The beginning of bpf_attr for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
///
/// # Errors
/// What bpf(2) says: `EINVAL` and `EACCES` when the verifier refuses it, `EPERM` without the capability.
pub(crate) fn load_device_program(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    // Only what calls helpers under the GPL needs that word; ours calls none.
    let license = c"Apache-2.0";
    let attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: address(program.as_ptr()),
        license: address(license.as_ptr()),
        log: [0; 2],
    };
    // SAFETY: `attributes` names `program` with its true length and a string that ends with NUL; the kernel copies
    // both during the call and writes nothing, since no log is asked for.
    let fd = outcome(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            std::ptr::from_ref(&attributes),
            size_of::<Load>(),
        )
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel just handed us `fd`, close-on-exec; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded program to a cgroup v2 directory, for as long as that exists.
///
/// # Errors
/// What bpf(2) says: `EBADF` for a directory of something else, `EPERM` when a cgroup further up forbids it.
pub(crate) fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let number = |fd: RawFd| u32::try_from(fd).map_err(|_| Errno::BADF);
    let attributes = Attach {
        target: number(cgroup.as_fd().as_raw_fd())?,
        program: number(program.as_fd().as_raw_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `attributes` during the call; both descriptors are open, as their borrows say.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            std::ptr::from_ref(&attributes),
            size_of::<Attach>(),
        )
    };
    outcome(ret).map(drop)
}

/// As the kernel wants addresses in bpf_attr.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}
