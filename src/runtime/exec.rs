//! A bounded exec: start, collect, wait, and kill when its time is up or nobody wants its result any more.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use copepod_proto::shim as own;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout_at};
use ttrpc::context::with_timeout;

use super::connection::{Connection, QUICK};
use super::streams::{self, Wanted};
use super::{ExecSpec, ExecStreams, RuntimeError, Task};
use crate::base::error::chain;
use crate::domain::exec::ExecOutput;

/// As for a container's start: the program may lie on a slow disk.
const START: Duration = Duration::from_secs(60);

/// After a command has ended, its background children may hold its output open. What comes without such a pause still
/// counts (a `tee` behind the command), but not for longer than [`DRAIN`] in all (CRI contract §8.1).
const IDLE: Duration = Duration::from_millis(500);

/// See [`IDLE`].
const DRAIN: Duration = Duration::from_secs(5);

/// Bytes read at once; as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

impl Task {
    /// Runs a process and collects its output: `limit` bytes of both streams together, the rest is discarded.
    /// On time-out everything it started is killed, and so it is when the returned future is dropped.
    ///
    /// # Errors
    /// `RuntimeError::TimedOut` is told apart.
    pub async fn exec_collect(
        &self,
        exec: ExecSpec,
        timeout: Option<Duration>,
        limit: usize,
    ) -> Result<ExecOutput, RuntimeError> {
        let begun = Instant::now();
        let ExecSpec { process, stdin } = exec;
        let wanted = if stdin { Wanted::All } else { Wanted::Output };
        let killer = Killer::new(&self.connection);
        // The second socket is dialled before it is needed: it costs the caller nothing.
        let failed = |source| RuntimeError::Streams {
            id: self.id.clone(),
            source,
        };
        let socket = streams::dial(&self.bundle).await.map_err(failed)?;
        let work = async {
            self.start_exec(&killer.exec_id, process, (wanted, timeout)).await?;
            let streams = streams::fetch(&self.id, &socket, &killer.exec_id, wanted).await?;
            drop(socket);
            self.collect(&killer.exec_id, streams, limit).await
        };
        let outcome = within(timeout.map(|timeout| begun + timeout), work).await;
        match (outcome, timeout) {
            (Some(Ok(output)), _) => {
                killer.disarm();
                Ok(output)
            }
            (Some(Err(error)), _) => {
                killer.kill().await;
                Err(error)
            }
            (None, Some(timeout)) => {
                killer.kill().await;
                Err(RuntimeError::TimedOut { timeout })
            }
            // Without a limit nothing can pass it.
            (None, None) => Err(RuntimeError::TimedOut { timeout: Duration::MAX }),
        }
    }

    async fn start_exec(
        &self,
        exec_id: &str,
        process: Vec<u8>,
        (wanted, timeout): (Wanted, Option<Duration>),
    ) -> Result<(), RuntimeError> {
        let request = own::ExecRequest {
            exec_id: exec_id.to_owned(),
            process,
            stdin: wanted == Wanted::All,
            // At least 1: zero means none.
            limit_ms: timeout.map_or(0, |timeout| {
                u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
            }),
            ..Default::default()
        };
        let client = self.connection.shim();
        let pending = client.exec(with_timeout(0), &request);
        self.connection
            .answer("run the command", START, pending)
            .await
            .map(drop)
    }

