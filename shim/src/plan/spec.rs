//! The OCI runtime spec (config.json), as far as the shim reads it. Own structs: the general crate triples the
//! resident memory. A field that is absent here is either informative or refused by name in `plan::refuse`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::cgroup::resources::Resources;

/// config.json.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    /// Version of the OCI runtime spec; every 1.x is understood.
    pub(crate) oci_version: String,
    /// What to run. Required to start, hence required here.
    pub(crate) process: Process,
    /// Where the rootfs is mounted or lies.
    pub(crate) root: Root,
    /// Host name in the container's UTS namespace.
    #[serde(default)]
    pub(crate) hostname: String,
    /// NIS domain name.
    #[serde(default)]
    pub(crate) domainname: String,
    /// In this order.
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    /// Hooks by kind; refused when any is named.
    #[serde(default)]
    pub(crate) hooks: BTreeMap<String, Vec<IgnoredAny>>,
    /// Free text of the caller; ours begin with `dev.copepod.`.
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// All that is particular to Linux.
    #[serde(default)]
    pub(crate) linux: Linux,
}

/// `root`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Root {
    /// Absolute, or relative to the bundle.
    pub(crate) path: String,
    /// Remount it read-only at the end.
    #[serde(default)]
    pub(crate) readonly: bool,
}

/// `process`, also the form of an exec.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    /// Give it a pseudo-terminal.
    #[serde(default)]
    pub(crate) terminal: bool,
    /// First size of the terminal.
    #[serde(default)]
    pub(crate) console_size: Option<ConsoleSize>,
    /// Ids.
    #[serde(default)]
    pub(crate) user: User,
    /// Program and arguments.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// `KEY=value`.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    /// Absolute.
    pub(crate) cwd: String,
    /// The five sets; absent = none of any.
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
    /// Resource limits.
    #[serde(default)]
    pub(crate) rlimits: Vec<Rlimit>,
    /// Set no_new_privs.
    #[serde(default)]
    pub(crate) no_new_privileges: bool,
    /// AppArmor profile; refused when named.
    #[serde(default)]
    pub(crate) apparmor_profile: String,
    /// SELinux label; refused when named.
    #[serde(default)]
    pub(crate) selinux_label: String,
    /// -1000 to 1000; absent = as the parent.
    #[serde(default)]
    pub(crate) oom_score_adj: Option<i32>,
    /// Refused.
    #[serde(default)]
    pub(crate) scheduler: Option<IgnoredAny>,
    /// Refused.
    #[serde(default)]
    pub(crate) io_priority: Option<IgnoredAny>,
    /// Refused.
    #[serde(default, rename = "execCPUAffinity")]
    pub(crate) exec_cpu_affinity: Option<IgnoredAny>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct ConsoleSize {
    /// Rows.
    pub(crate) height: u16,
    /// Columns.
    pub(crate) width: u16,
}

/// `process.user`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    /// User id inside the container.
    #[serde(default)]
    pub(crate) uid: u32,
    /// Primary group id.
    #[serde(default)]
    pub(crate) gid: u32,
    /// File mode creation mask; absent = 0022.
    #[serde(default)]
    pub(crate) umask: Option<u32>,
    /// Supplementary groups, exactly these.
    #[serde(default)]
    pub(crate) additional_gids: Vec<u32>,
}

/// `process.capabilities`, by name (`CAP_...`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    /// What an exec may ever give.
    pub(crate) bounding: Vec<String>,
    /// In force.
    pub(crate) effective: Vec<String>,
    /// Kept over an exec of a file with inheritable bits.
    pub(crate) inheritable: Vec<String>,
    /// May be put in force.
    pub(crate) permitted: Vec<String>,
    /// Kept over an exec by a user that is not root.
    pub(crate) ambient: Vec<String>,
}

/// One of `process.rlimits`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rlimit {
    /// `RLIMIT_...`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// In the limit's own unit; the largest u64 means unlimited.
    pub(crate) soft: u64,
    /// As `soft`.
    pub(crate) hard: u64,
}

/// One of `mounts`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    /// Absolute path in the container.
    pub(crate) destination: String,
    /// Filesystem type; empty or `bind` with a `bind` option.
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    /// Path on the host of a bind, else a name.
    #[serde(default)]
    pub(crate) source: String,
    /// As in fstab.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// Refused when not empty.
    #[serde(default)]
    pub(crate) uid_mappings: Vec<IgnoredAny>,
    /// Refused when not empty.
    #[serde(default)]
    pub(crate) gid_mappings: Vec<IgnoredAny>,
}

/// `linux`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    /// New ones and joined ones.
    pub(crate) namespaces: Vec<Namespace>,
    /// Refused when not empty.
    pub(crate) uid_mappings: Vec<IgnoredAny>,
    /// Refused when not empty.
    pub(crate) gid_mappings: Vec<IgnoredAny>,
    /// Device nodes beside the default ones.
    pub(crate) devices: Vec<Device>,
    /// Below each hierarchy's root.
    pub(crate) cgroups_path: String,
    /// Limits.
    pub(crate) resources: Option<Resources>,
    /// `shared`, `slave`, `private`, `unbindable`, with or without a leading `r`.
    pub(crate) rootfs_propagation: String,
    /// Verbatim: compiled only when the cache does not know it.
    pub(crate) seccomp: Option<Box<RawValue>>,
    /// Kernel parameters of the container's own namespaces.
    pub(crate) sysctl: BTreeMap<String, String>,
    /// Hidden paths.
    pub(crate) masked_paths: Vec<String>,
    /// Paths that are made read-only.
    pub(crate) readonly_paths: Vec<String>,
    /// SELinux label of mounts; refused when named.
    pub(crate) mount_label: String,
    /// Refused.
    pub(crate) intel_rdt: Option<IgnoredAny>,
    /// Refused.
    pub(crate) personality: Option<IgnoredAny>,
    /// Refused.
    pub(crate) memory_policy: Option<IgnoredAny>,
    /// Refused when not empty.
    pub(crate) net_devices: BTreeMap<String, IgnoredAny>,
    /// Refused when not empty.
    pub(crate) time_offsets: BTreeMap<String, IgnoredAny>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Namespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    /// A namespace file to join; empty = a new one.
    #[serde(default)]
    pub(crate) path: String,
}

/// Kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Interfaces, addresses, sockets.
    Network,
    /// The mount table.
    Mount,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Ids and capabilities.
    User,
    /// The view of the cgroup tree.
    Cgroup,
    /// Offsets of the clocks.
    Time,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// Absolute path in the container.
    pub(crate) path: String,
    /// `c`, `u` (the same), `b` or `p`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Major number.
    #[serde(default)]
    pub(crate) major: u32,
    /// Minor number.
    #[serde(default)]
    pub(crate) minor: u32,
    /// Permission bits; absent = 0666.
    #[serde(default)]
    pub(crate) file_mode: Option<u32>,
    /// Owner.
    #[serde(default)]
    pub(crate) uid: Option<u32>,
    /// Group.
    #[serde(default)]
    pub(crate) gid: Option<u32>,
}
