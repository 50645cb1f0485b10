//! The last stretch, the same for a container's first process and for an exec: streams, limits, directory, ids,
//! capabilities, filter, program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Rlimit};

use super::channel::Channel;
use super::rootfs::Rootfs;
use super::{InitError, credentials, passwd};
use crate::plan::capability::SYS_ADMIN;
use crate::plan::process::{Home, Privileges, ProcessPlan};
use crate::seccomp::Filter;
use crate::sys::{clone, exec, namespace, seccomp, signal};

/// What is started, where, and how it talks.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Checked beforehand.
    pub(crate) plan: &'a ProcessPlan,
    /// To the shim.
    pub(crate) channel: &'a Channel,
    /// The container's root, which is the caller's by now.
    pub(crate) root: &'a Rootfs,
    /// Standard input, output and error; none when they are set already.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    /// The seccomp filter.
    pub(crate) filter: Option<&'a Filter>,
    /// Run this binary's `pause` verb instead of the program.
    pub(crate) pause: Option<BorrowedFd<'a>>,
}

/// All done but the filter, what it takes to install it, and the exec.
#[derive(Debug)]
pub(crate) struct Ready {
    filter: Option<(Vec<seccomp::Instruction>, u32)>,
    env: Vec<CString>,
    capabilities: credentials::Final,
}

impl Launch<'_> {
    /// Makes the calling process what the plan says.
    ///
    /// # Errors
    /// Names the step.
    pub(crate) fn prepare(&self) -> Result<Ready, InitError> {
        let plan = self.plan;
        match namespace::new_session_keyring() {
            // A kernel without keyrings has nothing to hide.
            Ok(()) | Err(Errno::NOSYS) => {}
            Err(source) => return Err(InitError::Keyring { source }),
        }
        let filter = self.filter.map(|filter| Ok((filter.load()?, filter.flags())));
        let filter = filter.transpose().map_err(|source| InitError::ReadFilter { source })?;
        let env = self.environment()?;
        if let Some(stdio) = self.stdio {
            own_stdio(stdio, plan.uid)?;
            set_stdio(stdio)?;
        }
        for limit in &plan.rlimits {
            let value = Rlimit {
                current: limit.soft,
                maximum: limit.hard,
            };
            rustix::process::setrlimit(limit.resource, value).map_err(|source| InitError::Limit {
                name: limit.name,
                source,
            })?;
        }
        self.change_directory()?;
        rustix::process::umask(Mode::from_raw_mode(plan.umask));
        // Without no_new_privs only CAP_SYS_ADMIN may install a filter; it goes as soon as that is done.
        let keep = if self.filter_takes_privilege() { SYS_ADMIN } else { 0 };
        let capabilities = credentials::change(plan, keep, self.channel)?;
        // Changing ids resets it; until the exec the container must not look into our memory (CVE-2016-9962).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|source| InitError::Dumpable { source })?;
        if plan.privileges == Privileges::Fixed {
            rustix::thread::set_no_new_privs(true).map_err(|source| InitError::NoNewPrivs { source })?;
        }
        clone::cloexec_all().map_err(|source| InitError::CloseInherited { source })?;
        Ok(Ready {
            filter,
            env,
            capabilities,
        })
    }

    fn filter_takes_privilege(&self) -> bool {
        self.filter.is_some() && self.plan.privileges == Privileges::MayGrow
    }

    fn environment(&self) -> Result<Vec<CString>, InitError> {
        let mut env = self.plan.env.clone();
        if self.plan.home == Home::FromPasswd {
            let home = passwd::home(self.root, self.plan.uid).map_err(|source| InitError::Passwd { source })?;
            env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
            env.extend(CString::new(format!("HOME={home}")).ok());
        }
        Ok(env)
    }

    /// Through a descriptor that no magic link has led to, and asked again afterwards (CVE-2024-21626).
    fn change_directory(&self) -> Result<(), InitError> {
        let path = &self.plan.cwd;
        let failed = |source| InitError::Chdir {
            path: path.clone(),
            source,
        };
        let directory = self.root.find(path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        rustix::process::fchdir(&directory).map_err(failed)?;
        match rustix::process::getcwd(Vec::new()) {
            Ok(cwd) if cwd.as_bytes().starts_with(b"/") => Ok(()),
            Ok(_) | Err(Errno::NOENT) => Err(InitError::CwdOutside { path: path.clone() }),
            Err(source) => Err(failed(source)),
        }
    }
}

