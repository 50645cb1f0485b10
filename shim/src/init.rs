//! The process that becomes the container's first one: born by `child`, it runs a plan's steps in its new namespaces,
//! waits at the gate, and execs. It is a fork of the one-threaded shim, so it may run any code, but it must touch
//! nothing of the shim's async side, and it leaves only by exec or by ending.
//!
//! The rootfs becomes `/`, and the host's tree is let go of, before anything inside the rootfs is looked up. What is
//! needed of the host came along as descriptors. A hostile image therefore has nothing to point at.

mod attach;
pub(crate) mod channel;
mod console;
mod credentials;
pub(crate) mod enter;
mod node;
mod passwd;
pub(crate) mod process;
mod rootfs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::cgroup::join::{Birth, JoinError, JoinHandles};
use crate::plan::spec::NamespaceKind;
use crate::plan::{Plan, Program, Step};
use crate::seccomp::Filter;
use crate::sys::mount::{Depth, MountAttr, set_attributes};
use crate::sys::{clone, namespace};
use attach::Attacher;
use channel::Channel;
use rootfs::Rootfs;

/// What init brings along from the host, as descriptors.
#[derive(Debug)]
pub(crate) struct Luggage<'a> {
    /// To the shim.
    pub(crate) channel: &'a Channel,
    /// The host's procfs.
    pub(crate) proc: BorrowedFd<'a>,
    /// The container's cgroups.
    pub(crate) cgroup: &'a JoinHandles,
    /// Whether it was born in them.
    pub(crate) birth: Birth,
    /// `oom_score_adj` of a container that names none: the shim's own is far lower.
    pub(crate) oom_score: i32,
    /// The rootfs, detached.
    pub(crate) rootfs: BorrowedFd<'a>,
    /// An existing directory of the host to attach the rootfs at.
    pub(crate) staging: &'a str,
    /// The plan's trees, detached.
    pub(crate) trees: &'a [OwnedFd],
    /// The plan's joined namespaces.
    pub(crate) namespaces: &'a [OwnedFd],
    /// A verified null device, detached, when there are paths to mask.
    pub(crate) null: Option<&'a OwnedFd>,
    /// Standard input, output and error; none with a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    /// Our own binary, for the pause program.
    pub(crate) binary: BorrowedFd<'a>,
    /// The seccomp filter.
    pub(crate) filter: Option<&'a Filter>,
}

