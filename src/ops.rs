//! Floor 3: the verbs. Whatever needs two drivers happens here, one verb per file, each reading like its runbook.
//!
//! A verb runs in a task of its own, so that a client that goes away neither stops it half-way nor leaves its traces
//! (house decision 9). Lists and look-ups come from memory and wait for no lifecycle lock.

pub mod answer;
mod create_container;
mod driver;
mod exec;
mod gc;
mod host_files;
mod images;
mod names;
mod pod_files;
mod pod_init;
mod pull_image;
mod query;
mod records;
mod recover;
mod remove_container;
mod remove_image;
mod remove_pod;
mod reopen_log;
pub mod request;
mod run_pod;
mod stage;
mod start_container;
mod stats;
mod stop_container;
mod stop_pod;
mod table;
mod undo;
mod user;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::error::chain;
use crate::base::id::{ContainerId, PodId};
use crate::base::task::detached;
use crate::domain::container::Container;
use crate::domain::error::{Failure, Kind};
use crate::domain::exec::ExecOutput;
use crate::domain::filter::{ContainerFilter, PodFilter};
use crate::domain::image::{Image, ImageId};
use crate::domain::pod::{Pod, PodSpec};
use crate::image::Puller;
use crate::network::Network;
use crate::oci::Host;
use crate::ops::answer::{Conditions, Details, FsInfo, PodDetails, Stats};
use crate::ops::images::Images;
use crate::ops::names::Names;
use crate::ops::request::{CreateContainer, ExecSync, PullImage, StatsFilter, StopMode};
use crate::ops::table::Table;
use crate::ops::watch::Early;
use crate::runtime::{Runtime, TaskExit};
use crate::snapshot::Snapshots;
use crate::state::{Recorded, State};

/// What the verbs need to know of this daemon and its host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Survives a reboot; named in messages.
    pub root: PathBuf,
    /// Dies with a reboot: pods' files are in `state/p`, their pins in `state/ns`, bundles in `state/c`.
    pub state: PathBuf,
    /// Where network namespaces are pinned, `/var/run/netns`: other node agents look there.
    pub netns: PathBuf,
    /// Tells this daemon's things from another one's where both put them.
    pub instance: String,
    /// Facts of the host, for OCI specs.
    pub host: Host,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Name of this node: host name of pods on its network.
    pub node_name: String,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
}

/// Who makes the containers' cgroups (CRI `CgroupDriver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The shim, directly.
    Cgroupfs,
    /// systemd, as scopes.
    Systemd,
}

/// The open drivers and what they brought.
#[derive(Debug)]
pub struct Drivers {
    /// Registries and layers.
    pub image: Puller,
    /// Writable layers.
    pub snapshot: Snapshots,
    /// The pods' network.
    pub network: Network,
    /// Shims.
    pub runtime: Runtime,
    /// Records.
    pub state: State,
    /// What the store held when it was opened.
    pub recorded: Recorded,
    /// Ends of containers, from `runtime`.
    pub exits: mpsc::UnboundedReceiver<TaskExit>,
}

/// How long verbs may take to end after a stop was asked for; each is done within milliseconds unless a plugin, a disk
/// or a process hangs. systemd waits 90 s by default before it kills, and `cri` may have taken 10 of them.
const LAST_VERBS: Duration = Duration::from_secs(10);

/// The verbs. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Ops {
    inner: Arc<Inner>,
}

#[cfg(test)]
mod tests;

/// What the verbs share.
#[derive(Debug)]
pub(crate) struct Inner {
    config: Config,
    image: Puller,
    snapshot: Snapshots,
    network: Network,
    runtime: Runtime,
    state: State,
    table: Table,
    images: Images,
    pod_names: Names<PodId>,
    container_names: Names<ContainerId>,
    users: user::Cache,
    early: Early,
    records: Records,
    verbs: TaskTracker,
    /// Cancelled when the daemon is to end.
    closing: CancellationToken,
}

impl Inner {
    /// Gives back what the drivers took from the host and no pod needs, then the records and the lock on them.
    pub(crate) async fn give_back(&self) {
        if let Err(error) = self.network.close().await {
            tracing::warn!(error = chain(&error), "the network's devices stay until the next start");
        }
        pod_files::close(&self.config);
        if let Err(error) = self.runtime.close() {
            tracing::warn!(
                error = chain(&error),
                "mounts and cgroups of the shims stay until the next start"
            );
        }
        // Last: what the verbs recorded is on disk, and the lock is free for the next daemon.
        self.state.clone().close().await;
    }
}

