//! Limits in the words of cgroup v2: one directory, controllers enabled on the way down.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::device;
use super::error::CgroupError;
use super::file::{Setting, read, read_if_there, try_write, write, write_all};
use super::limits::{self, Limit, MemoryLimits, Note, nonzero, set};
use super::resources::{Cpu, HugepageLimit, Resources};

/// Controllers that a container has, where the host has them. Those without a limit are for accounting.
const WANTED: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "hugetlb", "io"];

/// Enables the controllers in `root` and every directory below it down to the parent of `leaf`, never in `leaf`: a
/// cgroup with processes and enabled controllers cannot be joined.
pub(super) fn enable_controllers(root: &Path, leaf: &Path) -> Result<(), CgroupError> {
    let mut parents: Vec<&Path> = leaf.ancestors().skip(1).take_while(|dir| *dir != root).collect();
    parents.push(root);
    for dir in parents.into_iter().rev() {
        let available = read(&dir.join("cgroup.controllers"))?;
        let file = dir.join("cgroup.subtree_control");
        let enabled = read(&file)?;
        let has = |list: &str, name: &str| list.split(' ').any(|listed| listed == name);
        for controller in WANTED
            .into_iter()
            .filter(|name| has(&available, name) && !has(&enabled, name))
        {
            // One by one: a cpuset that cannot be enabled must not keep memory from it.
            let done = try_write(&file, &format!("+{controller}"));
            done.map_err(|source| CgroupError::Enable {
                controller: controller.into(),
                path: dir.into(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Applies the limits to the container's directory.
pub(super) fn apply(dir: &Path, resources: &Resources) -> Result<BTreeSet<Note>, CgroupError> {
    let mut notes = BTreeSet::new();
    let available = read(&dir.join("cgroup.controllers"))?;
    let put = |controller: &'static str, what: &'static str, settings: &[Setting]| {
        if settings.is_empty() {
            return Ok(());
        }
        if !available.split(' ').any(|name| name == controller) {
            return Err(CgroupError::NoController { what, controller });
        }
        write_all(dir, settings)
    };
    if let Some(cpu) = &resources.cpu {
        put("cpu", "linux.resources.cpu", &cpu_settings(cpu)?)?;
        put("cpuset", "linux.resources.cpu", &cpuset_settings(cpu))?;
    }
    if let Some(memory) = &resources.memory {
        let limits = limits::memory(memory)?;
        let swap = read_if_there(&dir.join("memory.swap.max"))?;
        if swap.is_none() && limits.with_swap.is_some() {
            notes.insert(Note::SwapUnlimited);
        }
        put(
            "memory",
            "linux.resources.memory",
            &memory_settings(limits, swap.is_some().into()),
        )?;
    }
    if let Some(limit) = limits::pids(resources)? {
        put(
            "pids",
            "linux.resources.pids",
            &[Setting::new("pids.max", limit.or("max"))],
        )?;
    }
    if !resources.hugepage_limits.is_empty() {
        let settings = hugetlb_settings(dir, &resources.hugepage_limits)?;
        match put("hugetlb", "linux.resources.hugepageLimits", &settings) {
            Err(CgroupError::NoController { .. }) => drop(notes.insert(Note::HugepagesUnlimited)),
            other => other?,
        }
    }
    if !resources.devices.is_empty() {
        device::confine(dir, &resources.devices)?;
    }
    apply_unified(dir, resources)?;
    Ok(notes)
}

/// Shares 2..262144 to weight 1..10000, linear, as kubelet converts a pod's own.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn cpu_settings(cpu: &Cpu) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    if let Some(shares) = nonzero(cpu.shares) {
        settings.push(Setting::new("cpu.weight", weight(shares)));
    }
    let quota = limits::quota(cpu)?.map(|quota| quota.or("max"));
    // "quota" alone keeps the period; a period alone needs the word for no quota, which is what a new cgroup has.
    let max = match (quota, nonzero(cpu.period)) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (None, Some(period)) => Some(format!("max {period}")),
        (quota, None) => quota,
    };
    settings.extend(max.map(|max| Setting::new("cpu.max", max)));
    Ok(settings)
}

fn cpuset_settings(cpu: &Cpu) -> Vec<Setting> {
    let cpus = set(cpu.cpus.as_ref()).map(|cpus| Setting::new("cpuset.cpus", cpus));
    let mems = set(cpu.mems.as_ref()).map(|mems| Setting::new("cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}

/// Whether the kernel accounts swap here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    Counted,
    Missing,
}

impl From<bool> for Swap {
    fn from(counted: bool) -> Self {
        if counted { Self::Counted } else { Self::Missing }
    }
}

fn memory_settings(limits: MemoryLimits, swap: Swap) -> Vec<Setting> {
    let mut settings = Vec::new();
    // v2 limits swap alone, the spec both together.
    let swap_max = match (limits.with_swap, limits.limit) {
        (Some(Limit::At(with_swap)), Some(Limit::At(limit))) => Some((with_swap - limit).to_string()),
        (Some(Limit::Unlimited), _) => Some("max".to_owned()),
        // Together with what memory limit? Unknown here, so swap alone gets the number: never more than was meant.
        (Some(Limit::At(with_swap)), Some(Limit::Unlimited) | None) => Some(with_swap.to_string()),
        (None, _) => None,
    };
    if swap == Swap::Counted {
        settings.extend(swap_max.map(|max| Setting::new("memory.swap.max", max)));
    }
    settings.extend(limits.limit.map(|limit| Setting::new("memory.max", limit.or("max"))));
    settings.extend(
        limits
            .reservation
            .map(|limit| Setting::new("memory.low", limit.or("max"))),
    );
    settings
}

fn hugetlb_settings(dir: &Path, limits: &[HugepageLimit]) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    for limit in limits {
        let size = limits::page_size(limit)?;
        settings.push(Setting::new(format!("hugetlb.{size}.max"), limit.limit));
        // Reservations are counted apart since 5.7; without this limit a mapping could reserve what it may not use.
        let reserved = format!("hugetlb.{size}.rsvd.max");
        if read_if_there(&dir.join(&reserved))?.is_some() {
            settings.push(Setting::new(reserved, limit.limit));
        }
    }
    Ok(settings)
}

fn apply_unified(dir: &Path, resources: &Resources) -> Result<(), CgroupError> {
    for (file, value) in &resources.unified {
        check_unified(file)?;
        let path = dir.join(file);
        // Files such as io.max take one line a write.
        for line in value.lines() {
            write(&path, line).map_err(explain_missing)?;
        }
    }
    Ok(())
}

/// Turns "no such file" into what it means for a file named by the user.
fn explain_missing(error: CgroupError) -> CgroupError {
    if let CgroupError::Write { path, source, .. } = &error
        && source.kind() == io::ErrorKind::NotFound
    {
        return CgroupError::Value {
            what: "linux.resources.unified",
            value: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            allowed: "a file of a controller that this host has",
        };
    }
    error
}

/// `controller.name[.more]`: no path, and nothing of `cgroup.`, which moves, kills or freezes processes.
fn check_unified(file: &str) -> Result<(), CgroupError> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let parts: Vec<&str> = file.split('.').collect();
    if parts.len() < 2 || !parts.iter().all(|name| part(name)) || parts.first() == Some(&"cgroup") {
        return Err(CgroupError::Value {
            what: "linux.resources.unified",
            value: file.to_owned(),
            allowed: "the name of a controller's file, such as memory.high",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
