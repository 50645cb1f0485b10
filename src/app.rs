//! Puts the house together: opens each room with its part of the configuration, hands the drivers to `ops`, serves
//! until told to stop. The only room that knows all others.

pub mod allocator;
pub mod host;
pub mod owner;
pub mod shutdown;
pub mod socket;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::fs::{self, FsError};
use crate::base::id::PodId;
use crate::config::Config;
use crate::domain::error::Failure;
use crate::image::Puller;
use crate::image::error::PullError;
use crate::network::{Network, NetworkError};
use crate::ops::{self, Drivers, Ops};
use crate::runtime::{Runtime, RuntimeError};
use crate::snapshot::{SnapshotError, Snapshots};
use crate::state::{Recorded, State, StateError};
use crate::{cri, telemetry};

/// Threads that run async code. The daemon waits far more than it computes; what computes (pulls) has threads of its
/// own.
const WORKERS: usize = 2;

/// How long blocking work may take to end after everything else has.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// The daemon cannot start, or failed while serving.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logging.
    #[error("set up logging")]
    Log(#[from] telemetry::log::LogError),
    /// Threads.
    #[error("start the async runtime")]
    Threads(#[source] io::Error),
    /// Directories.
    #[error("prepare the daemon's directories")]
    Directories(#[from] FsError),
    /// Whose they are.
    #[error("take the daemon's directories")]
    Owner(#[from] owner::OwnerError),
    /// Facts of the host.
    #[error("examine this host")]
    Host(#[from] host::HostError),
    /// Records.
    #[error("open the daemon's records")]
    State(#[from] StateError),
    /// Shims.
    #[error("prepare for shims")]
    Runtime(#[from] RuntimeError),
    /// Images.
    #[error("open the image store")]
    Images(#[from] PullError),
    /// Writable layers.
    #[error("open the writable layers")]
    Snapshots(#[from] SnapshotError),
    /// Network.
    #[error("set up the pod network")]
    Network(#[from] NetworkError),
    /// Recovery.
    #[error("bring records and host together")]
    Recover(#[source] Failure),
    /// The CRI socket.
    #[error("take the CRI socket")]
    Socket(#[from] socket::SocketError),
    /// The socket's file at the end.
    #[error("give the CRI socket back")]
    GiveBack(#[source] FsError),
    /// gRPC.
    #[error("serve the CRI")]
    Serve(#[from] cri::ServeError),
}

/// Runs the daemon until SIGTERM or SIGINT. Containers are left alone then.
///
/// # Errors
/// See [`AppError`]; before serving begins nothing has been changed that a next start would not find in order.
pub fn run(config: Config) -> Result<(), AppError> {
    telemetry::log::install(&config.log)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("copepod")
        .enable_all()
        .build()
        .map_err(AppError::Threads)?;
    let outcome = threads.block_on(serve(config));
    // A thread that hangs in a system call must not keep the process: everything that matters is recorded.
    threads.shutdown_timeout(LAST_THREADS);
    outcome
}

async fn serve(config: Config) -> Result<(), AppError> {
    // Asked for before anything else: a signal during recovery must not kill half-way.
    let shutdown = shutdown::signal().map_err(AppError::Threads)?;
    let facts = host::facts()?;
    owner::refuse_foreign(&config.root, &config.state)?;
    fs::private_dir(&config.root, 0o700)?;
    let (state, recorded) = State::open(&config.root.join("copepod.redb")).await?;
    // `state` may be entered by others (sockets have modes of their own), everything below it may not.
    fs::private_dir(&config.state, 0o711)?;
    let instance = config.runtime.instance.clone();
    let _claim = owner::claim(&config.state, &config.root, &instance, &facts.boot_id)?;
    socket::refuse_if_taken(&config.socket)?;
    let image = Puller::open(config.image)?;
    let snapshot = Snapshots::open(config.root.join("snapshots"))?;
    let network = Network::open(config.network, leases(&recorded)).await?;
    // The last two take things from the host; what fails after them gives those back.
    let (runtime, exits) = match Runtime::open(config.runtime).await {
        Ok(opened) => opened,
        Err(error) => {
            network.close().await?;
            return Err(error.into());
        }
    };
    let drivers = Drivers {
        image,
        snapshot,
        network,
        runtime,
        state,
        recorded,
        exits,
    };
    let ops_config = ops::Config {
        root: config.root,
        state: config.state,
        netns: PathBuf::from("/var/run/netns"),
        instance,
        host: facts.host,
        boot_id: facts.boot_id,
        node_name: facts.node_name,
        cgroup_driver: ops::CgroupDriver::Cgroupfs,
    };
    let ops = Ops::open(ops_config, drivers).await.map_err(AppError::Recover)?;
    let (listener, name) = match socket::listen(&config.socket) {
        Ok(listening) => listening,
        Err(error) => {
            ops.close().await;
            return Err(error.into());
        }
    };
    shutdown::tell_ready(&config.socket);
    let closing = ops.clone();
    let shutdown = async move {
        shutdown.await;
        // At once, so that calls under way end while the server still waits for them.
        closing.begin_close();
    };
    cri::serve(ops.clone(), listener, shutdown).await?;
    // With the socket's file gone a client learns at once that nobody answers. While the locks are held still, so that
    // no next daemon can have made its own meanwhile.
    let removed = name.remove();
    ops.close().await;
    removed.map_err(AppError::GiveBack)?;
    tracing::info!("stopped serving; containers keep running");
    Ok(())
}

/// Addresses that pods have already.
fn leases(recorded: &Recorded) -> Vec<(PodId, Vec<IpAddr>)> {
    let attached = |pod: &crate::domain::pod::Pod| Some((pod.id.clone(), pod.attachment.as_ref()?.ips.clone()));
    recorded.pods.iter().filter_map(attached).collect()
}
