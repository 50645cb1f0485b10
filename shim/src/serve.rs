//! `serve`: the resident process of one container.
//!
//! Everything that has to happen before a runtime exists happens first and in order (`birth`, the log writer's fork,
//! the sockets); then one thread serves until Shutdown. Who started it reads `ready PID` or `error: ...` from its
//! standard output, which is closed then. The number may be another than that of the process that was started: to
//! move into a v2 cgroup waits 14 ms for all of the host's processors (measured), to be born there costs nothing.

mod birth;
mod sockets;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use containerd_shim_protos::shim_async::create_task;
use copepod_proto::bundle::ShimOptions;
use copepod_proto::shim::create_shim;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};

use crate::Arguments;
use crate::child::host::Host;
use crate::io::note::{chain, note};
use crate::io::writer::{NewWriter, OutputEnds, WriterError};
use crate::ops::exec::Execs;
use crate::ops::{Shim, handover, log};
use crate::reap::Reaper;
use crate::serve::birth::{BirthError, Cgroups};
use crate::serve::sockets::{SocketError, Sockets};
use crate::sys::clone::spawn;
use crate::task::Phase;
use crate::ttrpc::listener::RootOnly;
use crate::ttrpc::shim::ShimService;
use crate::ttrpc::task::TaskService;

/// What the last answers get to leave by after Shutdown.
const FAREWELL: Duration = Duration::from_millis(20);

