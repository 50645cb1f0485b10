//! From an OCI mount to what is opened on the host, what is made in the container, and with which flags.

use super::error::PlanError;
use super::spec::Mount;
use super::{CgroupView, Host, Step};
use crate::sys::mount::Depth;

/// One mount to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attach {
    /// Absolute path in the container, without `.` and `..`.
    pub(crate) destination: String,
    /// May a symbolic link of the image decide where the first component leads.
    pub(crate) first: FirstComponent,
    /// What appears there.
    pub(crate) content: Content,
    /// `MOUNT_ATTR_*` of the top mount, access-time mode included; read-only is apart.
    pub(crate) attributes: u64,
    /// The spec names an access-time mode.
    pub(crate) access_time: AccessTime,
    /// `MOUNT_ATTR_*` of the whole tree.
    pub(crate) tree_attributes: u64,
    /// When it becomes read-only.
    pub(crate) read_only: ReadOnly,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) propagation: u64,
    /// Whether that is for the tree.
    pub(crate) propagation_depth: Depth,
}

impl Attach {
    /// The attributes name an access-time mode, which replaces the tree's own.
    pub(crate) fn sets_access_time(&self) -> bool {
        self.access_time == AccessTime::Set
    }
}

/// Symbolic links of the image in front of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstComponent {
    /// Followed, inside the rootfs.
    MayBeLink,
    /// `/proc`, `/sys` and `/dev`: a link here is an attack (CVE-2019-19921, CVE-2023-27561, CVE-2026-41579).
    MustBeDirectory,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// A new filesystem.
    Filesystem {
        /// Its type.
        kind: String,
        /// Options of the filesystem itself.
        options: Vec<(String, Option<String>)>,
    },
    /// The tree with this index in the plan's list.
    Tree(usize),
}

/// When a mount becomes read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOnly {
    /// Never.
    No,
    /// Before it can be seen.
    AtOnce,
    /// When everything is in place: mount points are still made in it.
    AtTheEnd,
}

/// Whether an access-time mode replaces the tree's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessTime {
    /// As it is.
    Keep,
    /// As in `attributes`.
    Set,
}

/// A tree of the host to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeSource {
    /// Absolute path on the host.
    pub(crate) path: String,
    /// With the mounts below it.
    pub(crate) depth: Depth,
    /// Refused unless its filesystem has this magic number (see statfs(2)).
    pub(crate) filesystem: Option<u64>,
}

/// Where planned mounts go.
pub(crate) struct Output<'a> {
    /// Steps of init.
    pub(crate) steps: &'a mut Vec<Step>,
    /// Trees of the host.
    pub(crate) trees: &'a mut Vec<TreeSource>,
}

/// procfs, linux/magic.h.
pub(crate) const PROC_SUPER_MAGIC: u64 = 0x9fa0;

const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;

/// What may be shown over a file of procfs: what container monitors commonly replace, and nothing that decides.
const OVER_PROC: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// Plans one mount.
///
/// # Errors
/// Names the destination and what of it is malformed, unsafe or not supported.
pub(crate) fn plan(mount: &Mount, host: &Host, output: &mut Output<'_>) -> Result<(), PlanError> {
    let destination = clean(&mount.destination)?;
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let field = format!("mounts: {destination}: uidMappings and gidMappings");
        return Err(PlanError::Unsupported { field });
    }
    let parsed = Options::parse(mount, &destination)?;
    let first = match destination.split('/').nth(1) {
        Some("proc" | "sys" | "dev") => FirstComponent::MustBeDirectory,
        _ => FirstComponent::MayBeLink,
    };
    let bound = parsed.bind;
    let over_proc = destination == "/proc" || destination.starts_with("/proc/");
    let replaces = destination != "/proc" || (bound.is_none() && mount.kind != "proc");
    if over_proc && replaces && !OVER_PROC.contains(&destination.as_str()) {
        return Err(PlanError::InsideProc { path: destination });
    }
    if bound.is_none() && mount.kind == "cgroup" {
        return cgroup(&destination, &parsed, host, output);
    }
    let content = if let Some(depth) = bound {
        if !mount.source.starts_with('/') {
            return Err(PlanError::RelativePath {
                field: "mounts.source",
                path: mount.source.clone(),
            });
        }
        if let Some((option, _)) = parsed.data.first() {
            return Err(PlanError::MountOption {
                destination,
                option: option.clone(),
            });
        }
        let filesystem = (destination == "/proc").then_some(PROC_SUPER_MAGIC);
        output.trees.push(TreeSource {
            path: mount.source.clone(),
            depth,
            filesystem,
        });
        Content::Tree(output.trees.len() - 1)
    } else {
        Content::Filesystem {
            kind: mount.kind.clone(),
            options: parsed.data.clone(),
        }
    };
    output
        .steps
        .push(Step::Attach(parsed.attach(destination, first, content)));
    Ok(())
}

