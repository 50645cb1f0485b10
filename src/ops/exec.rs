//! ExecSync: one command in a running container, its output bounded (contract §8.1).

use std::sync::Arc;

use oci_spec::runtime::Spec;

use crate::domain::error::{Failure, Kind};
use crate::oci;
use crate::ops::table::{ContainerEntry, lock};
use crate::ops::{ExecSync, Inner, driver};
use crate::runtime::{ExecOutput, ExecSpec};

/// Of both streams together: the client's library takes 16 MiB a message, and the reply has more in it than the output.
const OUTPUT_LIMIT: usize = 15 << 20;

/// The runbook.
pub(crate) async fn exec_sync(ops: &Arc<Inner>, exec: ExecSync) -> Result<ExecOutput, Failure> {
    let ExecSync {
        container,
        args,
        timeout,
    } = exec;
    if args.is_empty() {
        return Err(Failure::new(
            Kind::InvalidArgument,
            "the command is empty: name a program",
        ));
    }
    let entry = ops.table.container(&container)?;
    running(&entry, "run a command in it")?;
    let task = entry.task()?;
    let spec = spec(ops, &entry).await?;
    let process = oci::exec_process(&spec, &args, false).map_err(|error| driver::oci("describe the command", error))?;
    let process = serde_json::to_vec(&process)
        .map_err(|error| Failure::caused(Kind::Internal, "write the command's description", error))?;
    let exec = ExecSpec { process, stdin: false };
    let output = task.exec_collect(exec, timeout, OUTPUT_LIMIT).await;
    output.map_err(|error| driver::runtime(format!("run {:?} in container {}", args[0], entry.id), error))
}

/// Fails unless the container runs.
///
/// # Errors
/// `FailedPrecondition`, saying what could not be done.
pub(crate) fn running(entry: &ContainerEntry, wanted: &str) -> Result<(), Failure> {
    let container = entry.container();
    match container.state.running() {
        Some(_) => Ok(()),
        None => Err(Failure::new(
            Kind::FailedPrecondition,
            format!(
                "container {} is {}: it must be running to {wanted}",
                entry.id,
                container.state.name()
            ),
        )),
    }
}

/// The container's spec as far as execs need it: parsed once, with its process only.
async fn spec(ops: &Inner, entry: &ContainerEntry) -> Result<Arc<Spec>, Failure> {
    if let Some(spec) = lock(&entry.process).clone() {
        return Ok(spec);
    }
    let bytes = ops.bundle_spec(&entry.id).await?;
    let mut spec: Spec = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::caused(Kind::Internal, "read the container's own spec", error))?;
    spec.set_mounts(None).set_linux(None).set_annotations(None);
    let spec = Arc::new(spec);
    *lock(&entry.process) = Some(Arc::clone(&spec));
    Ok(spec)
}
