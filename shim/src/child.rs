//! Making a container's first process, and entering a container for an exec, from the shim's side. What needs the
//! host's mount namespace is opened here, before the fork; the child gets descriptors.

pub(crate) mod error;
pub(crate) mod fallback;
pub(crate) mod host;
pub(crate) mod launch;
pub(crate) mod rootfs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use error::CreateError;
use fallback::{Fallback, Fallbacks};
use host::Host;
use launch::Launch;
use rootfs::RootfsMount;

use crate::cgroup::join::{self, JoinHandles};
use crate::cgroup::layout::Layout;
use crate::init::channel::Channel;
use crate::init::{self, Luggage};
use crate::plan::mounts::TreeSource;
use crate::plan::process::ProcessPlan;
use crate::plan::spec::{NamespaceKind, Process, Spec};
use crate::plan::{self, Joined};
use crate::seccomp::Filter;
use crate::sys::clone::{self, Spawned};
use crate::sys::mount::Depth;

/// Standard streams of a process.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// These three: input, output, error.
    Given([OwnedFd; 3]),
    /// A pseudo-terminal of the container's own; its master comes with [`Launch::take_console`].
    Terminal,
}

/// All that one container is made from.
#[derive(Debug)]
pub(crate) struct Create<'a> {
    /// The bundle's config.json.
    pub(crate) spec: &'a Spec,
    /// Where it lies; relative paths of the spec begin here.
    pub(crate) bundle: &'a Path,
    /// What to mount as its rootfs; empty = the spec's root is there already.
    pub(crate) rootfs: &'a [RootfsMount],
    /// Streams.
    pub(crate) stdio: Stdio,
    /// The cgroup that was made for it.
    pub(crate) cgroup: &'a JoinHandles,
    /// What its cgroup mount shows.
    pub(crate) view: plan::CgroupView,
    /// The spec's seccomp profile, compiled.
    pub(crate) filter: Option<&'a Filter>,
    /// Newer kernel features that are to be treated as missing.
    pub(crate) fallbacks: Fallbacks,
}

/// All that one exec is made from.
#[derive(Debug)]
pub(crate) struct Exec<'a> {
    /// Of the container's first process.
    pub(crate) container: BorrowedFd<'a>,
    /// What to run.
    pub(crate) process: &'a Process,
    /// Streams.
    pub(crate) stdio: Stdio,
    /// The container's cgroup, or one below it.
    pub(crate) cgroup: &'a JoinHandles,
    /// The container's seccomp profile, compiled.
    pub(crate) filter: Option<&'a Filter>,
    /// Newer kernel features that are to be treated as missing.
    pub(crate) fallbacks: Fallbacks,
}

/// A container whose first process is being built, and waits at the gate once it is.
#[derive(Debug)]
pub(crate) struct Created {
    /// In the shim's PID namespace.
    pub(crate) pid: Pid,
    /// Close-on-exec.
    pub(crate) pidfd: OwnedFd,
    /// How far it is, and the gate.
    pub(crate) launch: Launch,
    /// On the rootfs. Held until Delete: the last reference to a dirty overlay is dropped where nobody waits.
    pub(crate) root: OwnedFd,
}

/// A process that enters a container.
#[derive(Debug)]
pub(crate) struct Execed {
    /// In the shim's PID namespace.
    pub(crate) pid: Pid,
    /// Close-on-exec.
    pub(crate) pidfd: OwnedFd,
    /// How far it is. There is no gate.
    pub(crate) launch: Launch,
}