/// Whether the store could be read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Records {
    /// What no record needs, nobody needs.
    Whole,
    /// Some were set aside: what looks unneeded may be what one of them is about.
    SomeUnreadable,
}

impl Ops {
    /// Takes the drivers over, brings records and host together (the same code after a crash, a restart and a
    /// reboot), and starts to watch for ends of containers.
    ///
    /// # Errors
    /// The records or directories cannot be brought in order.
    pub async fn open(config: Config, drivers: Drivers) -> Result<Self, Failure> {
        Box::pin(recover::open(config, drivers))
            .await
            .map(|inner| Self { inner })
    }

    /// The daemon is to end: from now on new verbs are refused, and stops under way no longer wait for their containers.
    pub fn begin_close(&self) {
        self.inner.verbs.close();
        self.inner.closing.cancel();
    }

    /// Refuses new verbs and waits for those under way, for a bounded time; containers are left alone.
    pub async fn close(&self) {
        self.begin_close();
        if tokio::time::timeout(LAST_VERBS, self.inner.verbs.wait()).await.is_err() {
            // What they hold may be in use. The next start completes them or takes them back (journal).
            tracing::warn!(
                verbs = self.inner.verbs.len(),
                "verbs are still under way; going without them"
            );
            self.inner.state.clone().close().await;
        } else {
            self.inner.give_back().await;
        }
    }

