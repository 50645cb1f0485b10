//! Counters of one cgroup, from as few files as hold them (CRI contract §10.1).

use std::fs;
use std::io;
use std::path::Path;

use super::CgroupError;
use crate::base::clock::Timestamp;
use crate::domain::stats::CgroupStats;

/// At or above this a v1 limit means none: the kernel shows the largest number of pages it can count.
const UNLIMITED: u64 = 1 << 62;

/// Reads a v1 cgroup from its three hierarchies. The `total_` numbers include the cgroups that the workload made below.
pub(super) fn v1(cpuacct: &Path, memory: &Path, pids: &Path) -> Result<CgroupStats, CgroupError> {
    let stat = Table::read(&memory.join("memory.stat"))?;
    let memory_bytes = number(&memory.join("memory.usage_in_bytes"))?;
    Ok(CgroupStats {
        at: Timestamp::now().as_nanos(),
        cpu_ns: number(&cpuacct.join("cpuacct.usage"))?,
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(stat.value("total_inactive_file").unwrap_or(0)),
        rss_bytes: stat.value("total_rss").unwrap_or(0),
        limit_bytes: stat
            .value("hierarchical_memory_limit")
            .filter(|limit| *limit < UNLIMITED),
        page_faults: stat.value("total_pgfault").unwrap_or(0),
        major_page_faults: stat.value("total_pgmajfault").unwrap_or(0),
        // Only there when the kernel accounts for swap.
        swap_bytes: stat.value("total_swap"),
        pids: number(&pids.join("pids.current"))?,
    })
}

/// Reads a v2 cgroup.
pub(super) fn v2(dir: &Path) -> Result<CgroupStats, CgroupError> {
    let cpu = Table::read(&dir.join("cpu.stat"))?;
    let stat = Table::read(&dir.join("memory.stat"))?;
    let memory_bytes = number(&dir.join("memory.current"))?;
    Ok(CgroupStats {
        at: Timestamp::now().as_nanos(),
        cpu_ns: cpu.value("usage_usec").unwrap_or(0).saturating_mul(1000),
        memory_bytes,
        working_set_bytes: memory_bytes.saturating_sub(stat.value("inactive_file").unwrap_or(0)),
        rss_bytes: stat.value("anon").unwrap_or(0),
        limit_bytes: limit(&dir.join("memory.max"))?,
        page_faults: stat.value("pgfault").unwrap_or(0),
        major_page_faults: stat.value("pgmajfault").unwrap_or(0),
        swap_bytes: if_there(number(&dir.join("memory.swap.current")))?,
        pids: number(&dir.join("pids.current"))?,
    })
}

/// A file of `name value` lines.
struct Table(String);

impl Table {
    fn read(path: &Path) -> Result<Self, CgroupError> {
        fs::read_to_string(path)
            .map(Self)
            .map_err(CgroupError::io("read", path))
    }

    fn value(&self, name: &str) -> Option<u64> {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.trim().parse().ok()
    }
}

fn number(path: &Path) -> Result<u64, CgroupError> {
    let text = fs::read_to_string(path).map_err(CgroupError::io("read", path))?;
    text.trim()
        .parse()
        .map_err(|_| CgroupError::NotANumber { path: path.to_owned() })
}

fn limit(path: &Path) -> Result<Option<u64>, CgroupError> {
    let text = fs::read_to_string(path).map_err(CgroupError::io("read", path))?;
    match text.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| CgroupError::NotANumber { path: path.to_owned() }),
    }
}

fn if_there(value: Result<u64, CgroupError>) -> Result<Option<u64>, CgroupError> {
    match value {
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
