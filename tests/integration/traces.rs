//! What a daemon has on the host outside of its own files: the "nothing left" of yardstick §3 as a set that can be
//! compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Lines that each name one thing of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// Everything that belongs to the daemon whose files are below `top`.
    pub(crate) fn of(top: &Path, bridge: &str) -> Self {
        let mut found = BTreeSet::new();
        mounts(top, &mut found);
        processes(top, &mut found);
        cgroups(top, &mut found);
        names(
            "/var/run/netns",
            "netns",
            |name| name.starts_with("copepod-"),
            &mut found,
        );
        ports(bridge, &mut found);
        files(top, &mut found);
        Self(found)
    }

    /// What is here and was not in `before`.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// Whether a line contains `text`.
    pub(crate) fn mention(&self, text: &str) -> bool {
        self.0.iter().any(|line| line.contains(text))
    }
}

/// Mounts of pods and containers. The directories of pins and pods' files and the shim's binary are mounts of the
/// daemon's own: they stay with it.
fn mounts(top: &Path, found: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for target in table.lines().filter_map(|line| line.split(' ').nth(4)) {
        let below = Path::new(target).strip_prefix(top);
        if below.is_ok_and(|path| path.components().count() > 2 && !path.starts_with("state/bin")) {
            found.insert(format!("mount {target}"));
        }
    }
}

/// Shims and their log writers name their bundle on the command line.
fn processes(top: &Path, found: &mut BTreeSet<String>) {
    let top = top.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(cmdline) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        let names_us = cmdline.windows(top.len()).any(|window| window == top);
        if names_us && text.contains("containerd-shim-copepod") {
            found.insert(format!("process {} {text}", entry.file_name().to_string_lossy()));
        }
    }
}

/// Cgroups below the parent that the test's pods name, in every hierarchy. The parent itself is the client's.
fn cgroups(top: &Path, found: &mut BTreeSet<String>) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let mut left = vec![hierarchy.path().join(cgroup_parent(top).trim_start_matches('/'))];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.insert(format!("cgroup {}", entry.path().display()));
                    left.push(entry.path());
                }
            }
        }
    }
}

/// The cgroup parent of a test's pods: its own, as kubelet's pods have.
pub(crate) fn cgroup_parent(top: &Path) -> String {
    format!("/{}", top.file_name().unwrap().to_string_lossy())
}

/// Removes the parent, as kubelet does after its pod; empty by then.
pub(crate) fn remove_cgroup_parent(top: &Path) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _not_in_every_hierarchy = fs::remove_dir(hierarchy.path().join(cgroup_parent(top).trim_start_matches('/')));
    }
}

fn ports(bridge: &str, found: &mut BTreeSet<String>) {
    names(&format!("/sys/class/net/{bridge}/brif"), "bridge port", |_| true, found);
}

/// Per-object files: bundles, pods' files, pins, writable layers.
fn files(top: &Path, found: &mut BTreeSet<String>) {
    for dir in ["state/c", "state/p", "state/ns", "root/snapshots", "root/ingest"] {
        names(top.join(dir).to_str().unwrap(), dir, |_| true, found);
    }
}

fn names(dir: &str, what: &str, wanted: impl Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted(&name) {
            found.insert(format!("{what} {name}"));
        }
    }
}
