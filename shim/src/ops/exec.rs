//! Processes started in the container besides its first: probes, hooks, people.
//!
//! An exec's streams wait here until a client fetches them from the second socket; bytes never pass through the shim.
//! An exec whose client never comes, or goes away before its end, is killed, and so is one whose time is up: a daemon
//! that dies must not leave its probes running. Ended execs are remembered for those who ask late, but only the last
//! few: the shim's memory does not grow with the number of probes.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::cgroup::exec::ExecCgroup;
use crate::cgroup::remove::Removal;
use crate::child::launch::Launch;
use crate::child::{self, Execed, Stdio};
use crate::io::note::{chain, note};
use crate::io::pipes::Pipe;
use crate::ops::create::{fallbacks, null};
use crate::ops::error::OpError;
use crate::ops::report::{Stopped, next_station};
use crate::ops::{Shim, cleanup};
use crate::plan::spec::Process;
use crate::task::Ended;

/// How long streams wait for a client.
const PARKED: Duration = Duration::from_secs(30);
/// How much later than its caller the shim ends an exec that is over its time.
const LATE: Duration = Duration::from_secs(2);
/// How many ended execs are remembered.
const REMEMBERED: usize = 32;
/// Longest exec id, in bytes; the caller's own ids are 64.
const LONGEST_ID: usize = 128;

/// Whether the exec gets a pipe for its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// A pipe, whose write end is the first descriptor that the client gets.
    Pipe,
    /// `/dev/null`.
    Null,
}

/// What an exec's caller wants besides its process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Its standard input.
    pub(crate) stdin: Stdin,
    /// When its caller kills it. If the caller has died by then the shim does it, a moment later: a probe must not go
    /// on for ever because the daemon was killed.
    pub(crate) limit: Option<Duration>,
}

/// All execs of a container.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    table: Mutex<Table>,
    /// Names cgroups: a caller's id is not a file name.
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<String, Entry>,
    /// Ended ones, the oldest first.
    ended: VecDeque<String>,
    /// cgroups of forgotten execs in which something still runs.
    leftover: Vec<Arc<ExecCgroup>>,
}

#[derive(Debug)]
struct Entry {
    pidfd: Arc<OwnedFd>,
    cgroup: Option<Arc<ExecCgroup>>,
    /// Our ends of its streams until a client has them.
    parked: Option<Vec<OwnedFd>>,
    /// Whether a client waits, or has waited, for its end.
    awaited: bool,
    /// Rung when a client has them, or nobody ever will.
    fetched: Arc<Notify>,
    exit: Arc<watch::Sender<Option<Ended>>>,
}

impl Table {
    /// Forgets the oldest of too many ended execs, but none whose streams are still to be fetched.
    fn forget_oldest(&mut self) {
        while self.ended.len() > REMEMBERED {
            let done = |id: &String| self.by_id.get(id).is_none_or(|entry| entry.parked.is_none());
            let Some(oldest) = self.ended.iter().position(done).and_then(|at| self.ended.remove(at)) else {
                return;
            };
            if let Some(cgroup) = self.by_id.remove(&oldest).and_then(|entry| entry.cgroup) {
                self.leftover.push(cgroup);
            }
        }
    }
}

impl Execs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the streams of exec `id`: `[stdin?, stdout, stderr]`, or the terminal alone.
    ///
    /// # Errors
    /// There is no such exec, or its streams have been fetched before.
    pub(crate) fn take_streams(&self, id: &str) -> Result<Vec<OwnedFd>, OpError> {
        let mut table = self.table();
        let entry = table.by_id.get_mut(id).ok_or_else(|| OpError::NoExec(id.to_owned()))?;
        let refused = OpError::Invalid("the streams of this exec have been fetched already");
        let streams = entry.parked.take().ok_or(refused)?;
        entry.fetched.notify_one();
        Ok(streams)
    }

    /// Kills every exec's first process; the container's cgroup takes what they started.
    pub(crate) fn end_all(&self) {
        for entry in self.table().by_id.values() {
            // One that has ended has nothing to kill.
            let _killed = pidfd_send_signal(&*entry.pidfd, Signal::KILL);
        }
    }

    /// Forgets everything and removes what cgroups it can; the rest goes with the container's own.
    pub(crate) fn forget_all(&self) {
        let table = std::mem::take(&mut *self.table());
        for cgroup in table
            .by_id
            .into_values()
            .filter_map(|entry| entry.cgroup)
            .chain(table.leftover)
        {
            // Removing the container's cgroup removes those below it too.
            let _removed = cgroup.try_remove();
        }
    }

    /// Remembers that `id` has ended and forgets the oldest of too many.
    fn ended(&self, id: &str) {
        let mut table = self.table();
        if table.by_id.contains_key(id) {
            table.ended.push_back(id.to_owned());
        }
        if let Some(entry) = table.by_id.get_mut(id)
            && let Some(cgroup) = &entry.cgroup
            && !matches!(cgroup.try_remove(), Ok(Removal::Busy))
        {
            entry.cgroup = None;
        }
        table.forget_oldest();
        table
            .leftover
            .retain(|cgroup| matches!(cgroup.try_remove(), Ok(Removal::Busy)));
    }

    fn drop_streams(&self, id: &str) {
        if let Some(entry) = self.table().by_id.get_mut(id) {
            entry.parked = None;
        }
    }

    /// Takes out an exec whose client has not come for all that is its.
    fn remove_unclaimed(&self, id: &str) -> Option<Entry> {
        let unclaimed = |entry: &Entry| entry.parked.is_some() || !entry.awaited;
        let unclaimed = self.table().by_id.get(id).is_some_and(unclaimed);
        if unclaimed { self.remove(id) } else { None }
    }

    fn remove(&self, id: &str) -> Option<Entry> {
        let mut table = self.table();
        table.ended.retain(|ended| ended != id);
        table.by_id.remove(id)
    }
}

