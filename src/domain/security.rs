//! Identity and confinement of pods and containers (CRI contract §5.4, §6.1–6.3).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A security profile as the request chooses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The runtime's own; what an empty message means.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile of the node: absolute path (seccomp) or name (AppArmor).
    Localhost(String),
}

/// Privileged containers see the host's devices and keep every capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privilege {
    /// Confined.
    Ordinary,
    /// Everything the daemon itself may do.
    Privileged,
}

/// Kernel parameters by dotted or slashed name.
pub type Sysctls = BTreeMap<String, String>;

/// Security of the sandbox itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSecurity {
    /// Containers of this pod may be privileged.
    pub privilege: Privilege,
    /// User of the pod's init, if it has one.
    pub identity: Identity,
    /// Read-only root of the pod's init; without meaning for a pod that has none.
    pub readonly_rootfs: bool,
    /// Seccomp of the pod's init.
    pub seccomp: Profile,
    /// AppArmor of the pod's init; `None` is the default profile where AppArmor is on.
    pub apparmor: Option<Profile>,
    /// SELinux label asked for, `user:role:type:level`; `None` when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<String>,
}

/// How supplemental groups are made (CRI `SupplementalGroupsPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// The request's groups and those of the user in the image's `/etc/group`.
    Merge,
    /// The request's groups only.
    Strict,
}

/// Who a process is to run as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user, as asked for.
    pub user: RequestedUser,
    /// Primary group; only with a user.
    pub group: Option<u32>,
    /// More groups.
    pub supplemental_groups: Vec<u32>,
    /// How they combine with the image's.
    pub groups_policy: GroupsPolicy,
}

/// The user of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestedUser {
    /// The image decides.
    Image,
    /// A uid; need not exist in the image.
    Uid(u32),
    /// A name; must exist in the image.
    Name(String),
}

/// What the request and the image's files together mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All supplementary groups, the primary among them, ascending.
    pub groups: Vec<u32>,
    /// Home directory from the image's passwd, `/` when it has none.
    pub home: String,
}

/// Changes to the default capability set; names without `CAP_`, upper case, known to the kernel; `ALL` allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityChanges {
    /// Added.
    pub add: Vec<String>,
    /// Dropped.
    pub drop: Vec<String>,
    /// Added to all five sets.
    pub add_ambient: Vec<String>,
}

/// Confinement of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Privileged or not.
    pub privilege: Privilege,
    /// Capability changes.
    pub capabilities: CapabilityChanges,
    /// Read-only root file system.
    pub readonly_rootfs: bool,
    /// Sets no_new_privs (prctl(2)).
    pub no_new_privs: bool,
    /// Paths hidden inside; literally these.
    pub masked_paths: Vec<PathBuf>,
    /// Paths read-only inside; literally these.
    pub readonly_paths: Vec<PathBuf>,
    /// Seccomp: what the request meant after contract §6.3 (missing is `Unconfined`, empty is `RuntimeDefault`).
    pub seccomp: Profile,
    /// AppArmor; `None` is the default profile where AppArmor is on.
    pub apparmor: Option<Profile>,
    /// SELinux label asked for, `user:role:type:level`; `None` when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<String>,
}
