//! The shim's handle on its log writer: gives birth to it, orders it about, replaces it when it dies.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use copepod_proto::bundle::LogTarget;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::io::copy::{Birthright, run};
use crate::io::link::{Order, pair, receive_answer, send_order};
use crate::io::note::note;
use crate::io::pipes::Pipe;
use crate::sys::clone::{Spawned, close_all_but, spawn};
use crate::sys::watch as watching;

/// How long an order may take. The log's disk decides; longer than a healthy one ever takes, shorter than a client's
/// patience.
const ORDER_LIMIT: Duration = Duration::from_secs(10);
/// How long an exit waits for the rest of the log before it is announced without: a stalled disk must not hide it.
const DRAIN_LIMIT: Duration = Duration::from_secs(6);

/// Why the log writer did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriterError {
    #[error("make a pipe for the container's output")]
    Pipe { source: Errno },
    #[error("make the link to the log writer")]
    Link { source: Errno },
    #[error("start the log writer")]
    Fork { source: Errno },
    #[error("watch the log writer")]
    Watch { source: std::io::Error },
    #[error("give the log writer an order")]
    Order { source: Errno },
    #[error("the log writer ended before it answered")]
    Gone,
    #[error("the log writer did not answer within {} s; the log's disk may be stalled", limit.as_secs())]
    Stalled { limit: Duration },
    #[error("the container has ended and its log is complete")]
    Complete,
    #[error("{0}")]
    Refused(String),
}

/// Where the container's output is read from.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output and standard error.
    Pipes(OwnedFd, OwnedFd),
    /// A terminal, whose master end comes when the container has been made.
    Terminal(Option<OwnedFd>),
}

/// The container's ends of its output pipes.
#[derive(Debug)]
pub(crate) struct OutputEnds {
    /// For standard output.
    pub(crate) stdout: OwnedFd,
    /// For standard error.
    pub(crate) stderr: OwnedFd,
}

/// A log writer that has been born, before there is a runtime to watch it from.
#[derive(Debug)]
pub(crate) struct NewWriter {
    output: Output,
    target: Option<LogTarget>,
    process: Arc<Spawned>,
    link: OwnedFd,
}

/// A log writer and what it takes to replace it.
#[derive(Debug)]
pub(crate) struct LogWriter {
    output: Output,
    target: Option<LogTarget>,
    process: Arc<Spawned>,
    link: AsyncFd<OwnedFd>,
    last_order: u32,
    opening: Opening,
    drained: Drained,
}

/// What is known of the log's first opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    NotAsked,
    Failed,
    Done,
}

/// Whether the writer has been told to end, so that its end is no accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// It is to go on.
    No,
    /// It was told to end.
    Yes,
}

impl NewWriter {
    /// Makes the container's output pipes (none for a terminal) and forks the writer that reads them.
    pub(crate) fn with_pipes(target: Option<LogTarget>) -> Result<(Self, OutputEnds), WriterError> {
        let pipe = |source| WriterError::Pipe { source };
        let (out, err) = (Pipe::new().map_err(pipe)?, Pipe::new().map_err(pipe)?);
        let writer = Self::fork(Output::Pipes(out.read, err.read), target)?;
        Ok((
            writer,
            OutputEnds {
                stdout: out.write,
                stderr: err.write,
            },
        ))
    }

    /// Forks a writer that waits for a terminal.
    pub(crate) fn with_terminal(target: Option<LogTarget>) -> Result<Self, WriterError> {
        Self::fork(Output::Terminal(None), target)
    }

    fn fork(output: Output, target: Option<LogTarget>) -> Result<Self, WriterError> {
        let (process, link) = fork_writer(&output, target.as_ref())?;
        Ok(Self {
            output,
            target,
            process,
            link,
        })
    }

    /// Watches the writer from the current runtime.
    pub(crate) fn watch(self) -> Result<LogWriter, WriterError> {
        let Self {
            output,
            target,
            process,
            link,
        } = self;
        Ok(LogWriter {
            output,
            target,
            process,
            link: watch(link)?,
            last_order: 0,
            opening: Opening::NotAsked,
            drained: Drained::No,
        })
    }
}

impl LogWriter {
    /// The writer's process.
    pub(crate) fn process(&self) -> Arc<Spawned> {
        Arc::clone(&self.process)
    }

    /// Whether it has been told to end.
    pub(crate) fn drained(&self) -> Drained {
        self.drained
    }

    /// Waits until the writer has opened the log; asked again after a failure, it tries again.
    pub(crate) async fn open(&mut self) -> Result<(), WriterError> {
        let opened = match self.opening {
            Opening::Done => return Ok(()),
            Opening::NotAsked => self.answer(0, ORDER_LIMIT).await,
            Opening::Failed => self.order(&Order::Reopen, ORDER_LIMIT).await,
        };
        self.opening = if opened.is_ok() { Opening::Done } else { Opening::Failed };
        opened
    }

    /// Has the log opened at its path again. On return nothing more goes to the old file.
    pub(crate) async fn reopen(&mut self) -> Result<(), WriterError> {
        if self.drained == Drained::Yes {
            return Err(WriterError::Complete);
        }
        match self.order(&Order::Reopen, ORDER_LIMIT).await {
            // A new writer opens the path anew, which is what is asked for.
            Err(WriterError::Gone) => {
                self.replace()?;
                self.open().await
            }
            other => other,
        }
    }