impl Ready {
    /// The point of no return.
    ///
    /// # Errors
    /// Names the step; there is no success.
    pub(crate) fn exec(self, launch: &Launch<'_>) -> Result<Infallible, InitError> {
        signal::reset_for_exec().map_err(|source| InitError::Signals { source })?;
        launch.channel.executing()?;
        if let Some((program, flags)) = &self.filter {
            seccomp::install(program, *flags).map_err(|source| InitError::InstallFilter { source })?;
        }
        if launch.filter_takes_privilege() {
            self.capabilities.give_up_rest()?;
        }
        if let Some(binary) = launch.pause {
            let args = [c"containerd-shim-copepod-v1".to_owned(), c"pause".to_owned()];
            let source = exec::fexecve(binary, &args, &[]);
            return Err(InitError::Exec {
                program: "pause".to_owned(),
                source,
            });
        }
        Err(run_first(launch.plan, &self.env))
    }
}

/// Tries each candidate as a shell does: a missing one or one that may not be run is passed over, and the latter is
/// remembered as the better reason.
fn run_first(plan: &ProcessPlan, env: &[CString]) -> InitError {
    let name = || {
        plan.args
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let mut denied = None;
    for program in &plan.programs {
        match exec::execve(program, &plan.args, env) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => denied = Some(Errno::ACCESS),
            source => {
                return InitError::Exec {
                    program: program.to_string_lossy().into_owned(),
                    source,
                };
            }
        }
    }
    match denied {
        Some(source) => InitError::Exec {
            program: name(),
            source,
        },
        None if name().contains('/') => InitError::Exec {
            program: name(),
            source: Errno::NOENT,
        },
        None => InitError::NotFound {
            program: name(),
            source: Errno::NOENT,
        },
    }
}

/// A session of its own: signals of the shim's terminal, if it has one, are none of the container's.
///
/// # Errors
/// What setsid(2) says.
pub(crate) fn new_session() -> Result<(), InitError> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|source| InitError::Session { source })
}

/// Makes the three descriptors standard input, output and error.
///
/// # Errors
/// What dup2(2) says.
pub(crate) fn set_stdio(stdio: [BorrowedFd<'_>; 3]) -> Result<(), InitError> {
    let [input, output, error] = stdio;
    let all = nix::unistd::dup2_stdin(input)
        .and_then(|()| nix::unistd::dup2_stdout(output))
        .and_then(|()| nix::unistd::dup2_stderr(error));
    all.map_err(|errno| InitError::Stdio {
        source: Errno::from_raw_os_error(errno as i32),
    })
}

/// The process's user may open its own streams again (`/dev/stdout`), but never owns the host's null device.
fn own_stdio(stdio: [BorrowedFd<'_>; 3], uid: u32) -> Result<(), InitError> {
    for stream in stdio {
        let stat = rustix::fs::fstat(stream).map_err(|source| InitError::Stdio { source })?;
        let pipe = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo;
        if pipe && stat.st_uid != uid {
            rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None)
                .map_err(|source| InitError::Stdio { source })?;
        }
    }
    Ok(())
}

/// Writes the caller's `oom_score_adj` through the host's procfs. Where the host refuses to lower it, the process
/// keeps the lowest it may have, and says so.
///
/// # Errors
/// What open(2) and write(2) say.
pub(crate) fn set_oom_score(proc: BorrowedFd<'_>, value: i32, channel: &Channel) -> Result<(), InitError> {
    let failed = |source| InitError::OomScore { value, source };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(proc, "self/oom_score_adj", flags, Mode::empty(), resolve).map_err(failed)?;
    match rustix::io::pwrite(&file, value.to_string().as_bytes(), 0) {
        Ok(_) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM) => {
            let mut own = [0_u8; 8];
            let read = rustix::io::pread(&file, &mut own, 0).map_err(failed)?;
            let own = String::from_utf8_lossy(own.get(..read).unwrap_or_default())
                .trim()
                .to_owned();
            channel.note(&format!("oom_score_adj {value} needs CAP_SYS_RESOURCE; it stays {own}"))
        }
        Err(source) => Err(failed(source)),
    }
}

/// The host's procfs as a directory, verified to be one.
///
/// # Errors
/// `ENOTDIR` when `/proc` is something else.
pub(crate) fn host_proc() -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    let filesystem = rustix::fs::fstatfs(proc.as_fd())?.f_type;
    (u64::try_from(filesystem) == Ok(crate::plan::mounts::PROC_SUPER_MAGIC))
        .then_some(proc)
        .ok_or(Errno::NOTDIR)
}
