//! Limits as they hold, in the request's terms.

use copepod_proto::cri as wire;

use crate::domain::resources::Resources;

/// Limits of a container.
pub(super) fn encode(resources: &Resources) -> wire::LinuxContainerResources {
    let Resources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit,
        memory_swap_limit,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepages,
        unified,
    } = resources;
    let signed = |number: Option<u64>| i64::try_from(number.unwrap_or(0)).unwrap_or(i64::MAX);
    let hugepage = |(size, limit): &(String, u64)| wire::HugepageLimit {
        page_size: size.clone(),
        limit: *limit,
    };
    wire::LinuxContainerResources {
        cpu_period: signed(*cpu_period),
        cpu_quota: cpu_quota.unwrap_or(0),
        cpu_shares: signed(*cpu_shares),
        memory_limit_in_bytes: memory_limit.unwrap_or(0),
        oom_score_adj: *oom_score_adj,
        cpuset_cpus: cpuset_cpus.clone(),
        cpuset_mems: cpuset_mems.clone(),
        hugepage_limits: hugepages.iter().map(hugepage).collect(),
        unified: unified.clone(),
        memory_swap_limit_in_bytes: memory_swap_limit.unwrap_or(0),
    }
}
