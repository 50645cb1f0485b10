//! A plan as text, one line a step: what golden tests compare and what a person reads.

use std::fmt::{Display, Formatter, Result};

use super::capability;
use super::mounts::{AccessTime, Attach, Content, ReadOnly};
use super::{DeviceKind, Plan, Program, Step};
use crate::sys::mount::Depth;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "new namespaces {:?}", self.new_namespaces)?;
        for (index, joined) in self.joined.iter().enumerate() {
            writeln!(f, "namespace {index} {:?} {}", joined.kind, joined.path)?;
        }
        for (index, tree) in self.trees.iter().enumerate() {
            let depth = if tree.depth == Depth::Tree {
                " with mounts below"
            } else {
                ""
            };
            let checked = tree
                .filesystem
                .map(|magic| format!(" if filesystem {magic:#x}"))
                .unwrap_or_default();
            writeln!(f, "tree {index} {}{depth}{checked}", tree.path)?;
        }
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        let process = &self.process;
        for limit in &process.rlimits {
            writeln!(f, "limit {} {:?} {:?}", limit.name, limit.soft, limit.hard)?;
        }
        writeln!(
            f,
            "user {}:{} groups {:?} umask {:04o}",
            process.uid, process.gid, process.groups, process.umask
        )?;
        let sets = &process.capabilities;
        let named = [
            ("bounding", sets.bounding),
            ("effective", sets.effective),
            ("inheritable", sets.inheritable),
            ("permitted", sets.permitted),
            ("ambient", sets.ambient),
        ];
        for (name, set) in named {
            writeln!(f, "capabilities {name} {}", capability::names(set).join(" "))?;
        }
        writeln!(f, "privileges {:?}, home {:?}", process.privileges, process.home)?;
        match self.program {
            Program::Process => writeln!(
                f,
                "exec {:?} of {:?} in {}",
                process.args, process.programs, process.cwd
            ),
            Program::Pause => writeln!(f, "exec our own pause in {}", process.cwd),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Join(index) => write!(f, "join namespace {index}"),
            Self::NewCgroupNamespace => write!(f, "new cgroup namespace"),
            Self::OomScore(value) => write!(f, "oom_score_adj {value}"),
            Self::Sysctl { path, value } => write!(f, "sysctl {path} = {value}"),
            Self::IsolateMounts => write!(f, "isolate mounts"),
            Self::EnterRoot => write!(f, "enter root"),
            Self::Attach(attach) => write!(f, "{attach}"),
            Self::Device(node) => {
                let kind = match node.kind {
                    DeviceKind::Character => 'c',
                    DeviceKind::Block => 'b',
                    DeviceKind::Fifo => 'p',
                };
                write!(f, "device {} {kind} {}:{}", node.path, node.major, node.minor)?;
                write!(f, " mode {:04o} owner {}:{}", node.mode, node.uid, node.gid)
            }
            Self::Link { target, path } => write!(f, "link {path} -> {target}"),
            Self::Console(terminal) => write!(f, "console {terminal:?}"),
            Self::MakeDirectory(path) => write!(f, "make directory {path}"),
            Self::HostName(name) => write!(f, "host name {name}"),
            Self::DomainName(name) => write!(f, "domain name {name}"),
            Self::Mask(path) => write!(f, "mask {path}"),
            Self::MakeReadOnly(path) => write!(f, "make read-only {path}"),
            Self::SealMounts => write!(f, "seal mounts"),
            Self::SealRoot => write!(f, "seal root"),
            Self::RootPropagation(flag) => write!(f, "root propagation {}", propagation(*flag)),
        }
    }
}

impl Display for Attach {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "attach {}", self.destination)?;
        match &self.content {
            Content::Filesystem { kind, options } => {
                write!(f, " {kind}")?;
                for (key, value) in options {
                    match value {
                        Some(value) => write!(f, " {key}={value}")?,
                        None => write!(f, " {key}")?,
                    }
                }
            }
            Content::Tree(index) => write!(f, " tree {index}")?,
        }
        write!(f, " attributes {:#x}", self.attributes)?;
        if self.access_time == AccessTime::Set {
            write!(f, " with access time")?;
        }
        if self.tree_attributes != 0 {
            write!(f, " tree attributes {:#x}", self.tree_attributes)?;
        }
        match self.read_only {
            ReadOnly::No => {}
            ReadOnly::AtOnce => write!(f, " read-only")?,
            ReadOnly::AtTheEnd => write!(f, " read-only at the end")?,
        }
        let depth = if self.propagation_depth == Depth::Tree { "r" } else { "" };
        write!(f, " {depth}{}", propagation(self.propagation))
    }
}

fn propagation(flag: u64) -> &'static str {
    match flag {
        libc::MS_SHARED => "shared",
        libc::MS_SLAVE => "slave",
        libc::MS_UNBINDABLE => "unbindable",
        _ => "private",
    }
}