/// Why the shim does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("enter bundle {}", path.display())]
    Bundle { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Birth(#[from] BirthError),
    #[error("start the log writer")]
    Writer { source: WriterError },
    #[error(transparent)]
    Sockets(#[from] SocketError),
    #[error("start the runtime")]
    Runtime { source: std::io::Error },
    #[error("serve the task API")]
    Serve { source: ttrpc::Error },
    #[error("tell that the shim is ready")]
    Ready { source: Errno },
}

/// Everything that is made before the runtime.
struct Born {
    id: String,
    bundle: PathBuf,
    options: ShimOptions,
    sockets: Sockets,
    host: Host,
    writer: NewWriter,
    output: Option<OutputEnds>,
}

/// Serves until Shutdown, in this process or, where that gets it into its cgroup sooner, in a child of it.
///
/// # Errors
/// The step that failed; it has been told on standard output, too.
pub(crate) fn serve(arguments: &Arguments) -> Result<(), ServeError> {
    let begun = begin(arguments);
    if let Ok((bundle, options)) = &begun
        && let Some(unified) = birth::unified(options)
    {
        match spawn(0, Some(unified.as_fd()), || resume(arguments, bundle, options)) {
            // Who started this process reads the rest, and the other's number, from the pipe that both have.
            Ok(_born) => return Ok(()),
            // Moving there may do, or says better why it cannot be.
            Err(errno) => note(format_args!("be born in the shims' cgroup: {errno}")),
        }
    }
    told(begun.and_then(|(bundle, options)| live_in(arguments, bundle, options, Cgroups::All)))
}

/// What the child of a process that only gave birth does: everything.
fn resume(arguments: &Arguments, bundle: &Path, options: &ShimOptions) -> i32 {
    // The directory that it was born in is open, too; its owner's stack is never unwound.
    let served = birth::isolate()
        .and_then(|()| birth::unblock_signals())
        .map_err(ServeError::Birth)
        .and_then(|()| live_in(arguments, bundle.to_owned(), options.clone(), Cgroups::BornInUnified));
    match told(served) {
        Ok(()) => 0,
        Err(error) => {
            note(chain(&error));
            1
        }
    }
}

fn begin(arguments: &Arguments) -> Result<(PathBuf, ShimOptions), ServeError> {
    let bundle = enter(&arguments.bundle)?;
    let options = birth::options(&bundle)?;
    birth::isolate()?;
    Ok((bundle, options))
}

fn live_in(arguments: &Arguments, bundle: PathBuf, options: ShimOptions, cgroups: Cgroups) -> Result<(), ServeError> {
    bear(arguments, bundle, options, cgroups).and_then(|born| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build();
        runtime
            .map_err(|source| ServeError::Runtime { source })?
            .block_on(live(born))
    })
}

fn told(served: Result<(), ServeError>) -> Result<(), ServeError> {
    if let Err(error) = &served {
        // The starter reads it there; if it is gone, standard error has it.
        let _told = rustix::io::write(rustix::stdio::stdout(), format!("error: {}\n", chain(error)).as_bytes());
    }
    served
}

fn bear(arguments: &Arguments, bundle: PathBuf, options: ShimOptions, cgroups: Cgroups) -> Result<Born, ServeError> {
    // Before the shim lowers its own oom_score_adj, which is not the container's.
    let host = Host::open().map_err(|source| BirthError::Host { source })?;
    birth::settle(&options, cgroups)?;
    let writer = |source| ServeError::Writer { source };
    let (log, output) = if options.tty {
        (NewWriter::with_terminal(options.log.clone()).map_err(writer)?, None)
    } else {
        let (log, ends) = NewWriter::with_pipes(options.log.clone()).map_err(writer)?;
        (log, Some(ends))
    };
    let sockets = sockets::bind(&bundle)?;
    Ok(Born {
        id: arguments.id.clone(),
        bundle,
        options,
        sockets,
        host,
        writer: log,
        output,
    })
}

/// Makes the bundle the working directory: sockets are bound by a name that always fits, and every path below it is
/// short.
fn enter(bundle: &Path) -> Result<PathBuf, ServeError> {
    let refuse = |source| ServeError::Bundle {
        path: bundle.to_owned(),
        source,
    };
    if !bundle.as_os_str().is_empty() {
        std::env::set_current_dir(bundle).map_err(refuse)?;
    }
    std::env::current_dir().map_err(refuse)
}

async fn live(born: Born) -> Result<(), ServeError> {
    let Born {
        id,
        bundle,
        options,
        sockets,
        host,
        writer,
        output,
    } = born;
    let Sockets { task, fd } = sockets;
    let shim = Arc::new(Shim {
        id,
        bundle,
        options,
        host,
        reaper: Arc::new(Reaper::default()),
        phase: watch::Sender::new(Phase::Absent),
        log: tokio::sync::Mutex::new(writer.watch().map_err(|source| ServeError::Writer { source })?),
        output: Mutex::new(output),
        parts: Mutex::new(None),
        execs: Execs::default(),
        stop: Notify::new(),
    });
    tokio::spawn(reap(Arc::clone(&shim.reaper)));
    tokio::spawn(log::keep_writer_alive(Arc::clone(&shim)));
    tokio::spawn(hand_over(Arc::clone(&shim), fd));
    let task = UnixListener::from_std(task).map_err(|source| ServeError::Runtime { source })?;
    let mut server = ttrpc::r#async::Server::new()
        .add_listener(ttrpc::r#async::transport::Listener::new(RootOnly::new(task)))
        .register_service(create_task(Arc::new(TaskService(Arc::clone(&shim)))))
        .register_service(create_shim(Arc::new(ShimService(Arc::clone(&shim)))));
    server.start().await.map_err(|source| ServeError::Serve { source })?;
    ready()?;
    shim.stop.notified().await;
    tokio::time::sleep(FAREWELL).await;
    sockets::unlink();
    shim.log.lock().await.kill();
    Ok(())
}

async fn reap(reaper: Arc<Reaper>) {
    if let Err(error) = reaper.run().await {
        note(chain(&error));
    }
}

async fn hand_over(shim: Arc<Shim>, listener: OwnedFd) {
    if let Err(error) = handover::serve(shim, listener).await {
        note(format_args!("serve the second socket: {error}"));
    }
}

/// Says `ready PID` and closes standard output, for which the starter waits.
fn ready() -> Result<(), ServeError> {
    let refuse = |source| ServeError::Ready { source };
    let words = format!("ready {}\n", std::process::id());
    rustix::io::write(rustix::stdio::stdout(), words.as_bytes()).map_err(refuse)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(refuse)?;
    rustix::stdio::dup2_stdout(&null).map_err(refuse)
}
