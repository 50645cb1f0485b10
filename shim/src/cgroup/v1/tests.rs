use super::super::file::Setting;
use super::super::limits::{self, MemoryLimits};
use super::super::resources::{Cpu, Device, HugepageLimit, Memory};
use super::{CgroupError, cpu_settings, cpuset_settings, device_settings, hugetlb_settings, memory_settings};

fn plain(settings: &[Setting]) -> Vec<String> {
    settings
        .iter()
        .map(|Setting { file, value }| format!("{file} {value}"))
        .collect()
}

fn memory(limit: i64, swap: Option<i64>) -> MemoryLimits {
    limits::memory(&Memory {
        limit: Some(limit),
        swap,
        ..Memory::default()
    })
    .unwrap()
}

#[test]
fn cpu_period_comes_before_quota_and_zeros_are_unset() {
    let cpu = Cpu {
        shares: Some(512),
        quota: Some(25_000),
        period: Some(50_000),
        ..Cpu::default()
    };
    let wanted = ["cpu.shares 512", "cpu.cfs_period_us 50000", "cpu.cfs_quota_us 25000"];
    assert_eq!(plain(&cpu_settings(&cpu).unwrap()), wanted);
    let cpu = Cpu {
        quota: Some(-1),
        ..Cpu::default()
    };
    assert_eq!(plain(&cpu_settings(&cpu).unwrap()), ["cpu.cfs_quota_us -1"]);
    let cpu = Cpu {
        shares: Some(0),
        quota: Some(0),
        period: Some(0),
        cpus: Some(String::new()),
        ..Cpu::default()
    };
    assert!(cpu_settings(&cpu).unwrap().is_empty() && cpuset_settings(&cpu).is_empty());
    let error = cpu_settings(&Cpu {
        quota: Some(-2),
        ..Cpu::default()
    })
    .unwrap_err();
    assert!(
        matches!(
            error,
            CgroupError::Value {
                what: "linux.resources.cpu.quota",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn memory_without_swap_means_no_swap() {
    let settings = memory_settings(memory(1000, None), Some(u64::MAX));
    assert_eq!(
        plain(&settings),
        ["memory.limit_in_bytes 1000", "memory.memsw.limit_in_bytes 1000"]
    );
    let settings = memory_settings(memory(1000, None), None);
    assert_eq!(
        plain(&settings),
        ["memory.limit_in_bytes 1000"],
        "where swap is not accounted"
    );
}

#[test]
fn the_order_keeps_limit_below_limit_with_swap_at_every_step() {
    let now = Some(1000);
    let lowered = memory_settings(memory(500, Some(800)), now);
    assert_eq!(
        plain(&lowered),
        ["memory.limit_in_bytes 500", "memory.memsw.limit_in_bytes 800"]
    );
    let raised = memory_settings(memory(2000, Some(3000)), now);
    assert_eq!(
        plain(&raised),
        ["memory.memsw.limit_in_bytes 3000", "memory.limit_in_bytes 2000"]
    );
    let lifted = memory_settings(memory(-1, None), now);
    assert_eq!(
        plain(&lifted),
        ["memory.memsw.limit_in_bytes -1", "memory.limit_in_bytes -1"]
    );
}

#[test]
fn swap_below_memory_is_refused() {
    for (limit, swap) in [(1000, 999), (-1, 5)] {
        let error = limits::memory(&Memory {
            limit: Some(limit),
            swap: Some(swap),
            ..Memory::default()
        })
        .unwrap_err();
        assert!(
            matches!(
                error,
                CgroupError::Value {
                    what: "linux.resources.memory.swap",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn device_rules_start_from_nothing_and_keep_their_order() {
    let device = |allow, kind: &str, numbers: [i64; 2], access: &str| Device {
        allow,
        kind: Some(kind.into()),
        major: Some(numbers[0]),
        minor: Some(numbers[1]),
        access: Some(access.into()),
    };
    let rules = [
        device(true, "c", [1, 3], "rwm"),
        device(true, "b", [-1, -1], "m"),
        device(false, "c", [10, 200], "rw"),
    ];
    let wanted = [
        "devices.deny a",
        "devices.allow c 1:3 rwm",
        "devices.allow b *:* m",
        "devices.deny c 10:200 rw",
    ];
    assert_eq!(plain(&device_settings(&rules).unwrap()), wanted);
    let all = Device {
        allow: true,
        kind: None,
        major: None,
        minor: None,
        access: None,
    };
    assert_eq!(
        plain(&device_settings(&[all]).unwrap()),
        ["devices.deny a", "devices.allow a *:* rwm"]
    );
}

#[test]
fn a_page_size_is_no_path() {
    let limit = |size: &str| HugepageLimit {
        page_size: size.into(),
        limit: 0,
    };
    assert_eq!(
        plain(&hugetlb_settings(&[limit("2MB")]).unwrap()),
        ["hugetlb.2MB.limit_in_bytes 0"]
    );
    for size in ["", "MB", "2", "../2MB", "2 MB", "2mb", "0x2MB"] {
        assert!(hugetlb_settings(&[limit(size)]).is_err(), "{size:?}");
    }
}
