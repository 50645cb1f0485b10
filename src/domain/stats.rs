//! Counters of containers, as the drivers read them and the wire tells them.

/// Counters of a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// When read, unix ns.
    pub at: i64,
    /// CPU time in ns.
    pub cpu_ns: u64,
    /// Memory in use, page cache included, bytes.
    pub memory_bytes: u64,
    /// Memory in use without inactive file pages.
    pub working_set_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Limit, when there is one.
    pub limit_bytes: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Major page faults.
    pub major_page_faults: u64,
    /// Swap in use and its limit.
    pub swap_bytes: Option<u64>,
    /// Processes.
    pub pids: u64,
}

/// Disk use of a writable layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// When it was measured, unix nanoseconds; 0 when it has not been yet.
    pub at: i64,
}