    /// Reads both streams and waits for the end, at the same time.
    async fn collect(&self, exec_id: &str, streams: ExecStreams, limit: usize) -> Result<ExecOutput, RuntimeError> {
        let ExecStreams { stdin, stdout, stderr } = streams;
        // Nobody has anything to say to it.
        drop(stdin);
        let failed = |source| RuntimeError::Output {
            id: self.id.clone(),
            source,
        };
        let mut output = Output::new(stdout, stderr, limit).map_err(failed)?;
        let request = own::WaitExecRequest {
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let client = self.connection.shim();
        let end = client.wait_exec(with_timeout(0), &request);
        tokio::pin!(end);
        let ended = loop {
            tokio::select! {
                // Output first: what it wrote is there before it ends, and a full pipe keeps it from ending.
                biased;
                read = output.read(), if output.is_open() => { read.map_err(failed)?; }
                ended = &mut end => break ended.map_err(|error| self.connection.failed("wait for the command", error))?,
            }
        };
        let until = Instant::now() + DRAIN;
        while output.is_open() {
            match timeout_at(until.min(Instant::now() + IDLE), output.read()).await {
                Ok(read) => read.map_err(failed)?,
                Err(_) => break,
            }
        }
        Ok(ExecOutput {
            code: ended.exit_code,
            stdout: output.stdout.bytes,
            stderr: output.stderr.bytes,
        })
    }
}

/// Both streams of a command, with one budget.
struct Output {
    stdout: Stream,
    stderr: Stream,
    /// Bytes that are still kept.
    budget: usize,
    chunk: Vec<u8>,
}

struct Stream {
    /// `None` after its end.
    pipe: Option<pipe::Receiver>,
    bytes: Vec<u8>,
}

impl Output {
    fn new(stdout: std::os::fd::OwnedFd, stderr: Option<std::os::fd::OwnedFd>, limit: usize) -> io::Result<Self> {
        let stream = |fd: Option<std::os::fd::OwnedFd>| {
            Ok::<_, io::Error>(Stream {
                pipe: fd.map(pipe::Receiver::from_owned_fd).transpose()?,
                bytes: Vec::new(),
            })
        };
        Ok(Self {
            stdout: stream(Some(stdout))?,
            stderr: stream(stderr)?,
            budget: limit,
            chunk: Vec::with_capacity(CHUNK),
        })
    }

    fn is_open(&self) -> bool {
        self.stdout.pipe.is_some() || self.stderr.pipe.is_some()
    }

    /// Takes the next bytes of whichever stream has some. Nothing is lost when it is dropped while it waits.
    async fn read(&mut self) -> io::Result<()> {
        let Self {
            stdout,
            stderr,
            budget,
            chunk,
        } = self;
        let stream = tokio::select! {
            ready = readable(stdout.pipe.as_ref()) => ready.map(|()| stdout),
            ready = readable(stderr.pipe.as_ref()) => ready.map(|()| stderr),
        }?;
        let Some(pipe) = stream.pipe.as_mut() else {
            return Ok(());
        };
        chunk.clear();
        // Ready, so this does not wait.
        if pipe.read_buf(chunk).await? == 0 {
            stream.pipe = None;
        }
        let kept = chunk.len().min(*budget);
        *budget -= kept;
        stream.bytes.extend_from_slice(&chunk[..kept]);
        Ok(())
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.readable().await,
        None => std::future::pending().await,
    }
}

/// `work`, until `deadline` if there is one.
async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// Kills an exec that nobody waits for: by name, or when it is dropped. Where there is no runtime left to do it, the daemon
/// is ending, and with it the connection: the shim kills the exec then.
struct Killer {
    exec_id: String,
    /// `None` when there is nothing to kill any more.
    connection: Option<Arc<Connection>>,
}

impl Killer {
    fn new(connection: &Arc<Connection>) -> Self {
        // Random rather than counted: the shim remembers the ids of a daemon before this one.
        let mut bytes = [0_u8; 16];
        getrandom(&mut bytes, GetRandomFlags::empty()).ok();
        Self {
            exec_id: hex::encode(bytes),
            connection: Some(Arc::clone(connection)),
        }
    }

    fn disarm(mut self) {
        self.connection = None;
    }

    async fn kill(mut self) {
        if let Some(connection) = self.connection.take() {
            kill_exec(&connection, self.exec_id.clone()).await;
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) = (self.connection.take(), tokio::runtime::Handle::try_current()) {
            let exec_id = std::mem::take(&mut self.exec_id);
            runtime.spawn(async move { kill_exec(&connection, exec_id).await });
        }
    }
}

async fn kill_exec(connection: &Connection, exec_id: String) {
    let request = own::KillExecRequest {
        exec_id,
        ..Default::default()
    };
    let client = connection.shim();
    match connection
        .answer("kill the command", QUICK, client.kill_exec(with_timeout(0), &request))
        .await
    {
        // It never was, or has ended long ago.
        Ok(_)
        | Err(RuntimeError::Refused {
            code: ttrpc::Code::NOT_FOUND,
            ..
        }) => {}
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot kill a command in a container");
        }
    }
}
