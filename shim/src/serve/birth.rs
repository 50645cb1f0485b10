//! What the process does to itself before it does anything for anybody.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use copepod_proto::bundle::{self, ShimOptions};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, set_child_subreaper, set_dumpable_behavior, setsid, umask};

use crate::child::host::HostError;
use crate::sys::clone::close_all_but;

/// The kernel's OOM killer takes a shim only after everything but kubelet-critical processes (-999 and below).
const OOM_SCORE_ADJ: &str = "-998";

/// Which of the shims' cgroups the process has still to move into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    All,
    /// All but the v2 one.
    BornInUnified,
}

/// Why the process could not become a shim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BirthError {
    #[error("close inherited descriptors")]
    Close { source: Errno },
    #[error("read the shim's options")]
    Options { source: bundle::RecordError },
    #[error("open what is needed of the host")]
    Host { source: HostError },
    #[error("join the shims' cgroup {}", path.display())]
    Cgroup { path: PathBuf, source: std::io::Error },
    #[error("become the one that orphans are left to")]
    Subreaper { source: Errno },
    #[error("shut the process off from other users' debuggers")]
    Dumpable { source: Errno },
    #[error("block signals")]
    Signals { source: nix::Error },
}

/// The shim's options. Another runtime writes none: then there is no log and nothing is special.
pub(crate) fn options(bundle: &Path) -> Result<ShimOptions, BirthError> {
    let options = bundle::read_options(bundle).map_err(|source| BirthError::Options { source })?;
    Ok(options.unwrap_or(ShimOptions {
        version: bundle::VERSION,
        log: None,
        tty: false,
        stdin: false,
        stdin_once: false,
        shim_cgroups: Vec::new(),
        seccomp_cache: None,
        force_fallbacks: Vec::new(),
    }))
}

/// Closes what was inherited, before the process opens anything of its own.
///
/// # Errors
/// What close_range(2) says.
pub(crate) fn isolate() -> Result<(), BirthError> {
    close_all_but(&[]).map_err(|source| BirthError::Close { source })
}

/// Turns the process into a shim. Called with one thread, before any child and any runtime.
///
/// # Errors
/// The step that failed.
pub(crate) fn settle(options: &ShimOptions, cgroups: Cgroups) -> Result<(), BirthError> {
    for path in &options.shim_cgroups {
        let tasks = path.join("tasks");
        // v1's `tasks` costs a process of one thread no global lock, its `cgroup.procs` does (6.9 ms for eight
        // hierarchies, measured).
        if tasks.exists() {
            join(path, &tasks)?;
        } else if cgroups == Cgroups::All {
            join(path, &path.join("cgroup.procs"))?;
        }
    }
    // Already the leader of a session when the starter made one.
    let _session = setsid();
    let itself = Pid::from_raw(1); // any value but 0 switches it on
    set_child_subreaper(itself).map_err(|source| BirthError::Subreaper { source })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|source| BirthError::Dumpable { source })?;
    // Without CAP_SYS_RESOURCE it cannot be lowered, and stays what it is.
    let _lowered = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    umask(Mode::from_raw_mode(0o022));
    block_signals()
}

/// The shims' cgroup on the v2 hierarchy, which has no `tasks`, for a child to be born in; `None` when there is none,
/// or when that way is to be treated as missing.
pub(crate) fn unified(options: &ShimOptions) -> Option<OwnedFd> {
    let fallbacks = &options.force_fallbacks;
    if fallbacks.iter().any(|name| name == bundle::CLONE_INTO_CGROUP) {
        return None;
    }
    let path = options.shim_cgroups.iter().find(|path| !path.join("tasks").exists())?;
    // What is wrong with it is told by who then moves there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

/// Undoes what a clone does to the child's signals; `settle` decides for the shim.
///
/// # Errors
/// What sigprocmask(2) says.
pub(crate) fn unblock_signals() -> Result<(), BirthError> {
    let nothing = SigSet::empty();
    nothing
        .thread_set_mask()
        .map_err(|source| BirthError::Signals { source })
}

/// Moves this process, which has one thread, into the cgroup `path` by its `file`.
fn join(path: &Path, file: &Path) -> Result<(), BirthError> {
    std::fs::write(file, "0").map_err(|source| BirthError::Cgroup {
        path: path.to_owned(),
        source,
    })
}

/// SIGCHLD comes by signalfd. What a terminal, a service manager or a stray kill sends is not for a process that must
/// outlive them: it ends by Shutdown or SIGKILL.
fn block_signals() -> Result<(), BirthError> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        mask.add(signal);
    }
    mask.thread_block().map_err(|source| BirthError::Signals { source })
}