/// v2 is one filesystem; v1 is a directory with one bind per hierarchy, each of the container's own cgroup only.
fn cgroup(destination: &str, parsed: &Options, host: &Host, output: &mut Output<'_>) -> Result<(), PlanError> {
    let first = FirstComponent::MustBeDirectory;
    if let Some((option, _)) = parsed.data.first() {
        return Err(PlanError::MountOption {
            destination: destination.to_owned(),
            option: option.clone(),
        });
    }
    let hierarchies = match &host.cgroup {
        CgroupView::Unified => {
            let content = Content::Filesystem {
                kind: "cgroup2".to_owned(),
                options: Vec::new(),
            };
            output
                .steps
                .push(Step::Attach(parsed.attach(destination.to_owned(), first, content)));
            return Ok(());
        }
        CgroupView::Split(hierarchies) => hierarchies,
    };
    let options = vec![("mode".to_owned(), Some("755".to_owned()))];
    let content = Content::Filesystem {
        kind: "tmpfs".to_owned(),
        options,
    };
    let mut base = parsed.attach(destination.to_owned(), first, content);
    base.read_only = if base.read_only == ReadOnly::No {
        ReadOnly::No
    } else {
        ReadOnly::AtTheEnd
    };
    output.steps.push(Step::Attach(base));
    let base_path = destination.to_owned();
    for hierarchy in hierarchies {
        let path = hierarchy.directory.clone();
        output.trees.push(TreeSource {
            path,
            depth: Depth::Top,
            filesystem: None,
        });
        let content = Content::Tree(output.trees.len() - 1);
        let destination = format!("{destination}/{}", hierarchy.name);
        output
            .steps
            .push(Step::Attach(parsed.attach(destination, first, content)));
        // Two controllers on one hierarchy: programs look for each by its own name.
        let controllers = hierarchy.name.split(',').filter(|_| hierarchy.name.contains(','));

        output.steps.extend(controllers.map(|controller| Step::Link {
            target: hierarchy.name.clone(),
            path: format!("{base_path}/{controller}"),
        }));
    }
    Ok(())
}

/// `/dev` comes from the host.
pub(crate) fn dev_is_bound(mounts: &[Mount]) -> bool {
    let dev = mounts
        .iter()
        .rev()
        .find(|mount| clean(&mount.destination).is_ok_and(|path| path == "/dev"));
    dev.is_some_and(|mount| {
        mount.kind == "bind" || mount.options.iter().any(|option| option == "bind" || option == "rbind")
    })
}

/// There is a devpts of the container's own, on a `/dev` that no image has filled.
pub(crate) fn has_terminals(mounts: &[Mount]) -> bool {
    let on = |path: &str| {
        mounts
            .iter()
            .rev()
            .find(|mount| clean(&mount.destination).is_ok_and(|found| found == path))
    };
    on("/dev").is_some() && on("/dev/pts").is_some_and(|mount| mount.kind == "devpts")
}

/// `linux.rootfsPropagation` as an `MS_*` flag. Only the rootfs itself gets it: each mount states its own.
pub(crate) fn root_propagation(value: &str) -> Result<u64, PlanError> {
    match value {
        "" => Ok(libc::MS_PRIVATE),
        other => propagation(other)
            .map(|(flag, _)| flag)
            .ok_or_else(|| PlanError::Propagation {
                value: value.to_owned(),
            }),
    }
}

fn propagation(option: &str) -> Option<(u64, Depth)> {
    match option {
        "private" => Some((libc::MS_PRIVATE, Depth::Top)),
        "rprivate" => Some((libc::MS_PRIVATE, Depth::Tree)),
        "slave" => Some((libc::MS_SLAVE, Depth::Top)),
        "rslave" => Some((libc::MS_SLAVE, Depth::Tree)),
        "shared" => Some((libc::MS_SHARED, Depth::Top)),
        "rshared" => Some((libc::MS_SHARED, Depth::Tree)),
        "unbindable" => Some((libc::MS_UNBINDABLE, Depth::Top)),
        "runbindable" => Some((libc::MS_UNBINDABLE, Depth::Tree)),
        _ => None,
    }
}

