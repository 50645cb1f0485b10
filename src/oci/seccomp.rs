//! The default seccomp profile (contract §6.3, yardstick §1.7 and §5), made for the capabilities a container has.
//!
//! Rules of one call never overlap with different actions, so that it does not matter in which order a compiler tries
//! them. Arguments are compared in their low 32 bits where the kernel takes an `int`: a rule on the whole register
//! would let `socket(1 << 32 | AF_ALG)` through, which the kernel reads as `socket(AF_ALG)`.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

use super::capability::CapSet;

/// errno(3), the same numbers on x86_64 and aarch64.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// The low half of a register: what the kernel sees of an `int`.
const INT: u64 = 0xffff_ffff;

/// `CLONE_NEW*` flags of clone(2), whose flags are its first argument on x86_64, x86 and aarch64.
const NEW_NAMESPACE_FLAGS: [u64; 7] = [
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // UTS
    0x0800_0000, // IPC
    0x1000_0000, // user
    0x2000_0000, // PID
    0x4000_0000, // network
];

/// Address families that may be used, as aligned blocks (mask, value): 0-47 without `AF_ALG` (38, CVE-2026-31431) and
/// `AF_VSOCK` (40, it reaches past the network namespace).
const SOCKET_FAMILIES: [(u64, u64); 7] = [
    (INT & !31, 0), // 0-31
    (INT & !3, 32), // 32-35
    (INT & !1, 36), // 36, 37
    (INT, 39),
    (INT, 41),
    (INT & !1, 42), // 42, 43
    (INT & !3, 44), // 44-47
];

/// Families that are answered as a kernel built without them does.
const REFUSED_FAMILIES: [u64; 2] = [38, 40];

/// Execution domains of personality(2): Linux and 32-bit Linux, with and without `UNAME26`, and the question.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, INT];

/// The profile for a container whose effective capabilities are `caps`, on an architecture by its Rust name.
pub(super) fn default_profile(caps: CapSet, arch: &str) -> LinuxSeccomp {
    let mut allowed: BTreeSet<&str> = table::ALLOWED.iter().copied().collect();
    let mut denied: BTreeSet<&str> = table::DENIED.iter().copied().collect();
    for (capability, calls) in table::BY_CAPABILITY {
        if caps.has_name(capability) {
            allowed.extend(*calls);
        } else {
            denied.extend(*calls);
        }
    }
    denied.retain(|name| !allowed.contains(name));
    let mut rules = Vec::new();
    if !allowed.contains("clone") {
        // Threads and processes, but no namespaces. clone3(2) has its flags in memory, out of a filter's sight: ENOSYS
        // makes libraries use clone(2).
        denied.remove("clone");
        denied.remove("clone3");
        rules.push(errno(&["clone3"], ENOSYS, None));
        let every_flag = NEW_NAMESPACE_FLAGS.iter().fold(0, |mask, flag| mask | flag);
        rules.push(allow(&["clone"], Some(masked(every_flag, 0))));
        let each = |flag: &u64| errno(&["clone"], EPERM, Some(masked(*flag, *flag)));
        rules.extend(NEW_NAMESPACE_FLAGS.iter().map(each));
    }
    let families = |&(mask, value): &(u64, u64)| allow(&["socket"], Some(masked(mask, value)));
    rules.extend(SOCKET_FAMILIES.iter().map(families));
    let refused = |family: &u64| errno(&["socket"], EAFNOSUPPORT, Some(masked(INT, *family)));
    rules.extend(REFUSED_FAMILIES.iter().map(refused));
    rules.extend(
        PERSONALITIES
            .iter()
            .map(|domain| allow(&["personality"], Some(masked(INT, *domain)))),
    );

    let allowed: Vec<&str> = allowed.into_iter().collect();
    let denied: Vec<&str> = denied.into_iter().collect();
    rules.insert(0, allow(&allowed, None));
    rules.insert(1, errno(&denied, EPERM, None));
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(ENOSYS))
        .set_architectures(Some(architectures(arch)))
        .set_syscalls(Some(rules));
    profile
}

/// A call made under another architecture of the same processor would have other numbers: each is filtered, and one
/// that is not named here is killed.
fn architectures(arch: &str) -> Vec<Arch> {
    match arch {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn allow(names: &[&str], arg: Option<LinuxSeccompArg>) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow, None, arg)
}

fn errno(names: &[&str], errno: u32, arg: Option<LinuxSeccompArg>) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActErrno, Some(errno), arg)
}

fn rule(names: &[&str], action: LinuxSeccompAction, errno: Option<u32>, arg: Option<LinuxSeccompArg>) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names.iter().map(|name| (*name).to_owned()).collect())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args(arg.map(|arg| vec![arg]));
    syscall
}

/// The first argument, of which only the bits of `mask` count, is `value`.
fn masked(mask: u64, value: u64) -> LinuxSeccompArg {
    // OCI: for SCMP_CMP_MASKED_EQ the first value is the mask.
    let arg = LinuxSeccompArgBuilder::default()
        .index(0_usize)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .value(mask)
        .value_two(value);
    // Every field has a default, so that the builder has nothing to miss.
    arg.build().unwrap_or_default()
}
