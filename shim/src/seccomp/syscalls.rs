//! Numbers of system calls, by the ABIs that a process of this host can call through.

use std::str::FromStr;

use super::profile::ProfileError;

/// One way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 64-bit registers with 32-bit pointers; shares its audit number with [`Abi::X86_64`].
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
}

/// Set in every number of the x32 ABI.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// Calls that are newer than the table of the `syscalls` crate; the same number everywhere.
const NEWER: [(&str, u32); 2] = [("listns", 470), ("rseq_slice_yield", 471)];

/// Calls to which x32 gives a number of its own; all others are the 64-bit ones with [`X32_BIT`].
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

impl Abi {
    /// The ABIs that a profile's `architectures` name on this host, the native one first and always. Those of other
    /// hosts cannot be called through here and are passed over.
    ///
    /// # Errors
    /// A name that is no architecture of libseccomp's.
    pub(crate) fn of(architectures: &[String]) -> Result<Vec<Self>, ProfileError> {
        const OTHERS: [&str; 16] = [
            "SCMP_ARCH_MIPS",
            "SCMP_ARCH_MIPS64",
            "SCMP_ARCH_MIPS64N32",
            "SCMP_ARCH_MIPSEL",
            "SCMP_ARCH_MIPSEL64",
            "SCMP_ARCH_MIPSEL64N32",
            "SCMP_ARCH_PPC",
            "SCMP_ARCH_PPC64",
            "SCMP_ARCH_PPC64LE",
            "SCMP_ARCH_S390",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_RISCV64",
            "SCMP_ARCH_LOONGARCH64",
            "SCMP_ARCH_PARISC",
            "SCMP_ARCH_PARISC64",
            "SCMP_ARCH_NATIVE",
        ];
        let native = if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        };
        let mut abis = vec![native];
        for name in architectures {
            let abi = match name.as_str() {
                "SCMP_ARCH_X86_64" => Self::X86_64,
                "SCMP_ARCH_X32" => Self::X32,
                "SCMP_ARCH_X86" => Self::X86,
                "SCMP_ARCH_AARCH64" => Self::Aarch64,
                "SCMP_ARCH_ARM" => Self::Arm,
                other if OTHERS.contains(&other) => continue,
                other => {
                    return Err(ProfileError::Unsupported {
                        field: "architectures",
                        value: other.to_owned(),
                    });
                }
            };
            let same_host = matches!(abi, Self::Aarch64 | Self::Arm) == (native == Self::Aarch64);
            if same_host && !abis.contains(&abi) {
                abis.push(abi);
            }
        }
        Ok(abis)
    }

    /// What the kernel puts into `seccomp_data.arch` (linux/audit.h).
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xC000_003E,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xC000_00B7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Arguments are 32 bits wide.
    pub(crate) fn is_narrow(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    /// The number of a call, if this ABI has it.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        let own = match self {
            Self::X86_64 => number::<syscalls::x86_64::Sysno>(name),
            Self::X32 => return x32(name),
            Self::X86 => number::<syscalls::x86::Sysno>(name),
            Self::Aarch64 => number::<syscalls::aarch64::Sysno>(name),
            Self::Arm => number::<syscalls::arm::Sysno>(name),
        };
        own.or_else(|| find(&NEWER, name))
    }
}

fn x32(name: &str) -> Option<u32> {
    let number = find(&X32_OWN, name).or_else(|| Abi::X86_64.number(name))?;
    Some(X32_BIT | number)
}

fn find(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

fn number<S: FromStr + Into<Number>>(name: &str) -> Option<u32> {
    let sysno: Number = S::from_str(name).ok()?.into();
    u32::try_from(sysno.0).ok()
}

/// A number of one of the crate's tables, which are types of their own.
struct Number(i32);

macro_rules! numbers {
    ($($table:ident),+) => {
        $(impl From<syscalls::$table::Sysno> for Number {
            fn from(sysno: syscalls::$table::Sysno) -> Self {
                Self(sysno.id())
            }
        })+
    };
}
numbers!(x86_64, x86, aarch64, arm);
