//! RunPodSandbox: reserve, record the intent, pin namespaces, attach the network, commit. Nobody sees the pod before it
//! is complete; any failure takes everything back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::id::PodId;
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::{NamespaceMode, Pins, Pod, PodSpec, PodState};
use crate::domain::security::Sysctls;
use crate::network::Attach;
use crate::oci;
use crate::ops::names::Claim;
use crate::ops::stage::stage;
use crate::ops::table::{PodEntry, PodInit};
use crate::ops::undo::Undo;
use crate::ops::{Config, Inner, driver, pod_files, pod_init, stop_pod};
use crate::runtime::Pin;
use crate::state::{Change, Intent};

/// One short-lived process; seconds only under memory pressure.
const PIN_DEADLINE: Duration = Duration::from_secs(30);
/// kubelet gives RunPodSandbox four minutes (contract §1); a plugin that waits for its daemon may take one or two.
const NETWORK_DEADLINE: Duration = Duration::from_secs(150);
/// How many digits of the pod's id name its network namespace: enough to be one of a kind, short enough for tables.
const NETNS_DIGITS: usize = 16;

/// The runbook.
pub(crate) async fn run(ops: &Arc<Inner>, spec: PodSpec) -> Result<PodId, Failure> {
    let metadata = &spec.metadata;
    let what = format!(
        "pod {}/{} (uid {}, attempt {})",
        metadata.namespace, metadata.name, metadata.uid, metadata.attempt
    );
    let reservation = match ops.pod_names.claim(&metadata.key(), &what)? {
        Claim::Joined(flight) => return flight.join().await,
        Claim::Ours(reservation) => reservation,
    };
    let mut undo = Undo::new();
    let mut pod = match describe(ops, spec) {
        Ok(pod) => pod,
        Err(failure) => {
            reservation.fail(&failure);
            return Err(failure);
        }
    };
    let id = pod.id.clone();
    let early = ops.early.expect(pod_init::id(&id)?);
    match build(ops, &mut pod, &mut undo).await {
        Ok(init) => {
            undo.disarm();
            ops.table.insert_pod(Arc::new(PodEntry::new(pod, init)));
            reservation.complete(&id);
            early.listed(ops);
            tracing::info!(op = "RunPodSandbox", pod = %id, "{what} runs");
            Ok(id)
        }
        Err(cause) => {
            let undone = undo.finish(cause).await;
            if undone.leftovers.is_empty() {
                end_intent(ops, &id).await;
                reservation.fail(&undone.cause);
            } else {
                keep_broken(ops, pod).await;
                reservation.keep_broken(&id, &undone.cause);
            }
            Err(undone.cause)
        }
    }
}

async fn build(ops: &Arc<Inner>, pod: &mut Pod, undo: &mut Undo) -> Result<Option<PodInit>, Failure> {
    let spec = &pod.spec;
    ops.commit(
        "record the intent to run the pod",
        vec![Change::Begin(Box::new(Intent::RunPod {
            id: pod.id.clone(),
            spec: Box::new(spec.clone()),
            pins: pod.pins.clone(),
        }))],
    )
    .await?;
    let (at, of) = (Arc::clone(ops), pod.id.clone());
    undo.push("pod files", async move {
        pod_files::off_worker(&at, move |config| pod_files::remove(config, &of)).await
    });
    let of = pod.clone();
    let made = pod_files::off_worker(ops, move |config| pod_files::make(config, &of)).await;
    made.map_err(files)?;
    let (at, pins) = (Arc::clone(ops), pod.pins.clone());
    undo.push("namespaces", async move { stop_pod::unpin(&at, &pins).await });
    stage("namespaces", PIN_DEADLINE, pin(ops, pod)).await?;
    if spec.namespaces.ipc != NamespaceMode::Node {
        let of = pod.id.clone();
        let mounted = pod_files::off_worker(ops, move |config| pod_files::mount_shm(config, &of)).await;
        mounted.map_err(files)?;
    }
    if let Some(netns) = pod.pins.net.clone() {
        // Before the undo: without a usable configuration nothing is attached, and nothing could be detached either.
        let usable = ops.network.check();
        usable.map_err(|error| driver::network("give the pod its network", error))?;
        let (at, detach) = (Arc::clone(ops), stop_pod::detach_of(&ops.config, pod));
        undo.push("network", async move { at.network.detach(&detach).await });
        let attached = stage("network", NETWORK_DEADLINE, attach(ops, pod, netns)).await?;
        pod.attachment = Some(attached);
        pod.network_owed = true;
    }
    let of = pod.clone();
    let written = pod_files::off_worker(ops, move |config| pod_files::write_hosts(config, &of)).await;
    written.map_err(files)?;
    let init = if pod_init::is_wanted(&pod.spec) {
        let (at, of, spec) = (Arc::clone(ops), pod.id.clone(), pod.spec.clone());
        undo.push("init", async move { pod_init::remove(&at, &of, &spec).await });
        Some(pod_init::start(ops, pod).await?)
    } else {
        None
    };
    let record = Change::PutPod(Box::new(pod.clone()));
    ops.commit("record the pod", vec![record, Change::End(pod.id.clone())])
        .await?;
    Ok(init)
}

