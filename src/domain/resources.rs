//! Limits of a cgroup as the CRI states them (contract §6.5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// CRI `LinuxContainerResources`; `None` and empty mean "not set".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Length of the CPU quota's period in microseconds.
    pub cpu_period: Option<u64>,
    /// CPU time per period in microseconds; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// Relative CPU weight, in v1 shares (2..=262144).
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes; -1 is unlimited.
    pub memory_limit: Option<i64>,
    /// Limit of memory and swap together, in bytes; unset with a memory limit means no swap.
    pub memory_swap_limit: Option<i64>,
    /// -1000..=1000; 0 is a value, not an absence.
    pub oom_score_adj: i64,
    /// CPUs, in list format.
    pub cpuset_cpus: String,
    /// Memory nodes, in list format.
    pub cpuset_mems: String,
    /// Huge page limits: (page size as in `2MB`, bytes).
    pub hugepages: Vec<(String, u64)>,
    /// cgroup v2 files and their values, applied last.
    pub unified: BTreeMap<String, String>,
}
