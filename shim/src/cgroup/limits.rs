//! What the two cgroup versions have in common in reading `linux.resources`: refusing what is not built, checking
//! numbers, and resolving "unset".

use super::error::CgroupError;
use super::resources::{Cpu, HugepageLimit, Memory, Resources};

/// What could not be done and does not stop the container; for the caller to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    /// No hugetlb controller: huge pages are not limited.
    HugepagesUnlimited,
    /// Swap is not accounted by this kernel: a memory limit does not bound swap.
    SwapUnlimited,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::HugepagesUnlimited => "huge pages are not limited: the kernel has no hugetlb controller here",
            Self::SwapUnlimited => "swap is not limited: the kernel does not account it",
        })
    }
}

/// A limit that may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The spec's -1.
    Unlimited,
    /// Units of the thing limited.
    At(u64),
}

impl Limit {
    /// OCI's signed numbers: absent and 0 are unset, -1 is unlimited.
    fn parse(what: &'static str, number: Option<i64>) -> Result<Option<Self>, CgroupError> {
        match number {
            None | Some(0) => Ok(None),
            Some(-1) => Ok(Some(Self::Unlimited)),
            Some(number) => u64::try_from(number)
                .map(|at| Some(Self::At(at)))
                .map_err(|_| CgroupError::Value {
                    what,
                    value: number.to_string(),
                    allowed: "a positive number, 0 for unset or -1 for no limit",
                }),
        }
    }

    /// In the words of the cgroup files of this version.
    pub(crate) fn or(self, unlimited: &str) -> String {
        match self {
            Self::Unlimited => unlimited.to_owned(),
            Self::At(at) => at.to_string(),
        }
    }
}

/// Memory limits after the rules: what is asked for, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MemoryLimits {
    /// Bytes.
    pub(crate) limit: Option<Limit>,
    /// Bytes of memory and swap together.
    pub(crate) with_swap: Option<Limit>,
    /// Bytes.
    pub(crate) reservation: Option<Limit>,
}

/// Resolves memory limits. A memory limit without one for swap means no swap: the workload's limit is what its
/// owner wrote, not twice of it (CRI contract §6.5).
pub(crate) fn memory(memory: &Memory) -> Result<MemoryLimits, CgroupError> {
    let limit = Limit::parse("linux.resources.memory.limit", memory.limit)?;
    let asked = Limit::parse("linux.resources.memory.swap", memory.swap)?;
    let reservation = Limit::parse("linux.resources.memory.reservation", memory.reservation)?;
    if let (Some(Limit::At(with_swap)), Some(limit)) = (asked, limit)
        && (limit == Limit::Unlimited || matches!(limit, Limit::At(limit) if limit > with_swap))
    {
        return Err(CgroupError::Value {
            what: "linux.resources.memory.swap",
            value: with_swap.to_string(),
            allowed: "memory and swap together, so at least the memory limit",
        });
    }
    Ok(MemoryLimits {
        limit,
        with_swap: asked.or(limit),
        reservation,
    })
}

/// CPU quota in microseconds per period.
pub(crate) fn quota(cpu: &Cpu) -> Result<Option<Limit>, CgroupError> {
    Limit::parse("linux.resources.cpu.quota", cpu.quota)
}

/// Number of tasks.
pub(crate) fn pids(resources: &Resources) -> Result<Option<Limit>, CgroupError> {
    Limit::parse(
        "linux.resources.pids.limit",
        resources.pids.as_ref().map(|pids| pids.limit),
    )
}

/// A page size becomes part of a file name, so it must be one: digits and KB, MB or GB.
pub(crate) fn page_size(limit: &HugepageLimit) -> Result<&str, CgroupError> {
    let size = limit.page_size.as_str();
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    match number {
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => Ok(size),
        Some(_) | None => Err(CgroupError::Value {
            what: "linux.resources.hugepageLimits.pageSize",
            value: size.to_owned(),
            allowed: "a number and KB, MB or GB, such as 2MB",
        }),
    }
}

/// A text that is set, with empty for unset.
pub(crate) fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A number that is set, with 0 for unset.
pub(crate) fn nonzero(number: Option<u64>) -> Option<u64> {
    number.filter(|number| *number != 0)
}

/// Refuses by name what a spec may ask for and nobody would carry out.
pub(crate) fn refuse_what_is_not_built(resources: &Resources) -> Result<(), CgroupError> {
    let memory = resources.memory.as_ref();
    let cpu = resources.cpu.as_ref();
    let asked = [
        ("linux.resources.blockIO", resources.block_io.is_some()),
        ("linux.resources.network", resources.network.is_some()),
        ("linux.resources.rdma", resources.rdma.is_some()),
        (
            "linux.resources.memory.kernel",
            memory.is_some_and(|memory| memory.kernel.is_some()),
        ),
        (
            "linux.resources.memory.kernelTCP",
            memory.is_some_and(|memory| memory.kernel_tcp.is_some()),
        ),
        (
            "linux.resources.memory.swappiness",
            memory.is_some_and(|memory| memory.swappiness.is_some()),
        ),
        (
            "linux.resources.memory.disableOOMKiller",
            memory.and_then(|memory| memory.disable_oom_killer) == Some(true),
        ),
        ("linux.resources.cpu.burst", cpu.is_some_and(|cpu| cpu.burst.is_some())),
        (
            "linux.resources.cpu.realtimeRuntime",
            cpu.and_then(|cpu| cpu.realtime_runtime).unwrap_or(0) != 0,
        ),
        (
            "linux.resources.cpu.realtimePeriod",
            cpu.and_then(|cpu| cpu.realtime_period).unwrap_or(0) != 0,
        ),
        (
            "linux.resources.cpu.idle",
            cpu.and_then(|cpu| cpu.idle).unwrap_or(0) != 0,
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(CgroupError::NotBuilt { what }),
        None => Ok(()),
    }
}