/// A step that failed, in init or in an exec's child.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("close inherited descriptors")]
    CloseInherited { source: Errno },
    #[error(transparent)]
    JoinCgroup(#[from] JoinError),
    #[error("join {kind:?} namespace")]
    Join { kind: NamespaceKind, source: Errno },
    #[error("enter the container's namespaces")]
    EnterNamespaces { source: Errno },
    #[error("make a cgroup namespace")]
    NewCgroupNamespace { source: Errno },
    #[error("set oom_score_adj to {value}")]
    OomScore { value: i32, source: Errno },
    #[error("mount a private procfs")]
    PrivateProc { source: Errno },
    #[error("sysctl {path}")]
    Sysctl { path: String, source: Errno },
    #[error("cut mount propagation towards the host")]
    IsolateMounts { source: Errno },
    #[error("attach the rootfs at {staging}")]
    AttachRoot { staging: String, source: Errno },
    #[error("make the rootfs /")]
    PivotRoot { source: Errno },
    #[error("{path} is a symbolic link in the image; it must be a directory")]
    BaseIsLink { path: String },
    #[error("look {path} up in the rootfs")]
    Lookup { path: String, source: Errno },
    #[error("make mount point {path}")]
    MountPoint { path: String, source: Errno },
    #[error("mount point {path} leads into procfs; nothing may be mounted there")]
    LeadsIntoProc { path: String },
    #[error("mount {kind}: option {option}")]
    FilesystemOption {
        kind: String,
        option: String,
        source: Errno,
    },
    #[error("make a {kind} filesystem for {destination}")]
    Filesystem {
        kind: String,
        destination: String,
        source: Errno,
    },
    #[error("set the flags of the mount for {destination}")]
    Flags { destination: String, source: Errno },
    #[error("mount on {destination}")]
    Attach { destination: String, source: Errno },
    #[error("make device {path}")]
    Device { path: String, source: Errno },
    #[error("device {path} exists in the image and is something else")]
    DeviceDiffers { path: String },
    #[error("link {path}")]
    Link { path: String, source: Errno },
    #[error("open a terminal on the container's devpts")]
    Terminal { source: Errno },
    #[error("/dev/pts/ptmx is not the multiplexer of a devpts")]
    NotDevpts,
    #[error("make directory {path}")]
    MakeDirectory { path: String, source: Errno },
    #[error("set host name {name}")]
    HostName { name: String, source: Errno },
    #[error("mask {path}")]
    Mask { path: String, source: Errno },
    #[error("make {path} read-only")]
    MakeReadOnly { path: String, source: Errno },
    #[error("set / read-only")]
    SealRoot { source: Errno },
    #[error("set the propagation of /")]
    RootPropagation { source: Errno },
    #[error("start a session")]
    Session { source: Errno },
    #[error("make a session keyring")]
    Keyring { source: Errno },
    #[error("set {name}")]
    Limit { name: &'static str, source: Errno },
    #[error("working directory {path}")]
    Chdir { path: String, source: Errno },
    #[error("working directory {path} lies outside the container")]
    CwdOutside { path: String },
    #[error("set standard streams")]
    Stdio { source: Errno },
    #[error("read /etc/passwd of the container")]
    Passwd { source: Errno },
    #[error("drop {capability} from the bounding set")]
    Bounding { capability: &'static str, source: Errno },
    #[error("set groups")]
    Groups { source: Errno },
    #[error("become user {uid}:{gid}")]
    User { uid: u32, gid: u32, source: Errno },
    #[error("set capabilities")]
    Capabilities { source: Errno },
    #[error("set ambient capability {capability}")]
    Ambient { capability: &'static str, source: Errno },
    #[error("set no_new_privs")]
    NoNewPrivs { source: Errno },
    #[error("hide memory from other processes")]
    Dumpable { source: Errno },
    #[error("read the seccomp filter")]
    ReadFilter { source: Errno },
    #[error("install the seccomp filter")]
    InstallFilter { source: Errno },
    #[error("reset signals")]
    Signals { source: Errno },
    #[error("talk to the shim")]
    Channel { source: Errno },
    #[error("exec {program}: not found in PATH")]
    NotFound { program: String, source: Errno },
    #[error("exec {program}")]
    Exec { program: String, source: Errno },
}

impl InitError {
    /// The kernel's reason, if there was one.
    pub(crate) fn errno(&self) -> Option<Errno> {
        std::error::Error::source(self)
            .and_then(|source| source.downcast_ref::<Errno>())
            .copied()
    }
}

/// Runs the plan in the calling process, which was born for it. Returns the status to end with.
pub(crate) fn run(plan: &Plan, luggage: &Luggage<'_>) -> i32 {
    match build(plan, luggage) {
        Ok(never) => match never {},
        Err(error) => luggage.channel.report(&error),
    }
}

fn build(plan: &Plan, luggage: &Luggage<'_>) -> Result<std::convert::Infallible, InitError> {
    // First, so that all that follows is accounted to the container and bounded by its limits.
    luggage.cgroup.join_self(luggage.birth)?;
    clone::close_all_but(&luggage.fds()).map_err(|source| InitError::CloseInherited { source })?;
    if plan.process.oom_score_adj.is_none() {
        process::set_oom_score(luggage.proc, luggage.oom_score, luggage.channel)?;
    }
    rustix::process::umask(Mode::empty());
    process::new_session()?;
    let mut builder = Builder {
        plan,
        luggage,
        state: State::default(),
    };
    for step in &plan.steps {
        builder.step(step)?;
    }
    let root = builder.root()?;
    let mut launch = process::Launch {
        plan: &plan.process,
        channel: luggage.channel,
        root,
        stdio: luggage.stdio,
        filter: luggage.filter,
        pause: (plan.program == Program::Pause).then_some(luggage.binary),
    };
    if plan.process.terminal.is_some() {
        // The console step has set them.
        launch.stdio = None;
    }
    let ready = launch.prepare()?;
    luggage.channel.ready()?;
    luggage.channel.wait_for_release()?;
    ready.exec(&launch)
}

impl<'a> Luggage<'a> {
    fn fds(&self) -> Vec<BorrowedFd<'a>> {
        let mut fds = vec![self.channel.as_fd(), self.proc, self.rootfs, self.binary];
        fds.extend(
            self.trees
                .iter()
                .chain(self.namespaces)
                .chain(self.null)
                .map(AsFd::as_fd),
        );
        fds.extend(self.stdio.into_iter().flatten());
        fds.extend(self.filter.and_then(Filter::fd));
        fds
    }
}

#[derive(Default)]
struct State {
    root: Option<Rootfs>,
    attacher: Attacher,
}

struct Builder<'a> {
    plan: &'a Plan,
    luggage: &'a Luggage<'a>,
    state: State,
}

impl Builder<'_> {
    fn step(&mut self, step: &Step) -> Result<(), InitError> {
        match step {
            Step::Join(index) => self.join(*index),
            Step::NewCgroupNamespace => {
                namespace::unshare(UnshareFlags::NEWCGROUP).map_err(|source| InitError::NewCgroupNamespace { source })
            }
            Step::OomScore(value) => process::set_oom_score(self.luggage.proc, *value, self.luggage.channel),
            Step::Sysctl { path, value } => sysctl(path, value),
            Step::IsolateMounts => isolate_mounts(),
            Step::EnterRoot => self.enter_root(),
            Step::Attach(attach) => {
                let trees = self.luggage.trees;
                let (root, attacher) = self.inside()?;
                attacher.attach(root, attach, trees)
            }
            Step::Device(device) => node::device(self.root()?, device),
            Step::Link { target, path } => node::link(self.root()?, target, path),
            Step::Console(terminal) => {
                let user = self.plan.process.uid;
                console::open(self.root()?, *terminal, user)?
                    .show(self.root()?)?
                    .hand_over(self.luggage.channel)
            }
            Step::MakeDirectory(path) => {
                let made = self.root()?.directory(path);
                made.map(drop).map_err(|source| InitError::MakeDirectory {
                    path: path.clone(),
                    source,
                })
            }
            Step::HostName(name) => {
                rustix::system::sethostname(name.as_bytes()).map_err(|source| InitError::HostName {
                    name: name.clone(),
                    source,
                })
            }
            Step::DomainName(name) => {
                rustix::system::setdomainname(name.as_bytes()).map_err(|source| InitError::HostName {
                    name: name.clone(),
                    source,
                })
            }
            Step::Mask(path) => {
                let null = self.luggage.null;
                let (root, attacher) = self.inside()?;
                attacher.mask(root, path, null)
            }
            Step::MakeReadOnly(path) => {
                let (root, attacher) = self.inside()?;
                attacher.make_read_only(root, path)
            }
            Step::SealMounts => self.state.attacher.seal(),
            Step::SealRoot => attach::seal_root(self.root()?),
            Step::RootPropagation(flag) => {
                let change = MountAttr {
                    propagation: *flag,
                    ..MountAttr::default()
                };
                set_attributes(self.root()?.as_fd(), &change, Depth::Top)
                    .map_err(|source| InitError::RootPropagation { source })
            }
        }
    }

    fn root(&self) -> Result<&Rootfs, InitError> {
        self.state
            .root
            .as_ref()
            .ok_or(InitError::PivotRoot { source: Errno::INVAL })
    }

    fn inside(&mut self) -> Result<(&Rootfs, &mut Attacher), InitError> {
        let State { root, attacher } = &mut self.state;
        root.as_ref()
            .map(|root| (root, attacher))
            .ok_or(InitError::PivotRoot { source: Errno::INVAL })
    }

    fn join(&self, index: usize) -> Result<(), InitError> {
        let (joined, fd) = match (self.plan.joined.get(index), self.luggage.namespaces.get(index)) {
            (Some(joined), Some(fd)) => (joined, fd),
            _ => return Err(InitError::EnterNamespaces { source: Errno::INVAL }),
        };
        let kind = joined.kind;
        rustix::thread::move_into_link_name_space(fd.as_fd(), Some(link_type(kind)))
            .map_err(|source| InitError::Join { kind, source })
    }

    fn enter_root(&mut self) -> Result<(), InitError> {
        let staging = self.luggage.staging;
        let refused = |source| InitError::AttachRoot {
            staging: staging.to_owned(),
            source,
        };
        // By path, not by descriptor: the mount must be the one of our own copy of the host's tree.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let point = rustix::fs::open(staging, flags, Mode::empty()).map_err(refused)?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(self.luggage.rootfs, "", &point, "", empty).map_err(refused)?;
        let pivot = |source| InitError::PivotRoot { source };
        rustix::process::fchdir(self.luggage.rootfs).map_err(pivot)?;
        // Both arguments the same: the old root lands on top of the new one, and is taken off again.
        rustix::process::pivot_root(".", ".").map_err(pivot)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(pivot)?;
        rustix::process::chdir("/").map_err(pivot)?;
        self.state.root = Some(Rootfs::open().map_err(pivot)?);
        Ok(())
    }
}

