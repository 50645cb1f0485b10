//! cgroup limits (contract §6.5). Zero and empty mean "not set" on the wire.

use std::collections::BTreeMap;

use copepod_proto::cri as wire;

use super::{invalid, quoted};
use crate::domain::error::Failure;
use crate::domain::resources::Resources;

/// What the kernel takes as a CPU period, in microseconds.
const PERIODS: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;

/// The kernel's own range of shares; it brings others to its ends silently.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// More CPUs, or memory nodes, than a Linux kernel can be built for: a bigger number is a mistake that would cost
/// memory (CVE-2018-20699).
const MAX_CPU: u32 = 8192;

/// Limits of a container or pod; a missing message sets none.
///
/// # Errors
/// Names the limit and its range.
pub(super) fn decode(field: &str, message: Option<wire::LinuxContainerResources>) -> Result<Resources, Failure> {
    let Some(message) = message else {
        return Ok(Resources::default());
    };
    let wire::LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes,
    } = message;
    let at = |name: &str| format!("{field}.{name}");
    if cpu_period != 0 && !PERIODS.contains(&cpu_period) {
        return Err(invalid(
            &at("cpu_period"),
            format!("is {cpu_period}"),
            "1000 to 1000000 µs are possible",
        ));
    }
    // The kernel takes no quota below a millisecond.
    if cpu_quota < -1 || (1..=999).contains(&cpu_quota) {
        return Err(invalid(
            &at("cpu_quota"),
            format!("is {cpu_quota}"),
            "give at least 1000 µs, or -1 for no limit",
        ));
    }
    if cpu_shares < 0 {
        return Err(invalid(
            &at("cpu_shares"),
            format!("is {cpu_shares}"),
            "2 to 262144 are possible",
        ));
    }
    if !(-1000..=1000).contains(&oom_score_adj) {
        return Err(invalid(
            &at("oom_score_adj"),
            format!("is {oom_score_adj}"),
            "-1000 to 1000 are possible",
        ));
    }
    let shares = |shares: u64| (shares != 0).then(|| shares.clamp(MIN_SHARES, MAX_SHARES));
    let memory_limit = bytes(&at("memory_limit_in_bytes"), memory_limit_in_bytes)?;
    let memory_swap_limit = bytes(&at("memory_swap_limit_in_bytes"), memory_swap_limit_in_bytes)?;
    if let (Some(swap), Some(memory)) = (memory_swap_limit, memory_limit)
        && swap > 0
        && swap < memory
    {
        let problem = format!("is {swap}, below the memory limit of {memory}");
        return Err(invalid(
            &at("memory_swap_limit_in_bytes"),
            problem,
            "it counts memory and swap together",
        ));
    }
    if memory_swap_limit.is_some_and(|swap| swap > 0) && memory_limit.is_none_or(|memory| memory <= 0) {
        return Err(invalid(
            &at("memory_swap_limit_in_bytes"),
            "is set without a memory limit",
            "it counts memory and swap together: set memory_limit_in_bytes too, or leave both 0",
        ));
    }
    Ok(Resources {
        cpu_period: u64::try_from(cpu_period).ok().filter(|period| *period != 0),
        cpu_quota: Some(cpu_quota).filter(|quota| *quota != 0),
        cpu_shares: u64::try_from(cpu_shares).ok().and_then(shares),
        memory_limit,
        memory_swap_limit,
        oom_score_adj,
        cpuset_cpus: cpus(&at("cpuset_cpus"), cpuset_cpus)?,
        cpuset_mems: cpus(&at("cpuset_mems"), cpuset_mems)?,
        hugepages: hugepages(&at("hugepage_limits"), hugepage_limits)?,
        unified: files(&at("unified"), unified)?,
    })
}

fn bytes(field: &str, bytes: i64) -> Result<Option<i64>, Failure> {
    match bytes {
        0 => Ok(None),
        limit if limit < -1 => Err(invalid(field, format!("is {limit}"), "give bytes, or -1 for no limit")),
        limit => Ok(Some(limit)),
    }
}

/// A list as in cpuset(7): numbers and ranges, such as `0-3,7`.
fn cpus(field: &str, list: String) -> Result<String, Failure> {
    let number = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|number| *number < MAX_CPU && !text.starts_with('+'))
    };
    let sound = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if list.is_empty() || (list.len() <= 64 * 1024 && list.split(',').all(sound)) {
        return Ok(list);
    }
    Err(invalid(
        field,
        format!("is {}", quoted(&list)),
        "give numbers and ranges below 8192, such as 0-3,7",
    ))
}

fn hugepages(field: &str, limits: Vec<wire::HugepageLimit>) -> Result<Vec<(String, u64)>, Failure> {
    let sound = |size: &str| {
        let digits = ["KB", "MB", "GB"].into_iter().find_map(|unit| size.strip_suffix(unit));
        size.len() <= 16
            && digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut decoded = Vec::new();
    for wire::HugepageLimit { page_size, limit } in limits {
        // It becomes a file name in the cgroup.
        if !sound(&page_size) {
            return Err(invalid(
                field,
                format!("has a page size {}", quoted(&page_size)),
                "write it as 2MB or 1GB",
            ));
        }
        decoded.push((page_size, limit));
    }
    Ok(decoded)
}

/// Files of a v2 cgroup and what to write to them.
fn files(field: &str, files: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    for (file, value) in &files {
        let named = file.len() <= 64 && file.contains('.') && !file.starts_with('.') && file.bytes().all(plain);
        // What moves processes or hands the cgroup out is the runtime's own business.
        if !named || file.starts_with("cgroup.") {
            let remedy = "name a controller's file, such as memory.high";
            return Err(invalid(field, format!("names a file {}", quoted(file)), remedy));
        }
        if value.len() > 4096 || value.chars().any(char::is_control) {
            return Err(invalid(
                field,
                format!("has an unusable value for {file}"),
                "give one line of text",
            ));
        }
    }
    Ok(files)
}