    /// Hands the terminal's master end over; a copy stays here for a replacement.
    pub(crate) async fn terminal(&mut self, master: OwnedFd) -> Result<(), WriterError> {
        let copy = master.try_clone().map_err(|source| WriterError::Watch { source })?;
        self.output = Output::Terminal(Some(copy));
        self.order(&Order::Terminal(master), ORDER_LIMIT).await
    }

    /// Waits until everything that the container wrote is in its log, and ends the writer.
    pub(crate) async fn drain(&mut self) -> Result<(), WriterError> {
        self.drained = Drained::Yes;
        match self.order(&Order::Drain, DRAIN_LIMIT).await {
            // It died on the way: a new one finds what is left in the pipes.
            Err(WriterError::Gone) => {
                self.replace()?;
                self.order(&Order::Drain, DRAIN_LIMIT).await
            }
            other => other,
        }
    }

    /// Forks a new writer in a dead one's place; the pipes and what is in them were kept.
    pub(crate) fn replace(&mut self) -> Result<(), WriterError> {
        let (process, link) = fork_writer(&self.output, self.target.as_ref())?;
        self.process = process;
        self.link = watch(link)?;
        self.opening = Opening::NotAsked;
        Ok(())
    }

    /// Kills a writer that would not drain; for a shim that ends.
    pub(crate) fn kill(&self) {
        // Gone already, or stuck in a write that it does not return from: either way it is nobody's burden any more.
        let _killed = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
    }

    async fn order(&mut self, order: &Order, limit: Duration) -> Result<(), WriterError> {
        self.last_order = self.last_order.wrapping_add(1).max(1);
        match send_order(self.link.get_ref(), self.last_order, order) {
            Ok(()) => self.answer(self.last_order, limit).await,
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(WriterError::Gone),
            Err(source) => Err(WriterError::Order { source }),
        }
    }

    /// Waits for the answer to order `number`, skipping those that came too late for earlier ones.
    async fn answer(&self, number: u32, limit: Duration) -> Result<(), WriterError> {
        let answered = async {
            loop {
                let received = self
                    .link
                    .async_io(Interest::READABLE, |link| Ok(receive_answer(link)?))
                    .await;
                match received {
                    Ok(Some(answer)) if answer.number == number => {
                        return answer.error.map_or(Ok(()), |error| Err(WriterError::Refused(error)));
                    }
                    Ok(Some(_late)) => {}
                    Ok(None) | Err(_) => return Err(WriterError::Gone),
                }
            }
        };
        timeout(limit, answered)
            .await
            .unwrap_or(Err(WriterError::Stalled { limit }))
    }
}

fn watch(link: OwnedFd) -> Result<AsyncFd<OwnedFd>, WriterError> {
    watching::readable(link).map_err(|source| WriterError::Watch { source })
}

/// Forks the writer's process and returns it with our end of the link.
fn fork_writer(output: &Output, target: Option<&LogTarget>) -> Result<(Arc<Spawned>, OwnedFd), WriterError> {
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|source| WriterError::Watch { source });
    let (pipes, terminal) = match output {
        Output::Pipes(stdout, stderr) => (Some((copy(stdout)?, copy(stderr)?)), None),
        Output::Terminal(master) => (None, master.as_ref().map(copy).transpose()?),
    };
    let (ours, theirs) = pair().map_err(|source| WriterError::Link { source })?;
    if let Some(master) = terminal {
        // Waits in the link for a replacement's first look; nobody awaits this answer.
        send_order(&ours, u32::MAX, &Order::Terminal(master)).map_err(|source| WriterError::Order { source })?;
    }
    let birthright = Birthright {
        link: theirs,
        pipes,
        target: target.cloned(),
    };
    let process = spawn(0, None, move || {
        if let Err(errno) = strip(&birthright) {
            note(format_args!(
                "log writer: let go of the shim's descriptors: {}",
                std::io::Error::from(errno)
            ));
            return 1;
        }
        run(birthright)
    })
    .map_err(|source| WriterError::Fork { source })?;
    Ok((Arc::new(process), ours))
}

/// Keeps only what the writer needs: a write end held here would keep the streams from ever ending, and the
/// readiness pipe would keep the daemon waiting.
fn strip(birthright: &Birthright) -> Result<(), Errno> {
    // A name for ps and for operators; failing to set it matters to nobody.
    let _named = rustix::thread::set_name(c"copepod-log");
    // Stopped (by an operator, a debugger) it could not see its shim end and would stay for ever: the shim's death
    // lets it go on. The two share a session without a parent in it, so the kernel's own rule for stopped orphans,
    // which is for terminals' jobs, does not apply.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT))?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    let mut keep = vec![birthright.link.as_fd()];
    if let Some((stdout, stderr)) = &birthright.pipes {
        keep.extend([stdout.as_fd(), stderr.as_fd()]);
    }
    close_all_but(&keep)?;
    std::mem::forget(null); // closed with the rest
    Ok(())
}
