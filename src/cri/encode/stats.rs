//! Counters of containers (contract §10.1). What is not known is left out: kubelet takes a 0 for a measurement.

use copepod_proto::cri as wire;

use super::container;
use crate::ops::answer::{FsInfo, Stats};

/// A container's counters; `store` is where writable layers are.
pub(in crate::cri) fn container_stats(stats: &Stats, store: Option<&FsInfo>) -> wire::ContainerStats {
    let (container, cgroup) = (&stats.container, &stats.cgroup);
    wire::ContainerStats {
        attributes: Some(wire::ContainerAttributes {
            id: container.id.to_string(),
            metadata: Some(container::metadata(&container.spec.metadata)),
            labels: container.spec.labels.clone(),
            annotations: container.spec.annotations.clone(),
        }),
        cpu: Some(wire::CpuUsage {
            timestamp: cgroup.at,
            usage_core_nano_seconds: number(cgroup.cpu_ns),
            // A rate needs two samples: kubelet makes it from the counter.
            usage_nano_cores: None,
            psi: None,
        }),
        memory: Some(memory(stats)),
        writable_layer: writable(stats, store),
        swap: cgroup.swap_bytes.map(|bytes| wire::SwapUsage {
            timestamp: cgroup.at,
            swap_available_bytes: None,
            swap_usage_bytes: number(bytes),
        }),
        io: None,
    }
}

fn memory(stats: &Stats) -> wire::MemoryUsage {
    let cgroup = &stats.cgroup;
    let available = cgroup
        .limit_bytes
        .map(|limit| limit.saturating_sub(cgroup.working_set_bytes));
    wire::MemoryUsage {
        timestamp: cgroup.at,
        working_set_bytes: number(cgroup.working_set_bytes),
        available_bytes: available.and_then(number),
        usage_bytes: number(cgroup.memory_bytes),
        rss_bytes: number(cgroup.rss_bytes),
        page_faults: number(cgroup.page_faults),
        major_page_faults: number(cgroup.major_page_faults),
        psi: None,
    }
}

/// Missing until it was measured for the first time.
fn writable(stats: &Stats, store: Option<&FsInfo>) -> Option<wire::FilesystemUsage> {
    let layer = &stats.layer;
    let mountpoint = store?.mountpoint.display().to_string();
    (layer.at != 0).then_some(wire::FilesystemUsage {
        timestamp: layer.at,
        fs_id: Some(wire::FilesystemIdentifier { mountpoint }),
        used_bytes: number(layer.bytes),
        inodes_used: number(layer.inodes),
    })
}

#[allow(clippy::unnecessary_wraps, reason = "the wire's way to say that a number is there")]
fn number(value: u64) -> Option<wire::UInt64Value> {
    Some(wire::UInt64Value { value })
}