/// Starts a process in the container. On return it is the program it was to become. Returns its process id.
///
/// # Errors
/// The container does not run, the id is in use, or the process could not be started: then nothing of it is left.
pub(crate) async fn exec(shim: Arc<Shim>, id: String, process: Vec<u8>, wish: Wish) -> Result<i32, OpError> {
    let (pid, mut launch) = fork(&shim, &id, &process, wish)?;
    drop(process);
    let error = match next_station(&mut launch).await {
        Ok(_running) => {
            if let (Some(master), Some(entry)) = (launch.take_console(), shim.execs.table().by_id.get_mut(&id)) {
                entry.parked = Some(vec![master]);
            }
            return Ok(pid);
        }
        Err(Stopped::Failed(source)) => OpError::Launch { source },
        Err(Stopped::Lost(error)) => error,
    };
    if let Some(entry) = shim.execs.remove(&id) {
        end(entry);
    }
    Err(error)
}

/// The part without a pause: nobody else runs between the fork and the registration of its exit.
fn fork(shim: &Arc<Shim>, id: &str, process: &[u8], wish: Wish) -> Result<(i32, Launch), OpError> {
    let container = shim.running("exec")?;
    if id.is_empty() || id.len() > LONGEST_ID {
        return Err(OpError::Invalid("an exec id has 1 to 128 bytes"));
    }
    if shim.execs.table().by_id.contains_key(id) {
        return Err(OpError::ExecExists(id.to_owned()));
    }
    let process: Process = serde_json::from_slice(process).map_err(|source| OpError::Process { source })?;
    let (stdio, parked) = streams(&process, wish.stdin)?;
    let cgroup = match container
        .cgroup
        .exec_child(shim.execs.count.fetch_add(1, Ordering::Relaxed))
    {
        Ok(cgroup) => Some(Arc::new(cgroup)),
        Err(error) => {
            // A workload can use up its cgroup's descendants; its probes still have to run.
            note(chain(&error));
            None
        }
    };
    let join = cgroup
        .as_ref()
        .map_or_else(|| container.cgroup.join_handles(), |cgroup| cgroup.join_handles());
    let join = join.map_err(|source| OpError::Cgroup { source })?;
    let exec = child::Exec {
        container: container.pidfd.as_fd(),
        process: &process,
        stdio,
        cgroup: &join,
        filter: container.filter.as_deref(),
        fallbacks: fallbacks(shim)?,
    };
    let forked = child::exec(&shim.host, &exec);
    let Execed { pid, pidfd, launch } = match forked {
        Ok(execed) => execed,
        Err(source) => {
            if let Some(cgroup) = cgroup {
                cleanup::in_background(cgroup);
            }
            return Err(OpError::Exec { source });
        }
    };
    let pid = pid.as_raw_nonzero().get();
    let exit = shim.reaper.expect(pid);
    let (tell, fetched) = (Arc::new(watch::Sender::new(None)), Arc::new(Notify::new()));
    let entry = Entry {
        pidfd: Arc::new(pidfd),
        cgroup,
        parked: Some(parked),
        awaited: false,
        fetched: Arc::clone(&fetched),
        exit: Arc::clone(&tell),
    };
    shim.execs.table().by_id.insert(id.to_owned(), entry);
    let following = Following {
        exit,
        tell,
        fetched,
        limit: wish.limit,
    };
    tokio::spawn(follow(Arc::clone(shim), id.to_owned(), following));
    Ok((pid, launch))
}

