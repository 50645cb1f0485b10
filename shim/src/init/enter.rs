//! The child that enters a running container for an exec. It was born in the container's PID namespace; it joins the
//! cgroup first, then everything else at once.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::ThreadNameSpaceType;

use super::channel::Channel;
use super::rootfs::Rootfs;
use super::{InitError, console, process};
use crate::cgroup::join::{Birth, JoinHandles};
use crate::plan::process::ProcessPlan;
use crate::seccomp::Filter;
use crate::sys::clone;

/// What it brings along from the host, as descriptors.
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
    /// `oom_score_adj` of a process that names none.
    pub(crate) oom_score: i32,
    /// Of the container's first process.
    pub(crate) container: BorrowedFd<'a>,
    /// Standard input, output and error; none with a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
    /// The container's seccomp filter.
    pub(crate) filter: Option<&'a Filter>,
}

/// Enters and execs in the calling process, which was born for it. Returns the status to end with.
pub(crate) fn run(plan: &ProcessPlan, luggage: &Luggage<'_>) -> i32 {
    match enter(plan, luggage) {
        Ok(never) => match never {},
        Err(error) => luggage.channel.report(&error),
    }
}

fn enter(plan: &ProcessPlan, luggage: &Luggage<'_>) -> Result<Infallible, InitError> {
    luggage.cgroup.join_self(luggage.birth)?;
    clone::close_all_but(&luggage.fds()).map_err(|source| InitError::CloseInherited { source })?;
    process::new_session()?;
    let oom_score = plan.oom_score_adj.unwrap_or(luggage.oom_score);
    process::set_oom_score(luggage.proc, oom_score, luggage.channel)?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(luggage.container, all)
        .map_err(|source| InitError::EnterNamespaces { source })?;
    let root = Rootfs::open().map_err(|source| InitError::EnterNamespaces { source })?;
    if let Some(terminal) = plan.terminal {
        console::open(&root, terminal, plan.uid)?.hand_over(luggage.channel)?;
    }
    let launch = process::Launch {
        plan,
        channel: luggage.channel,
        root: &root,
        stdio: luggage.stdio,
        filter: luggage.filter,
        pause: None,
    };
    launch.prepare()?.exec(&launch)
}

impl<'a> Luggage<'a> {
    fn fds(&self) -> Vec<BorrowedFd<'a>> {
        let mut fds = vec![self.channel.as_fd(), self.proc, self.container];
        fds.extend(self.stdio.into_iter().flatten());
        fds.extend(self.filter.and_then(Filter::fd));
        fds
    }
}
