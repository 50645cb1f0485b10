//! Which cgroup hierarchies this host has, and where: v1 (each on its own mount, controllers separate or joined),
//! hybrid (v1, with a v2 hierarchy beside it that has no controllers of ours), or v2 alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::CgroupError;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Mount options of a v1 hierarchy that are not controllers.
const OPTIONS: [&str; 8] = [
    "rw",
    "ro",
    "noprefix",
    "clone_children",
    "cpuset_v2_mode",
    "xattr",
    "favordynmods",
    "nofavordynmods",
];

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Its controllers; a named one without controllers has one entry such as `name=systemd`.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) root: PathBuf,
}

/// The host's hierarchies. With [`Layout::v1`] empty it is v2 alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// v1 hierarchies in the mount table's order.
    pub(crate) v1: Vec<Hierarchy>,
    /// The v2 hierarchy. Beside v1 it serves for killing and for telling execs apart, never for limits.
    pub(crate) unified: Option<PathBuf>,
}

impl Layout {
    /// Reads the mount table.
    ///
    /// # Errors
    /// The table cannot be read, or no hierarchy with controllers is mounted.
    pub(crate) fn detect() -> Result<Self, CgroupError> {
        let table = fs::read_to_string(MOUNTINFO).map_err(|source| CgroupError::Mounts {
            path: MOUNTINFO,
            source,
        })?;
        Self::from_mountinfo(&table).ok_or(CgroupError::NotMounted)
    }

    /// v2 alone, mounted at `root`.
    pub(crate) fn v2(root: impl Into<PathBuf>) -> Self {
        Self {
            v1: Vec::new(),
            unified: Some(root.into()),
        }
    }

    /// Limits go to v2 files.
    pub(crate) fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// From text in the format of proc_pid_mountinfo(5). `None` without any usable hierarchy.
    fn from_mountinfo(table: &str) -> Option<Self> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        // Mounts of a whole hierarchy first: binds of parts of it (in other containers' rootfs) come later and lose.
        let (whole, parts): (Vec<_>, Vec<_>) = table
            .lines()
            .filter_map(CgroupMount::parse)
            .partition(|mount| mount.subtree == "/");
        for CgroupMount {
            point, kind, options, ..
        } in whole.into_iter().chain(parts)
        {
            if kind == "cgroup2" {
                unified.get_or_insert(point);
                continue;
            }
            let known = |option: &&str| !OPTIONS.contains(option) && !option.starts_with("release_agent=");
            let controllers: Vec<String> = options.split(',').filter(known).map(str::to_owned).collect();
            if !v1.iter().any(|seen| seen.controllers == controllers) {
                v1.push(Hierarchy {
                    controllers,
                    root: point,
                });
            }
        }
        let controls = |hierarchy: &Hierarchy| hierarchy.controllers.iter().any(|name| !name.starts_with("name="));
        if !v1.iter().any(controls) {
            return unified.map(Self::v2);
        }
        Some(Self { v1, unified })
    }
}

/// The parts of a mountinfo line that matter here.
struct CgroupMount<'l> {
    subtree: &'l str,
    point: PathBuf,
    kind: &'l str,
    options: &'l str,
}

impl<'l> CgroupMount<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (subtree, point) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next().filter(|kind| kind.starts_with("cgroup"))?;
        let options = filesystem.nth(1)?;
        Some(Self {
            subtree,
            point: unescape(point),
            kind,
            options,
        })
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain));
    Path::new(&plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, Layout};

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    fn hierarchy(controllers: &[&str], root: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(ToString::to_string).collect(),
            root: root.into(),
        }
    }

    #[test]
    fn hybrid_is_v1_with_a_v2_hierarchy_beside_it() {
        let layout = Layout::from_mountinfo(V1).unwrap();
        assert_eq!(
            layout.v1,
            [
                hierarchy(&["cpu", "cpuacct"], "/sys/fs/cgroup/cpu,cpuacct"),
                hierarchy(&["memory"], "/sys/fs/cgroup/memory"),
                hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd"),
            ]
        );
        assert_eq!(layout.unified, Some("/sys/fs/cgroup/unified".into()));
        assert!(!layout.is_v2());
    }

    #[test]
    fn a_named_hierarchy_alone_does_not_make_it_v1() {
        let table: String = V1
            .lines()
            .filter(|line| !line.contains(",cpu") && !line.contains(",memory"))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(
            Layout::from_mountinfo(&table),
            Some(Layout::v2("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn pure_v2_and_nothing_at_all() {
        let v2 = "29 23 0:26 / /sys/fs/cgroup\\040x rw shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
        assert_eq!(Layout::from_mountinfo(v2), Some(Layout::v2("/sys/fs/cgroup x")));
        assert_eq!(Layout::from_mountinfo("22 1 0:21 / /proc rw - proc proc rw"), None);
    }

    #[test]
    fn a_bind_of_a_part_does_not_hide_the_hierarchy() {
        let part = "30 23 0:32 /pods/x /run/rootfs/cgroup rw - cgroup cgroup rw,memory\n";
        let layout = Layout::from_mountinfo(&format!("{part}{V1}")).unwrap();
        let memory: Vec<_> = layout
            .v1
            .iter()
            .filter(|found| found.controllers == ["memory"])
            .collect();
        assert_eq!(memory, [&hierarchy(&["memory"], "/sys/fs/cgroup/memory")]);
    }
}