/// The child's standard streams, and our ends of them in the order in which a client gets them.
fn streams(process: &Process, stdin: Stdin) -> Result<(Stdio, Vec<OwnedFd>), OpError> {
    let mut ours = Vec::with_capacity(3);
    if process.terminal {
        return Ok((Stdio::Terminal, ours));
    }
    let pipe = || Pipe::new().map_err(|source| OpError::Pipes { source });
    let input = match stdin {
        Stdin::Null => null()?,
        Stdin::Pipe => {
            let Pipe { read, write } = pipe()?;
            ours.push(write);
            read
        }
    };
    let (output, error) = (pipe()?, pipe()?);
    ours.extend([output.read, error.read]);
    Ok((Stdio::Given([input, output.write, error.write]), ours))
}

/// Kills an exec and everything it started, in the background as far as the kernel needs time.
fn end(entry: Entry) {
    let Entry {
        pidfd,
        cgroup,
        parked,
        awaited: _,
        fetched,
        exit: _,
    } = entry;
    fetched.notify_one();
    // Readers and writers on the other side must not wait for streams that nobody will fetch.
    drop(parked);
    // It may have ended by itself.
    let _killed = pidfd_send_signal(&*pidfd, Signal::KILL);
    if let Some(cgroup) = cgroup {
        cleanup::in_background(cgroup);
    }
}

/// Waits for the end of exec `id`'s first process. Answers at once when it has ended and is still remembered. Dropped
/// before that, as it is when its connection ends, it kills the exec and everything it started.
///
/// # Errors
/// There is no such exec.
pub(crate) async fn wait(shim: &Shim, id: &str) -> Result<Ended, OpError> {
    let unknown = || OpError::NoExec(id.to_owned());
    let mut exit = {
        let mut table = shim.execs.table();
        let entry = table.by_id.get_mut(id).ok_or_else(unknown)?;
        entry.awaited = true;
        entry.exit.subscribe()
    };
    let mut waiting = Waiting { shim, id: Some(id) };
    let ended = exit.wait_for(Option::is_some).await.ok().and_then(|ended| *ended);
    waiting.id = None;
    ended.ok_or_else(unknown)
}

/// A client that waits for an exec.
struct Waiting<'a> {
    shim: &'a Shim,
    /// `None` when it has its answer.
    id: Option<&'a str>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.id.and_then(|id| self.shim.execs.remove(id)) {
            note(format_args!("an exec's client went away before its end: killed"));
            end(entry);
        }
    }
}

/// SIGKILLs exec `id` and everything it started, and forgets it.
///
/// # Errors
/// There is no such exec.
pub(crate) async fn kill(shim: Arc<Shim>, id: String) -> Result<(), OpError> {
    let entry = shim.execs.remove(&id).ok_or(OpError::NoExec(id))?;
    let cgroup = entry.cgroup.clone();
    end(entry);
    match cgroup {
        Some(cgroup) => cleanup::kill_all(&*cgroup).await,
        None => Ok(()),
    }
}

/// Follows an exec to its end, gives up streams that nobody fetches, and ends what is over its time.
async fn follow(shim: Arc<Shim>, id: String, following: Following) {
    let Following {
        exit,
        tell,
        fetched,
        limit,
    } = following;
    let begun = Instant::now();
    let deadline = begun + PARKED;
    let overdue = limit.and_then(|limit| begun.checked_add(limit + LATE));
    let mut steps = [(Some(deadline), give_up as fn(&Shim, &str)), (overdue, end_overdue)];
    steps.sort_unstable_by_key(|(at, _)| at.unwrap_or(deadline));
    let mut exit = pin!(exit);
    let mut ended = None;
    for (at, step) in steps {
        let Some(at) = at else { continue };
        ended = timeout_at(at, &mut exit).await.ok();
        if ended.is_some() {
            break;
        }
        step(&shim, &id);
    }
    let ended = match ended {
        Some(ended) => ended,
        None => exit.await,
    };
    // The reaper lives as long as the shim: if it does not answer, the shim is ending.
    let Ok(ended) = ended else { return };
    tell.send_replace(Some(ended));
    shim.execs.ended(&id);
    // A short-lived exec's output is still fetched after its end, but not for ever.
    if timeout_at(deadline, fetched.notified()).await.is_err() {
        shim.execs.drop_streams(&id);
    }
}

/// Kills an exec whose client has not come for its streams, or not for its end.
fn give_up(shim: &Shim, id: &str) {
    if let Some(entry) = shim.execs.remove_unclaimed(id) {
        note(format_args!(
            "exec {id}: nobody came for it in {} s, killed",
            PARKED.as_secs()
        ));
        end(entry);
    }
}

/// Kills an exec whose caller should have done so.
fn end_overdue(shim: &Shim, id: &str) {
    if let Some(entry) = shim.execs.remove(id) {
        note(format_args!("exec {id}: over its time and its caller is gone, killed"));
        end(entry);
    }
}

/// What it takes to follow an exec.
struct Following {
    exit: oneshot::Receiver<Ended>,
    tell: Arc<watch::Sender<Option<Ended>>>,
    fetched: Arc<Notify>,
    limit: Option<Duration>,
}
