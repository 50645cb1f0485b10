//! From an OCI `process` to what a child does just before it execs: checked, resolved to numbers, and no longer JSON.

use std::ffi::CString;

use super::capability::{self, CapabilitySets};
use super::error::PlanError;
use super::spec::{ConsoleSize, Process, Rlimit};

/// What to run and as whom.
#[derive(Debug, Clone)]
pub(crate) struct ProcessPlan {
    /// Arguments, the program's name first; never empty.
    pub(crate) args: Vec<CString>,
    /// `KEY=value`.
    pub(crate) env: Vec<CString>,
    /// Paths to try in this order: one, or the name in each directory of `PATH`.
    pub(crate) programs: Vec<CString>,
    /// Look `HOME` up in the container's passwd.
    pub(crate) home: Home,
    /// Working directory, absolute.
    pub(crate) cwd: String,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// File mode creation mask.
    pub(crate) umask: u32,
    /// The five sets.
    pub(crate) capabilities: CapabilitySets,
    /// Limits by the kernel's number.
    pub(crate) rlimits: Vec<ResourceLimit>,
    /// Whether exec may ever give privileges.
    pub(crate) privileges: Privileges,
    /// A pseudo-terminal, or the given descriptors.
    pub(crate) terminal: Option<Terminal>,
    /// -1000 to 1000.
    pub(crate) oom_score_adj: Option<i32>,
}

/// Whether `HOME` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// The environment has it.
    Given,
    /// To be read from `/etc/passwd` by user id.
    FromPasswd,
}

/// no_new_privs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privileges {
    /// Set-id programs and file capabilities work.
    MayGrow,
    /// They have no effect.
    Fixed,
}

/// A pseudo-terminal is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Its first size.
    pub(crate) size: Option<ConsoleSize>,
}

/// One limit, see getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceLimit {
    /// `RLIMIT_...`, for messages.
    pub(crate) name: &'static str,
    /// Which.
    pub(crate) resource: rustix::process::Resource,
    /// `None` = unlimited.
    pub(crate) soft: Option<u64>,
    /// `None` = unlimited.
    pub(crate) hard: Option<u64>,
}

/// PATH of a program whose environment has none: what the kernel's users expect of root and others alike.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ProcessPlan {
    /// Checks and resolves `process`.
    ///
    /// # Errors
    /// Names the field that is malformed or asks for what is not supported.
    pub(crate) fn new(process: &Process) -> Result<Self, PlanError> {
        refuse(process)?;
        let first = process
            .args
            .first()
            .filter(|name| !name.is_empty())
            .ok_or(PlanError::NoProgram)?;
        if !process.cwd.starts_with('/') {
            return Err(PlanError::RelativePath {
                field: "process.cwd",
                path: process.cwd.clone(),
            });
        }
        // Minus one means "leave as it is" to setresuid(2): the process would stay root.
        if [process.user.uid, process.user.gid]
            .iter()
            .chain(&process.user.additional_gids)
            .any(|&id| id == u32::MAX)
        {
            return Err(PlanError::ReservedId);
        }
        if let Some(value) = process.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
            return Err(PlanError::OomScore { value });
        }
        let env = c_strings("process.env", &process.env)?;
        let home = value_of(&process.env, "HOME")
            .filter(|home| !home.is_empty())
            .map_or(Home::FromPasswd, |_| Home::Given);
        let path = value_of(&process.env, "PATH").unwrap_or(DEFAULT_PATH);
        Ok(Self {
            args: c_strings("process.args", &process.args)?,
            env,
            programs: c_strings("process.args", &candidates(first, path))?,
            home,
            cwd: process.cwd.clone(),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            umask: process.user.umask.unwrap_or(0o022) & 0o777,
            capabilities: capability::sets(&process.capabilities)?,
            rlimits: process.rlimits.iter().map(limit).collect::<Result<_, _>>()?,
            privileges: if process.no_new_privileges {
                Privileges::Fixed
            } else {
                Privileges::MayGrow
            },
            terminal: process.terminal.then_some(Terminal {
                size: process.console_size,
            }),
            oom_score_adj: process.oom_score_adj,
        })
    }
}

/// What would change the process's confinement or cost if it were ignored.
fn refuse(process: &Process) -> Result<(), PlanError> {
    let asked = [
        ("process.apparmorProfile", !process.apparmor_profile.is_empty()),
        ("process.selinuxLabel", !process.selinux_label.is_empty()),
        ("process.scheduler", process.scheduler.is_some()),
        ("process.ioPriority", process.io_priority.is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity.is_some()),
    ];
    super::refuse_first(&asked)
}

/// A name with a slash is a path; any other is looked for in the absolute directories of `path`.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| format!("{directory}/{name}"))
        .collect()
}

/// The last one wins, as for getenv after putenv and as other runtimes have it.
fn value_of<'a>(env: &'a [String], key: &str) -> Option<&'a str> {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
}

fn c_strings(field: &'static str, texts: &[String]) -> Result<Vec<CString>, PlanError> {
    let one = |text: &String| CString::new(text.as_str()).map_err(|_| PlanError::NulByte { field });
    texts.iter().map(one).collect()
}

fn limit(limit: &Rlimit) -> Result<ResourceLimit, PlanError> {
    use rustix::process::Resource as R;
    const KNOWN: [(&str, R); 16] = [
        ("RLIMIT_AS", R::As),
        ("RLIMIT_CORE", R::Core),
        ("RLIMIT_CPU", R::Cpu),
        ("RLIMIT_DATA", R::Data),
        ("RLIMIT_FSIZE", R::Fsize),
        ("RLIMIT_LOCKS", R::Locks),
        ("RLIMIT_MEMLOCK", R::Memlock),
        ("RLIMIT_MSGQUEUE", R::Msgqueue),
        ("RLIMIT_NICE", R::Nice),
        ("RLIMIT_NOFILE", R::Nofile),
        ("RLIMIT_NPROC", R::Nproc),
        ("RLIMIT_RSS", R::Rss),
        ("RLIMIT_RTPRIO", R::Rtprio),
        ("RLIMIT_RTTIME", R::Rttime),
        ("RLIMIT_SIGPENDING", R::Sigpending),
        ("RLIMIT_STACK", R::Stack),
    ];
    let unknown = || PlanError::UnknownLimit {
        name: limit.kind.clone(),
    };
    let &(name, resource) = KNOWN.iter().find(|(name, _)| *name == limit.kind).ok_or_else(unknown)?;
    if limit.soft > limit.hard {
        return Err(PlanError::SoftAboveHard { name });
    }
    let value = |value: u64| (value != u64::MAX).then_some(value);
    Ok(ResourceLimit {
        name,
        resource,
        soft: value(limit.soft),
        hard: value(limit.hard),
    })
}
