//! PID 1 of a pod's shared PID namespace: our own minimal init, run as a container of its own (contract §5.1).
//!
//! Its id as a container is the pod's id: both are 64 random hexadecimal digits, so no container can have the same, and
//! its shim, bundle and cgroup are found by the pod's id alone. Nothing of it is in the pod's record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::{ContainerId, PodId};
use crate::domain::error::{Failure, Kind};
use crate::domain::mount::FsMount;
use crate::domain::pod::{NamespaceMode, Pod, PodSpec};
use crate::oci;
use crate::ops::stage::stage;
use crate::ops::table::{PodEntry, PodInit};
use crate::ops::{Inner, driver, pod_files};
use crate::runtime::{Build, Stdio};

/// Making a namespace and one process takes milliseconds; a node under memory pressure may need seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// The id of the pod's init as a container.
///
/// # Errors
/// Never: both ids have one form.
pub(crate) fn id(pod: &PodId) -> Result<ContainerId, Failure> {
    let id = pod.as_str().parse();
    id.map_err(|error| Failure::caused(Kind::Internal, "derive the id of the pod's init", error))
}

/// Whether the pod starts with an init: its containers share a PID namespace unless they say otherwise.
pub(crate) fn is_wanted(spec: &PodSpec) -> bool {
    spec.namespaces.pid == NamespaceMode::Pod
}

/// cgroup of the init, a leaf beside the containers'.
pub(crate) fn cgroup(pod: &PodId, spec: &PodSpec) -> String {
    leaf(&spec.cgroup_parent, pod.as_str())
}

/// A leaf below the pod's cgroup; its name is the id alone, which is what cAdvisor looks for (contract §5.4).
pub(crate) fn leaf(parent: &str, id: &str) -> String {
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// Starts the pod's init.
///
/// # Errors
/// It cannot be built or started; then nothing of it is left.
pub(crate) async fn start(ops: &Inner, pod: &Pod) -> Result<PodInit, Failure> {
    let id = id(&pod.id)?;
    let cgroup = cgroup(&pod.id, &pod.spec);
    let root = pod_files::init_root(&ops.config, &pod.id)
        .map_err(|error| Failure::caused(Kind::Unknown, "make the root of the pod's init", error))?;
    let started = stage("pod init", DEADLINE, async {
        let spec = oci::build_pod_init(pod, &cgroup, &ops.config.host)
            .map_err(|error| driver::oci("describe the pod's init", error))?;
        let spec = serde_json::to_vec(&spec)
            .map_err(|error| Failure::caused(Kind::Internal, "write the spec of the pod's init", error))?;
        let build = Build {
            id: id.clone(),
            spec,
            rootfs: empty_root(&root),
            stdio: Stdio::default(),
        };
        let doing = "start the pod's init";
        let task = ops
            .runtime
            .create(build)
            .await
            .map_err(|error| driver::runtime(doing, error))?;
        let (pid, _) = task.start().await.map_err(|error| driver::runtime(doing, error))?;
        Ok(PodInit { task: Some(task), pid })
    });
    match started.await {
        Ok(init) => Ok(init),
        Err(failure) => match ops.runtime.cleanup(&id, &cgroup).await {
            Ok(()) => Err(failure),
            Err(error) => Err(failure.leaving(&driver::runtime("init", error).chain())),
        },
    }
}

/// The PID namespace of the pod, for a container to join. A pod that was not asked to share one gets its init with the
/// first container that wants to.
///
/// # Errors
/// The init cannot be started.
pub(crate) async fn pid_namespace(ops: &Arc<Inner>, entry: &PodEntry) -> Result<PathBuf, Failure> {
    let mut init = entry.init.lock().await;
    let pid = match &*init {
        Some(PodInit { task: Some(_), pid }) => *pid,
        Some(PodInit { task: None, .. }) => {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "the init of pod {} does not answer since the daemon was started: try again",
                    entry.id
                ),
            ));
        }
        None => init.insert(start(ops, &entry.pod()).await?).pid,
    };
    Ok(PathBuf::from(format!("/proc/{pid}/ns/pid")))
}

/// Ends the init and removes what is its; fine when there is none.
///
/// # Errors
/// Something stays.
pub(crate) async fn remove(ops: &Inner, pod: &PodId, spec: &PodSpec) -> Result<(), Failure> {
    let (id, cgroup) = (id(pod)?, cgroup(pod, spec));
    let cleanup = ops.runtime.cleanup(&id, &cgroup).await;
    cleanup.map_err(|error| driver::runtime("remove the pod's init", error))
}

/// The init needs nothing of a file system: it gets an empty directory.
fn empty_root(dir: &Path) -> FsMount {
    FsMount {
        fstype: "bind".to_owned(),
        source: dir.display().to_string(),
        options: vec!["rbind".to_owned()],
    }
}