/// Begins to build a container. Blocks for the host's part only (opening sources, mounting the overlay, the fork);
/// the rest is followed through [`Created::launch`].
///
/// # Errors
/// Names the part of the spec or the host that is in the way; nothing is left behind then.
pub(crate) fn create(host: &Host, create: &Create<'_>) -> Result<Created, CreateError> {
    let plan = plan::build(
        create.spec,
        &plan::Host {
            cgroup: create.view.clone(),
        },
    )?;
    let stdio = streams(&create.stdio, &plan.process)?;
    let namespaces = plan.joined.iter().map(open_namespace).collect::<Result<Vec<_>, _>>()?;
    let trees = plan.trees.iter().map(open_source).collect::<Result<Vec<_>, _>>()?;
    let null = if create.spec.linux.masked_paths.is_empty() {
        None
    } else {
        Some(open_null()?)
    };
    let staging = staging(create.bundle, &create.spec.root.path)?;
    let root = rootfs::open(create.rootfs, &staging, create.fallbacks)?;
    let (ours, theirs) = Channel::pair().map_err(|source| CreateError::Channel { source })?;
    let staging = staging.to_string_lossy();
    let luggage = Luggage {
        channel: &theirs,
        proc: host.proc(),
        cgroup: create.cgroup,
        birth: join::Birth::Outside,
        oom_score: host.oom_score(),
        rootfs: root.as_fd(),
        staging: &staging,
        trees: &trees,
        namespaces: &namespaces,
        null: null.as_ref(),
        stdio,
        binary: host.binary(),
        filter: create.filter,
    };
    let joined = plan
        .joined
        .iter()
        .position(|ns| ns.kind == NamespaceKind::Pid)
        .and_then(|at| namespaces.get(at));
    let enter = joined.map(|fd| EnterPid::Namespace(fd.as_fd()));
    let flags = plan
        .new_namespaces
        .iter()
        .copied()
        .map(clone_flag)
        .fold(0, |flags, flag| flags | flag);
    let delivery = Delivery {
        flags,
        enter,
        cgroup: create.cgroup,
        fallbacks: create.fallbacks,
    };
    let spawned = delivery.spawn(host, |born_in| {
        let luggage = Luggage {
            birth: born_in,
            ..luggage
        };
        init::run(&plan, &luggage)
    })?;
    Ok(Created {
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        launch: Launch::new(ours),
        root,
    })
}

/// Begins to run another process in a container: one fork, no exec but the program's own.
///
/// # Errors
/// [`CreateError::NotRunning`] when the container's first process has ended, else what is in the way.
pub(crate) fn exec(host: &Host, exec: &Exec<'_>) -> Result<Execed, CreateError> {
    let plan = ProcessPlan::new(exec.process)?;
    let stdio = streams(&exec.stdio, &plan)?;
    let (ours, theirs) = Channel::pair().map_err(|source| CreateError::Channel { source })?;
    let delivery = Delivery {
        flags: 0,
        enter: Some(EnterPid::Process(exec.container)),
        cgroup: exec.cgroup,
        fallbacks: exec.fallbacks,
    };
    let spawned = delivery.spawn(host, |born_in| {
        let luggage = init::enter::Luggage {
            channel: &theirs,
            proc: host.proc(),
            cgroup: exec.cgroup,
            birth: born_in,
            oom_score: host.oom_score(),
            container: exec.container,
            stdio,
            filter: exec.filter,
        };
        init::enter::run(&plan, &luggage)
    })?;
    Ok(Execed {
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        launch: Launch::new(ours),
    })
}

/// Whose PID namespace the child is born in.
#[derive(Clone, Copy)]
enum EnterPid<'a> {
    /// A namespace file.
    Namespace(BorrowedFd<'a>),
    /// That of a process.
    Process(BorrowedFd<'a>),
}

struct Delivery<'a> {
    flags: u64,
    enter: Option<EnterPid<'a>>,
    cgroup: &'a JoinHandles,
    fallbacks: Fallbacks,
}

impl Delivery<'_> {
    fn spawn(&self, host: &Host, child: impl Fn(join::Birth) -> i32) -> Result<Spawned, CreateError> {
        match self.enter {
            None => return self.clone_one(child),
            Some(EnterPid::Namespace(fd)) => {
                rustix::thread::move_into_link_name_space(fd, Some(LinkNameSpaceType::ProcessID))
            }
            Some(EnterPid::Process(pidfd)) => {
                rustix::thread::move_into_thread_name_spaces(pidfd, ThreadNameSpaceType::PROCESS_ID)
            }
        }
        .map_err(|source| match source {
            Errno::SRCH => CreateError::NotRunning,
            source => CreateError::EnterPid { source },
        })?;
        let spawned = self.clone_one(child);
        let back = rustix::thread::move_into_link_name_space(host.pid_namespace(), Some(LinkNameSpaceType::ProcessID));
        back.map_err(|source| CreateError::LeavePid { source })?;
        spawned
    }

    fn clone_one(&self, child: impl Fn(join::Birth) -> i32) -> Result<Spawned, CreateError> {
        let unified = self
            .cgroup
            .clone_into()
            .filter(|_| !self.fallbacks.forces(Fallback::CloneIntoCgroup));
        let spawned = match unified.map(|cgroup| clone::spawn(self.flags, Some(cgroup), || child(join::Birth::Inside)))
        {
            // A cgroup of another layout, or a seccomp filter around us, takes nobody this way.
            None | Some(Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF)) => {
                clone::spawn(self.flags, None, || child(join::Birth::Outside))
            }
            Some(result) => result,
        };
        spawned.map_err(|source| match source {
            // A PID namespace whose init has ended takes no more processes.
            Errno::NOMEM if self.enter.is_some() => CreateError::NotRunning,
            source => CreateError::Clone { source },
        })
    }
}