pub(crate) fn link_type(kind: NamespaceKind) -> LinkNameSpaceType {
    match kind {
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    }
}

/// Slave, not private: an unmount on the host must still reach our copy, or it would stay busy until we let go.
fn isolate_mounts() -> Result<(), InitError> {
    let change = |root: OwnedFd| {
        let slave = MountAttr {
            propagation: libc::MS_SLAVE,
            ..MountAttr::default()
        };
        set_attributes(root.as_fd(), &slave, Depth::Tree)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty());
    root.and_then(change)
        .map_err(|source| InitError::IsolateMounts { source })
}

/// Writes one kernel parameter of the caller's own namespaces.
fn sysctl(path: &str, value: &str) -> Result<(), InitError> {
    sysctls(std::iter::once((path, value)))
}

/// Writes kernel parameters (path below `/proc/sys`, value) through a procfs that nobody else can mount over
/// (CVE-2025-52881).
///
/// # Errors
/// Names the parameter.
pub(crate) fn sysctls<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), InitError> {
    let mut all = all.into_iter().peekable();
    if all.peek().is_none() {
        return Ok(());
    }
    let proc = attach::private_proc()?;
    for (path, value) in all {
        let refused = |source| InitError::Sysctl {
            path: path.to_owned(),
            source,
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&proc, format!("sys/{path}"), flags, Mode::empty(), resolve).map_err(refused)?;
        rustix::io::write(&file, value.as_bytes()).map_err(refused)?;
    }
    Ok(())
}
