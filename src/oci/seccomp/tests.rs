use super::*;
use crate::domain::security::{CapabilityChanges, Privilege};
use crate::oci::capability;
use crate::oci::tests::host;

fn profile(add: &[&str]) -> LinuxSeccomp {
    let changes = CapabilityChanges {
        add: add.iter().map(|name| (*name).to_owned()).collect(),
        ..CapabilityChanges::default()
    };
    let sets = capability::sets(&changes, Privilege::Ordinary, &host()).unwrap();
    default_profile(sets.held, "x86_64")
}

/// What the profile answers: the naive reading, first to last, on the low 32 bits of the first argument as the kernel
/// sees it and on the whole register as a filter sees it.
fn answer(profile: &LinuxSeccomp, call: &str, arg: u64) -> Result<(), u32> {
    let rules = profile.syscalls().as_ref().unwrap();
    let matches: Vec<_> = rules
        .iter()
        .filter(|rule| rule.names().iter().any(|name| name == call))
        .filter(|rule| {
            rule.args().iter().flatten().all(|wanted| {
                assert_eq!(
                    (wanted.index(), wanted.op()),
                    (0, LinuxSeccompOperator::ScmpCmpMaskedEq)
                );
                arg & wanted.value() == wanted.value_two().unwrap()
            })
        })
        .map(|rule| (rule.action(), rule.errno_ret()))
        .collect();
    if let Some(first) = matches.first() {
        assert!(
            matches.iter().all(|each| each == first),
            "{call}({arg:#x}): rules overlap"
        );
    }
    match matches.first() {
        Some((LinuxSeccompAction::ScmpActAllow, _)) => Ok(()),
        Some((_, errno)) => Err(errno.unwrap()),
        None => Err(profile.default_errno_ret().unwrap()),
    }
}

#[test]
fn no_more_calls_than_the_yardstick_allows() {
    assert!(table::ALLOWED.len() <= 361, "{}", table::ALLOWED.len());
    assert!(table::ALLOWED.is_sorted(), "sorted, so that a review sees what is new");
}

#[test]
fn tables_do_not_contradict_each_other() {
    let allowed: BTreeSet<_> = table::ALLOWED.iter().collect();
    assert_eq!(allowed.len(), table::ALLOWED.len());
    for name in table::DENIED
        .iter()
        .chain(table::BY_CAPABILITY.iter().flat_map(|(_, calls)| *calls))
    {
        assert!(!allowed.contains(name), "{name}");
    }
}

#[test]
fn default_containers_are_denied_what_has_been_a_way_out() {
    let profile = profile(&[]);
    for call in [
        "keyctl",
        "add_key",
        "request_key",
        "mount",
        "umount2",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsconfig",
        "mount_setattr",
        "pivot_root",
        "unshare",
        "setns",
        "userfaultfd",
        "io_uring_setup",
        "bpf",
        "perf_event_open",
        "open_by_handle_at",
        "init_module",
        "kexec_load",
        "reboot",
        "swapon",
        "settimeofday",
        "iopl",
        "acct",
    ] {
        assert_eq!(answer(&profile, call, 0), Err(EPERM), "{call}");
    }
    for call in ["clone3", "socketcall", "uselib", "a_call_of_tomorrow"] {
        assert_eq!(answer(&profile, call, 0), Err(ENOSYS), "{call}");
    }
    for call in [
        "read",
        "openat2",
        "futex_waitv",
        "ptrace",
        "chroot",
        "landlock_create_ruleset",
    ] {
        assert_eq!(answer(&profile, call, 0), Ok(()), "{call}");
    }
}

#[test]
fn cve_2026_31431_every_socket_family() {
    let profile = profile(&[]);
    for family in 0..=47 {
        let expected = if family == 38 || family == 40 {
            Err(EAFNOSUPPORT)
        } else {
            Ok(())
        };
        assert_eq!(answer(&profile, "socket", family), expected, "{family}");
        // The kernel reads an int: what is above must not help.
        assert_eq!(
            answer(&profile, "socket", family | 1 << 32),
            expected,
            "{family} with high bits"
        );
    }
    assert_eq!(answer(&profile, "socket", 48), Err(ENOSYS));
}

#[test]
fn cve_2022_0185_clone_makes_no_namespaces() {
    let ordinary = profile(&[]);
    for flag in NEW_NAMESPACE_FLAGS {
        assert_eq!(answer(&ordinary, "clone", flag | 17), Err(EPERM), "{flag:#x}");
        assert_eq!(
            answer(&ordinary, "clone", flag | 0x1000_0000 | 17),
            Err(EPERM),
            "{flag:#x} and user"
        );
    }
    assert_eq!(
        answer(&ordinary, "clone", 0x3d_0f00),
        Ok(()),
        "what pthread_create asks for"
    );
    let admin = profile(&["SYS_ADMIN"]);
    for call in ["clone", "clone3", "unshare", "mount", "sethostname"] {
        assert_eq!(answer(&admin, call, 0x1000_0000), Ok(()), "{call}");
    }
    assert_eq!(answer(&admin, "keyctl", 0), Err(EPERM));
}

#[test]
fn capabilities_open_their_own_calls_only() {
    let time = profile(&["SYS_TIME"]);
    assert_eq!(answer(&time, "clock_settime", 0), Ok(()));
    assert_eq!(answer(&time, "mount", 0), Err(EPERM));
    let all = profile(&["ALL"]);
    assert_eq!(answer(&all, "bpf", 0), Ok(()));
    assert_eq!(answer(&all, "socket", 38), Err(EAFNOSUPPORT));
}

#[test]
fn personality_is_linux_only() {
    let profile = profile(&[]);
    for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        assert_eq!(answer(&profile, "personality", domain), Ok(()));
    }
    assert_eq!(
        answer(&profile, "personality", 0x004_0000),
        Err(ENOSYS),
        "ADDR_NO_RANDOMIZE"
    );
}

#[test]
fn every_architecture_of_the_processor_is_filtered() {
    let x86 = default_profile(CapSet::default(), "x86_64");
    assert_eq!(x86.architectures().as_ref().unwrap().len(), 3);
    let arm = default_profile(CapSet::default(), "aarch64");
    assert_eq!(arm.architectures().as_deref(), Some([Arch::ScmpArchAarch64].as_slice()));
}