/// What a container's cgroup mount shows: on v1 its own cgroup in each hierarchy.
pub(crate) fn cgroup_view(layout: &Layout, cgroups_path: &str) -> plan::CgroupView {
    if layout.is_v2() {
        return plan::CgroupView::Unified;
    }
    let hierarchies = layout.v1.iter().filter_map(|hierarchy| {
        let name = hierarchy.root.file_name()?.to_str()?.to_owned();
        let directory = hierarchy.root.join(cgroups_path.trim_start_matches('/'));
        Some(plan::Hierarchy {
            name,
            directory: directory.to_str()?.to_owned(),
        })
    });
    plan::CgroupView::Split(hierarchies.collect())
}

fn clone_flag(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Pid => clone::NEW_PID,
        NamespaceKind::Network => clone::NEW_NETWORK,
        NamespaceKind::Mount => clone::NEW_MOUNT,
        NamespaceKind::Ipc => clone::NEW_IPC,
        NamespaceKind::Uts => clone::NEW_UTS,
        // A step of its own, after the cgroup is joined; the others have been refused by the plan.
        NamespaceKind::Cgroup | NamespaceKind::User | NamespaceKind::Time => 0,
    }
}

fn streams<'a>(stdio: &'a Stdio, process: &ProcessPlan) -> Result<Option<[BorrowedFd<'a>; 3]>, CreateError> {
    match (stdio, process.terminal) {
        (Stdio::Terminal, Some(_)) => Ok(None),
        (Stdio::Given([input, output, error]), None) => Ok(Some([input.as_fd(), output.as_fd(), error.as_fd()])),
        (Stdio::Terminal, None) | (Stdio::Given(_), Some(_)) => Err(CreateError::Stdio),
    }
}

fn open_namespace(joined: &Joined) -> Result<OwnedFd, CreateError> {
    let failed = |source| CreateError::Namespace {
        kind: joined.kind,
        path: joined.path.clone(),
        source,
    };
    rustix::fs::open(joined.path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
}

fn open_source(tree: &TreeSource) -> Result<OwnedFd, CreateError> {
    let failed = |source| CreateError::Source {
        path: tree.path.clone(),
        source,
    };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, tree.depth == Depth::Tree);
    let fd = open_tree(CWD, tree.path.as_str(), flags).map_err(failed)?;
    if let Some(magic) = tree.filesystem {
        let found = rustix::fs::fstatfs(&fd).map_err(failed)?.f_type;
        if u64::try_from(found) != Ok(magic) {
            return Err(CreateError::SourceKind {
                path: tree.path.clone(),
            });
        }
    }
    Ok(fd)
}

fn open_null() -> Result<OwnedFd, CreateError> {
    let failed = |source| CreateError::Null { source };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let null = open_tree(CWD, "/dev/null", flags).map_err(failed)?;
    let stat = rustix::fs::fstat(&null).map_err(failed)?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    is_null.then_some(null).ok_or(CreateError::NotNull)
}

/// Where the rootfs is attached, for a moment, in the child's own copy of the host's tree.
fn staging(bundle: &Path, root: &str) -> Result<PathBuf, CreateError> {
    let failed = |path: &Path, source| CreateError::Staging {
        path: path.to_owned(),
        source,
    };
    // Absolute: a stage changes its directory.
    let path = std::path::absolute(bundle.join(root))
        .map_err(|error| failed(bundle, Errno::from_io_error(&error).unwrap_or(Errno::INVAL)))?;
    match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(path),
        Err(source) => Err(failed(&path, source)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
