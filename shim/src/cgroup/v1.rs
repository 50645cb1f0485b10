//! Limits in the words of cgroup v1: one directory in each hierarchy.

use std::collections::BTreeSet;
use std::path::Path;

use super::Directory;
use super::device::Rule;
use super::error::CgroupError;
use super::file::{Setting, read, read_if_there, try_write, write, write_all};
use super::limits::{self, Limit, MemoryLimits, Note, nonzero, set};
use super::resources::{Cpu, Device, HugepageLimit, Resources};

/// Applies the limits to the container's directories.
pub(super) fn apply(directories: &[Directory], resources: &Resources) -> Result<BTreeSet<Note>, CgroupError> {
    if !resources.unified.is_empty() {
        return Err(CgroupError::NeedsV2 {
            what: "linux.resources.unified",
        });
    }
    let mut notes = BTreeSet::new();
    if let Some(cpu) = &resources.cpu {
        let settings = cpu_settings(cpu)?;
        put(directories, "cpu", "linux.resources.cpu", &settings)?;
        put(directories, "cpuset", "linux.resources.cpu", &cpuset_settings(cpu))?;
    }
    if let Some(memory) = &resources.memory {
        let limits = limits::memory(memory)?;
        if limits != MemoryLimits::default() {
            let dir = find(directories, "memory", "linux.resources.memory")?;
            let with_swap = read_if_there(&dir.join(WITH_SWAP))?;
            if with_swap.is_none() && limits.with_swap.is_some() {
                notes.insert(Note::SwapUnlimited);
            }
            write_all(
                dir,
                &memory_settings(limits, with_swap.and_then(|text| text.parse().ok())),
            )?;
        }
    }
    if let Some(limit) = limits::pids(resources)? {
        put(
            directories,
            "pids",
            "linux.resources.pids",
            &[Setting::new("pids.max", limit.or("max"))],
        )?;
    }
    if !resources.hugepage_limits.is_empty() {
        let settings = hugetlb_settings(&resources.hugepage_limits)?;
        match find(directories, "hugetlb", "linux.resources.hugepageLimits") {
            Ok(dir) => write_all(dir, &settings)?,
            Err(_) => drop(notes.insert(Note::HugepagesUnlimited)),
        }
    }
    if !resources.devices.is_empty() {
        put(
            directories,
            "devices",
            "linux.resources.devices",
            &device_settings(&resources.devices)?,
        )?;
    }
    Ok(notes)
}

const LIMIT: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

fn put(
    directories: &[Directory],
    controller: &'static str,
    what: &'static str,
    settings: &[Setting],
) -> Result<(), CgroupError> {
    if settings.is_empty() {
        return Ok(());
    }
    write_all(find(directories, controller, what)?, settings)
}

fn find<'d>(
    directories: &'d [Directory],
    controller: &'static str,
    what: &'static str,
) -> Result<&'d Path, CgroupError> {
    directories
        .iter()
        .find(|directory| directory.has(controller))
        .map(|directory| directory.path.as_path())
        .ok_or(CgroupError::NoController { what, controller })
}

fn cpu_settings(cpu: &Cpu) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    if let Some(shares) = nonzero(cpu.shares) {
        settings.push(Setting::new("cpu.shares", shares));
    }
    if let Some(period) = nonzero(cpu.period) {
        settings.push(Setting::new("cpu.cfs_period_us", period));
    }
    // After the period: the kernel checks their ratio against the parent's at each write, and a new cgroup has no
    // quota yet.
    if let Some(quota) = limits::quota(cpu)? {
        settings.push(Setting::new("cpu.cfs_quota_us", quota.or("-1")));
    }
    Ok(settings)
}

fn cpuset_settings(cpu: &Cpu) -> Vec<Setting> {
    let cpus = set(cpu.cpus.as_ref()).map(|cpus| Setting::new("cpuset.cpus", cpus));
    let mems = set(cpu.mems.as_ref()).map(|mems| Setting::new("cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}

/// The kernel wants limit ≤ limit with swap after each single write, so the order depends on what holds now
/// (`with_swap_now`, bytes; `None` where swap is not accounted).
fn memory_settings(limits: MemoryLimits, with_swap_now: Option<u64>) -> Vec<Setting> {
    let limit = limits.limit.map(|limit| Setting::new(LIMIT, limit.or("-1")));
    let with_swap = limits.with_swap.map(|limit| Setting::new(WITH_SWAP, limit.or("-1")));
    let mut settings: Vec<Setting> = match (limit, with_swap, with_swap_now) {
        (limit, _, None) => limit.into_iter().collect(),
        (limit, with_swap, Some(now)) => {
            let raises = match limits.limit {
                Some(Limit::Unlimited) => true,
                Some(Limit::At(at)) => at > now,
                None => false,
            };
            if raises {
                with_swap.into_iter().chain(limit).collect()
            } else {
                limit.into_iter().chain(with_swap).collect()
            }
        }
    };
    settings.extend(
        limits
            .reservation
            .map(|limit| Setting::new("memory.soft_limit_in_bytes", limit.or("-1"))),
    );
    settings
}

fn hugetlb_settings(limits: &[HugepageLimit]) -> Result<Vec<Setting>, CgroupError> {
    let setting = |limit: &HugepageLimit| {
        limits::page_size(limit).map(|size| Setting::new(format!("hugetlb.{size}.limit_in_bytes"), limit.limit))
    };
    limits.iter().map(setting).collect()
}

fn device_settings(devices: &[Device]) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = vec![Setting::new("devices.deny", "a")];
    for device in devices {
        let (file, text) = Rule::parse(device)?.text();
        settings.push(Setting::new(file, text));
    }
    Ok(settings)
}

/// Gives a new cpuset cgroup its parents' CPUs and memory nodes: a new one is empty and takes no process
/// (`cgroup.clone_children` is 0). `root` is the hierarchy's mount point, `leaf` lies below it.
pub(super) fn seed_cpuset(root: &Path, leaf: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // Upwards to the first that has a value; the root always has one.
        let empty: Vec<&Path> = leaf
            .ancestors()
            .take_while(|dir| *dir != root)
            .map_while(|dir| match read(&dir.join(file)) {
                Ok(value) if value.is_empty() => Some(Ok(dir)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            })
            .collect::<Result<_, _>>()?;
        for dir in empty.into_iter().rev() {
            let parent = dir.parent().unwrap_or(root);
            let value = read(&parent.join(file))?;
            write(&dir.join(file), &value)?;
        }
    }
    Ok(())
}

/// A frozen process does not die of SIGKILL. Best effort: what stays frozen shows as still alive.
pub(super) fn thaw(dir: &Path) {
    drop(try_write(&dir.join("freezer.state"), "THAWED"));
}

#[cfg(test)]
mod tests;