    /// Makes a pod sandbox; `Ready` when it returns. A repeated call joins the one under way.
    ///
    /// # Errors
    /// `AlreadyExists` names the pod that has this name. After any error nothing is left, or a `NotReady` pod that
    /// tells what could not be undone.
    pub async fn run_pod(&self, spec: PodSpec) -> Result<PodId, Failure> {
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { run_pod::run(&ops, spec).await })).await
    }

    /// Ends a pod's containers, network and namespaces. Unknown pods are fine, repetition too.
    ///
    /// # Errors
    /// Something could not be ended; call again.
    pub async fn stop_pod(&self, pod: &str) -> Result<(), Failure> {
        let pod = pod.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { stop_pod::stop(&ops, &pod).await }))
            .await
    }

    /// Removes a pod and all its containers, stopping what runs. Unknown pods are fine.
    ///
    /// # Errors
    /// Something could not be removed; call again.
    pub async fn remove_pod(&self, pod: &str) -> Result<(), Failure> {
        let pod = pod.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { remove_pod::remove(&ops, &pod).await }))
            .await
    }

    /// The pod with this id or unambiguous prefix.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` when several match.
    pub async fn pod(&self, pod: &str) -> Result<Arc<Pod>, Failure> {
        self.inner.table.pod(pod).map(|entry| entry.pod())
    }

    /// Pods that pass the filter.
    ///
    /// # Errors
    /// None today.
    pub async fn pods(&self, filter: &PodFilter) -> Result<Vec<Arc<Pod>>, Failure> {
        Ok(self.inner.table.pods(filter))
    }

    /// Verbose facts of a pod.
    ///
    /// # Errors
    /// As [`Ops::pod`].
    pub async fn pod_details(&self, pod: &str) -> Result<PodDetails, Failure> {
        query::pod_details(&self.inner, pod).await
    }

    /// Builds a container up to its start gate. A repeated call joins the one under way.
    ///
    /// # Errors
    /// Every fault of the configuration shows here, not at Start; nothing is left behind.
    pub async fn create_container(&self, request: CreateContainer) -> Result<ContainerId, Failure> {
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { create_container::create(&ops, request).await }))
            .await
    }

    /// Runs a created container's process; returns after execve succeeded.
    ///
    /// # Errors
    /// `FailedPrecondition` unless it is created and its pod ready. A process that cannot be executed leaves the
    /// container exited with 128 and `StartError`.
    pub async fn start_container(&self, container: &str) -> Result<(), Failure> {
        let container = container.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { start_container::start(&ops, &container).await }))
            .await
    }

    /// Ends a container; its state is exited when this returns. Unknown or ended ones are fine.
    ///
    /// # Errors
    /// The kernel would not let go of its processes.
    pub async fn stop_container(&self, container: &str, mode: StopMode) -> Result<(), Failure> {
        let container = container.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(
            async move { stop_container::stop(&ops, &container, mode).await },
        ))
        .await
    }

    /// Removes a container, killing it if it runs. Unknown ones are fine.
    ///
    /// # Errors
    /// `FailedPrecondition` while it is being started or removed.
    pub async fn remove_container(&self, container: &str) -> Result<(), Failure> {
        let container = container.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(
            async move { remove_container::remove(&ops, &container).await },
        ))
        .await
    }

    /// The container with this id or unambiguous prefix.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` when several match.
    pub async fn container(&self, container: &str) -> Result<Arc<Container>, Failure> {
        self.inner.table.container(container).map(|entry| entry.container())
    }

    /// Containers that pass the filter.
    ///
    /// # Errors
    /// None today.
    pub async fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Arc<Container>>, Failure> {
        let entries = self.inner.table.containers(filter);
        Ok(entries.iter().map(|entry| entry.container()).collect())
    }

    /// Verbose facts of a container.
    ///
    /// # Errors
    /// As [`Ops::container`].
    pub async fn container_details(&self, container: &str) -> Result<Details, Failure> {
        query::container_details(&self.inner, container).await
    }

    /// Runs a command in a running container and collects its output, 15 MiB at most. Dropping the future kills it.
    ///
    /// # Errors
    /// `DeadlineExceeded` after the timeout, everything it started killed; `FailedPrecondition` unless it runs.
    pub async fn exec_sync(&self, exec: ExecSync) -> Result<ExecOutput, Failure> {
        exec::exec_sync(&self.inner, exec).await
    }

    /// Opens a running container's log file anew.
    ///
    /// # Errors
    /// `FailedPrecondition` unless it runs.
    pub async fn reopen_log(&self, container: &str) -> Result<(), Failure> {
        let container = container.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { reopen_log::reopen(&ops, &container).await }))
            .await
    }

    /// Counters of one container.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for one that has ended.
    pub async fn container_stats(&self, container: &str) -> Result<Stats, Failure> {
        stats::container(&self.inner, container).await
    }

    /// Counters of all running containers that pass; those that vanish meanwhile are left out.
    ///
    /// # Errors
    /// None today.
    pub async fn list_container_stats(&self, filter: &StatsFilter) -> Result<Vec<Stats>, Failure> {
        stats::list(&self.inner, filter).await
    }

    /// Fetches an image. The registry is asked each time; layers that are here are not fetched again.
    ///
    /// # Errors
    /// Names registry, repository or layer and the remedy.
    pub async fn pull_image(&self, request: PullImage) -> Result<ImageId, Failure> {
        pull_image::pull(self, request).await
    }

    /// The image meant by an id, its hexadecimal part or a prefix of it, a name, tag or digest in any usual form.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty name.
    pub async fn image(&self, name: &str) -> Result<Option<Arc<Image>>, Failure> {
        self.inner.images.find(name)
    }

    /// All images, or those that the name means.
    ///
    /// # Errors
    /// None today.
    pub async fn images(&self, name: Option<&str>) -> Result<Vec<Arc<Image>>, Failure> {
        query::images(&self.inner, name)
    }

    /// Removes an image with all its tags and digests. Unknown ones are fine; containers that use it run on.
    ///
    /// # Errors
    /// The change could not be recorded.
    pub async fn remove_image(&self, name: &str) -> Result<(), Failure> {
        let name = name.to_owned();
        let ops = Arc::clone(&self.inner);
        self.verb(Box::pin(async move { remove_image::remove(&ops, &name).await }))
            .await
    }

    /// Use of the image file system; exactly one.
    ///
    /// # Errors
    /// None today.
    pub async fn image_fs_info(&self) -> Result<Vec<FsInfo>, Failure> {
        Ok(query::image_fs_info(&self.inner))
    }

    /// RuntimeReady and NetworkReady, from memory while all is well.
    ///
    /// # Errors
    /// None today.
    pub async fn conditions(&self) -> Result<Conditions, Failure> {
        Ok(query::conditions(&self.inner).await)
    }

    /// Who makes cgroups.
    #[must_use]
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.inner.config.cgroup_driver
    }

    /// Takes the pod CIDR that kubelet learned; empty or one or two (dual-stack) blocks. The networks here take theirs
    /// from their own configuration, so a good value changes nothing (contract §12).
    ///
    /// # Errors
    /// `InvalidArgument` for what is no CIDR block.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), Failure> {
        query::check_pod_cidr(pod_cidr)
    }

    /// Runs a verb to its end whatever becomes of the caller. Verbs come boxed: their futures are some kilobytes, which a
    /// handler's future must not carry.
    async fn verb<T, F>(&self, verb: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        if self.inner.verbs.is_closed() {
            return Err(Failure::new(
                Kind::Unavailable,
                "the daemon is shutting down: try again when it is back",
            ));
        }
        match detached(self.inner.verbs.track_future(verb)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::caused(
                Kind::Internal,
                "the verb ended by a fault of the daemon; its log tells more",
                error,
            )),
        }
    }
}
