use super::*;

#[test]
fn q13_resources() {
    invalid_field(limited_with(|limits| limits.cpu_period = 999), "cpu_period");
    invalid_field(limited_with(|limits| limits.cpu_period = -1), "cpu_period");
    invalid_field(limited_with(|limits| limits.cpu_quota = -2), "cpu_quota");
    invalid_field(limited_with(|limits| limits.cpu_quota = 10), "cpu_quota");
    invalid_field(limited_with(|limits| limits.cpu_shares = -1), "cpu_shares");
    invalid_field(
        limited_with(|limits| limits.memory_limit_in_bytes = -2),
        "memory_limit_in_bytes",
    );
    invalid_field(
        limited_with(|limits| limits.memory_swap_limit_in_bytes = i64::MIN),
        "memory_swap_limit_in_bytes",
    );
    invalid_field(limited_with(|limits| limits.oom_score_adj = 1001), "oom_score_adj");
    invalid_field(limited_with(|limits| limits.oom_score_adj = -1001), "oom_score_adj");
    let swap = limited_with(|limits| {
        (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes) = (100, 50);
    });
    invalid_field(swap, "memory_swap_limit_in_bytes");
    for size in ["", "2", "MB", "2mb", "../2MB", "2MB/x"] {
        let limits = vec![wire::HugepageLimit {
            page_size: size.into(),
            limit: 0,
        }];
        invalid_field(
            limited_with(|resources| resources.hugepage_limits = limits),
            "hugepage_limits",
        );
    }
    for file in [
        "",
        "memory",
        "../memory.max",
        "memory.max/x",
        "cgroup.procs",
        ".x",
        "MEMORY.MAX",
        "a.b\n",
    ] {
        let unified = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
        invalid_field(limited_with(|limits| limits.unified = unified), "unified");
    }
    let spec = limited_with(|limits| (limits.cpu_shares, limits.cpu_quota) = (1, -1)).unwrap();
    assert_eq!(
        (spec.resources.cpu_shares, spec.resources.cpu_quota),
        (Some(2), Some(-1))
    );
    assert_eq!(
        limited_with(|limits| limits.cpu_shares = i64::MAX)
            .unwrap()
            .resources
            .cpu_shares,
        Some(262_144)
    );
    assert_eq!(create(container()).unwrap().resources, Default::default());
}

#[test]
fn cve_2018_20699_cpusets_are_checked_without_being_expanded() {
    let cpus = |list: &str| limited_with(|limits| limits.cpuset_cpus = list.into());
    let begun = std::time::Instant::now();
    for bad in [
        "0-2147483647",
        "1-0",
        ",",
        "0,",
        "a",
        "-1",
        "+1",
        "0-1-2",
        "0 1",
        "8192",
        " ",
    ] {
        invalid_field(cpus(bad), "cpuset_cpus");
        invalid_field(limited_with(|limits| limits.cpuset_mems = bad.into()), "cpuset_mems");
    }
    assert!(begun.elapsed() < std::time::Duration::from_millis(500));
    for good in ["", "0", "0-3,7", "8191"] {
        assert!(cpus(good).is_ok(), "{good}");
    }
}
