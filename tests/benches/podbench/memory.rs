//! Weighs a runtime's processes with many idle containers: proportional set size, so that shared pages count once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::BenchError;
use crate::pod::{Client, Endpoint, read_text};
use crate::sample::{Sample, Weight, append};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) endpoint: Endpoint,
    pub(crate) pods: usize,
    pub(crate) idle: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Scales {
    pss: u64,
    daemon: u64,
    available: u64,
}

/// Measures and appends to `results`; the pods are gone afterwards.
pub(crate) async fn measure(results: &Path, plan: &Plan) -> Result<(), BenchError> {
    let mut client = Client::open(&plan.endpoint).await?;
    // One whole life first, so that what is loaded at the first pod does not count as the pods' weight.
    let (first, _) = client.start(u64::MAX).await?;
    client.exec(&first).await?;
    client.end(first).await?;
    tokio::time::sleep(plan.idle.min(Duration::from_secs(10))).await;
    let before = weigh(&plan.endpoint, client.cgroup())?;
    let mut running = Vec::new();
    for serial in 0..plan.pods as u64 {
        running.push(client.start(serial).await?.0);
    }
    tokio::time::sleep(plan.idle).await;
    let after = weigh(&plan.endpoint, client.cgroup())?;
    for pod in running {
        client.end(pod).await?;
    }
    append(
        results,
        &Sample::Memory(Weight {
            endpoint: plan.endpoint.name.clone(),
            pods: plan.pods,
            pss_before: before.pss,
            pss_after: after.pss,
            daemon_before: before.daemon,
            daemon_after: after.daemon,
            available_before: before.available,
            available_after: after.available,
        }),
    )
}

fn weigh(endpoint: &Endpoint, cgroup: &str) -> Result<Scales, BenchError> {
    let daemon = read_text(endpoint.dir.join("daemon.pid"))?.trim().to_owned();
    let data = read_text(endpoint.dir.join("data"))?.trim().to_owned();
    let run = endpoint.dir.display().to_string();
    let mut pss = 0;
    let entries = std::fs::read_dir("/proc").map_err(|source| BenchError::Read {
        path: PathBuf::from("/proc"),
        source,
    })?;
    for entry in entries.flatten() {
        let dir = entry.path();
        let ours = entry.file_name().to_string_lossy() == daemon.as_str() || belongs(&dir, &[&run, &data], cgroup);
        if ours {
            // A process that ended meanwhile weighs nothing.
            let rollup = std::fs::read_to_string(dir.join("smaps_rollup")).unwrap_or_default();
            pss += kibibytes(&rollup, "Pss:").unwrap_or(0);
        }
    }
    Ok(Scales {
        pss,
        daemon: number(PathBuf::from(format!("/proc/{daemon}/status")), "VmRSS:")?,
        available: number(PathBuf::from("/proc/meminfo"), "MemAvailable:")?,
    })
}

/// Whether a process is the runtime's: it names the runtime's directories (shims do, and are run from there), or it lies
/// in a pod's cgroup and is not the pod's own program. Another runtime's shims are not counted.
fn belongs(dir: &Path, directories: &[&str], cgroup: &str) -> bool {
    let text = |file: &str| String::from_utf8_lossy(&std::fs::read(dir.join(file)).unwrap_or_default()).into_owned();
    let command = text("cmdline");
    let in_pod = text("cgroup").contains(&format!("{cgroup}/"));
    directories.iter().any(|directory| command.contains(directory)) || (in_pod && text("comm").trim() != "sleep")
}

fn number(path: PathBuf, what: &'static str) -> Result<u64, BenchError> {
    let text = read_text(path.clone())?;
    kibibytes(&text, what).ok_or(BenchError::Number { path, what })
}

/// The number behind `key` in a file of `Key:   123 kB` lines.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}
