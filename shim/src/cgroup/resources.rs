//! `linux.resources` of the OCI runtime spec (config-linux.md). Absent is "leave as it is"; what is not built is kept
//! as present-or-not, so that it can be refused by name instead of being ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Limits of one container's cgroup.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    /// Device rules, applied in order upon "nothing is allowed".
    pub(crate) devices: Vec<Device>,
    /// Memory and swap.
    pub(crate) memory: Option<Memory>,
    /// CPU time and placement.
    pub(crate) cpu: Option<Cpu>,
    /// Number of tasks.
    pub(crate) pids: Option<Pids>,
    /// One limit for each page size.
    pub(crate) hugepage_limits: Vec<HugepageLimit>,
    /// cgroup v2 file name to content, applied last.
    pub(crate) unified: BTreeMap<String, String>,
    /// Not built.
    #[serde(rename = "blockIO")]
    pub(crate) block_io: Option<IgnoredAny>,
    /// Not built.
    pub(crate) network: Option<IgnoredAny>,
    /// Not built.
    pub(crate) rdma: Option<IgnoredAny>,
}

/// A rule for device nodes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Device {
    /// Allow or deny.
    pub(crate) allow: bool,
    /// `a`, `c` or `b` (`u` is `c` by another name); absent is `a`.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Absent, or -1: every major number.
    pub(crate) major: Option<i64>,
    /// Absent, or -1: every minor number.
    pub(crate) minor: Option<i64>,
    /// Some of `r`, `w`, `m`; absent is all three.
    pub(crate) access: Option<String>,
}

/// Memory limits in bytes; -1 is no limit, 0 is unset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Memory {
    /// Hard limit.
    pub(crate) limit: Option<i64>,
    /// What is given back first under pressure down to.
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together.
    pub(crate) swap: Option<i64>,
    /// Not built.
    pub(crate) kernel: Option<IgnoredAny>,
    /// Not built.
    #[serde(rename = "kernelTCP")]
    pub(crate) kernel_tcp: Option<IgnoredAny>,
    /// Not built.
    pub(crate) swappiness: Option<IgnoredAny>,
    /// Not built, unless it is false.
    #[serde(rename = "disableOOMKiller")]
    pub(crate) disable_oom_killer: Option<bool>,
}

/// CPU time and placement.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Cpu {
    /// Relative weight on the v1 scale, 2 to 262144; 0 is unset.
    pub(crate) shares: Option<u64>,
    /// Microseconds per period; -1 is no limit, 0 is unset.
    pub(crate) quota: Option<i64>,
    /// Microseconds; 0 is unset.
    pub(crate) period: Option<u64>,
    /// List format of cpuset(7); empty is unset.
    pub(crate) cpus: Option<String>,
    /// List format of cpuset(7); empty is unset.
    pub(crate) mems: Option<String>,
    /// Not built.
    pub(crate) burst: Option<IgnoredAny>,
    /// Not built, unless it is 0.
    pub(crate) realtime_runtime: Option<i64>,
    /// Not built, unless it is 0.
    pub(crate) realtime_period: Option<u64>,
    /// Not built, unless it is 0.
    pub(crate) idle: Option<i64>,
}

/// Number of tasks.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pids {
    /// -1 is no limit, 0 is unset.
    pub(crate) limit: i64,
}

/// A limit for one huge page size.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HugepageLimit {
    /// Such as `2MB` or `1GB`.
    pub(crate) page_size: String,
    /// Bytes.
    pub(crate) limit: u64,
}