/// The pod as it will be.
fn describe(ops: &Inner, spec: PodSpec) -> Result<Pod, Failure> {
    oci::check_pod(&spec, &ops.config.host).map_err(|error| driver::oci("describe the pod", error))?;
    let id = PodId::generate();
    let on_host = spec.namespaces.network == NamespaceMode::Node;
    let effective_hostname = match (on_host, spec.hostname.as_str()) {
        (false, "") => id.as_str()[..12].to_owned(),
        (false, name) => name.to_owned(),
        (true, name) if name.is_empty() || name == ops.config.node_name => ops.config.node_name.clone(),
        (true, name) => {
            return Err(Failure::new(
                Kind::InvalidArgument,
                format!("hostname {name:?} with the host's network: such a pod has the node's name; leave it empty"),
            ));
        }
    };
    let pins = Pins {
        net: (!on_host).then(|| netns(&ops.config, &id)),
        ipc: (spec.namespaces.ipc != NamespaceMode::Node).then(|| ops.pin_path(&id, "ipc")),
        uts: (!on_host).then(|| ops.pin_path(&id, "uts")),
    };
    Ok(Pod {
        id,
        spec,
        created_at: Timestamp::now(),
        state: PodState::Ready,
        pins,
        attachment: None,
        network_owed: false,
        effective_hostname,
        boot_id: ops.config.boot_id.clone(),
    })
}

/// Where the pod's network namespace is pinned. The instance tells daemons of one host apart.
pub(crate) fn netns(config: &Config, pod: &PodId) -> PathBuf {
    config
        .netns
        .join(format!("copepod-{}-{}", config.instance, &pod.as_str()[..NETNS_DIGITS]))
}

async fn pin(ops: &Inner, pod: &Pod) -> Result<(), Failure> {
    let Pins { net, ipc, uts } = pod.pins.clone();
    if net.is_none() && ipc.is_none() && uts.is_none() {
        return Ok(());
    }
    let sysctls = sysctls(&pod.spec, net.is_some());
    let uts = uts.map(|path| (path, pod.effective_hostname.clone()));
    let pin = Pin { net, ipc, uts, sysctls };
    let pinned = ops.runtime.pin(&pin).await;
    pinned.map_err(|error| driver::runtime("make the pod's namespaces", error))
}

/// The request's kernel parameters and, for a network of the pod's own, what containers there may rely on: any port and
/// ping without privilege (contract §5.4).
fn sysctls(spec: &PodSpec, own_network: bool) -> Sysctls {
    let mut sysctls = spec.sysctls.clone();
    if own_network {
        for (key, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ] {
            // The same parameter may be written with slashes.
            if !sysctls.contains_key(&key.replace('.', "/")) {
                sysctls.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
    sysctls
}

async fn attach(ops: &Inner, pod: &Pod, netns: PathBuf) -> Result<crate::domain::network::Attachment, Failure> {
    let metadata = &pod.spec.metadata;
    let attach = Attach {
        pod: pod.id.clone(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        netns,
        ports: pod.spec.ports.clone(),
        annotations: pod.spec.annotations.clone(),
    };
    let attached = ops.network.attach(&attach).await;
    attached.map_err(|error| driver::network("give the pod its network", error))
}

async fn end_intent(ops: &Inner, pod: &PodId) {
    if let Err(error) = ops.commit("end the intent", vec![Change::End(pod.clone())]).await {
        // Harmless: the next start finds the intent, and nothing left to roll back.
        tracing::warn!(%pod, error = error.chain());
    }
}

/// What could not be undone becomes a pod that is not ready: listed, and owed to StopPodSandbox and RemovePodSandbox
/// (contract §2.1).
pub(crate) async fn keep_broken(ops: &Inner, mut pod: Pod) {
    pod.state = PodState::NotReady;
    pod.network_owed = pod.pins.net.is_some();
    let changes = vec![Change::PutPod(Box::new(pod.clone())), Change::End(pod.id.clone())];
    if let Err(error) = ops.commit("record what is left of the pod", changes).await {
        tracing::warn!(pod = %pod.id, error = error.chain());
    }
    ops.table.insert_pod(Arc::new(PodEntry::new(pod, None)));
}

fn files(error: pod_files::PodFilesError) -> Failure {
    let kind = match error {
        pod_files::PodFilesError::Dns { .. } => Kind::InvalidArgument,
        pod_files::PodFilesError::File(_)
        | pod_files::PodFilesError::CutOff
        | pod_files::PodFilesError::Mount { .. } => Kind::Unknown,
    };
    Failure::caused(kind, "make the pod's files", error)
}