/// A destination without empty and `.` components.
fn clean(path: &str) -> Result<String, PlanError> {
    if !path.starts_with('/') {
        return Err(PlanError::RelativePath {
            field: "mounts.destination",
            path: path.to_owned(),
        });
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") || path.contains('\0') {
        return Err(PlanError::Destination { path: path.to_owned() });
    }
    Ok(format!("/{}", parts.join("/")))
}

/// What a mount's options say.
struct Options {
    attributes: u64,
    access_time: AccessTime,
    tree_attributes: u64,
    read_only: ReadOnly,
    propagation: (u64, Depth),
    bind: Option<Depth>,
    data: Vec<(String, Option<String>)>,
}

impl Options {
    fn parse(mount: &Mount, destination: &str) -> Result<Self, PlanError> {
        let mut parsed = Self {
            attributes: 0,
            access_time: AccessTime::Keep,
            tree_attributes: 0,
            read_only: ReadOnly::No,
            propagation: (libc::MS_PRIVATE, Depth::Tree),
            bind: (mount.kind == "bind").then_some(Depth::Top),
            data: Vec::new(),
        };
        for option in &mount.options {
            if !parsed.flag(option) {
                parsed.filesystem_option(option, destination)?;
            }
        }
        // Mount points may have to be made below it first.
        if parsed.read_only == ReadOnly::AtOnce && parsed.bind.is_none() && mount.kind == "tmpfs" {
            parsed.read_only = ReadOnly::AtTheEnd;
        }
        Ok(parsed)
    }

    /// Takes an option that is about the mount, not about its filesystem. Options that only undo a default of ours
    /// have nothing to undo: a bind never loses a restriction of its source.
    fn flag(&mut self, option: &str) -> bool {
        const NEUTRAL: [&str; 11] = [
            "defaults",
            "rw",
            "suid",
            "dev",
            "exec",
            "async",
            "nomand",
            "loud",
            "symfollow",
            "diratime",
            "noiversion",
        ];
        match option {
            "bind" => self.bind = Some(Depth::Top),
            "rbind" => self.bind = Some(Depth::Tree),
            "ro" => self.read_only = ReadOnly::AtOnce,
            "nosuid" => self.attributes |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => self.attributes |= libc::MOUNT_ATTR_NODEV,
            "noexec" => self.attributes |= libc::MOUNT_ATTR_NOEXEC,
            "nodiratime" => self.attributes |= libc::MOUNT_ATTR_NODIRATIME,
            "nosymfollow" => self.attributes |= libc::MOUNT_ATTR_NOSYMFOLLOW,
            "relatime" | "atime" => self.access_time(0),
            "noatime" => self.access_time(NOATIME),
            "strictatime" => self.access_time(STRICTATIME),
            "rro" => self.tree_attributes |= libc::MOUNT_ATTR_RDONLY,
            "rnosuid" => self.tree_attributes |= libc::MOUNT_ATTR_NOSUID,
            "rnodev" => self.tree_attributes |= libc::MOUNT_ATTR_NODEV,
            "rnoexec" => self.tree_attributes |= libc::MOUNT_ATTR_NOEXEC,
            other => match propagation(other) {
                Some(found) => self.propagation = found,
                None => return NEUTRAL.contains(&other),
            },
        }
        true
    }

    fn access_time(&mut self, mode: u64) {
        self.attributes = (self.attributes & !(NOATIME | STRICTATIME)) | mode;
        self.access_time = AccessTime::Set;
    }

    fn filesystem_option(&mut self, option: &str, destination: &str) -> Result<(), PlanError> {
        const REFUSED: [&str; 6] = ["remount", "move", "tmpcopyup", "idmap", "ridmap", "norelatime"];
        let refused = || PlanError::MountOption {
            destination: destination.to_owned(),
            option: option.to_owned(),
        };
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        // fsconfig(2) takes at most 255 bytes a string.
        let fits = |text: &str| text.len() < 256 && !text.contains('\0');
        if REFUSED.contains(&key) || key.is_empty() || !fits(key) || !value.is_none_or(fits) {
            return Err(refused());
        }
        self.data.push((key.to_owned(), value.map(str::to_owned)));
        Ok(())
    }

    fn attach(&self, destination: String, first: FirstComponent, content: Content) -> Attach {
        Attach {
            destination,
            first,
            content,
            attributes: self.attributes,
            access_time: self.access_time,
            tree_attributes: self.tree_attributes,
            read_only: self.read_only,
            propagation: self.propagation.0,
            propagation_depth: self.propagation.1,
        }
    }
}
