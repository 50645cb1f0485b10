//! ExecSync: one command in a running container, its output bounded (contract §8.1).

use std::sync::Arc;

use crate::domain::error::{Failure, Kind};
use crate::domain::exec::ExecOutput;
use crate::oci::exec::{ContainerProcess, ExecIo};
use crate::ops::request::ExecSync;
use crate::ops::table::{ContainerEntry, lock};
use crate::ops::{Inner, driver};
use crate::runtime::ExecSpec;

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
    let base = container_process(ops, &entry)?;
    let process = base
        .exec(&args, ExecIo::Streams)
        .map_err(|error| driver::oci("describe the command", error))?;
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

/// The container's own process, read from its bundle once.
fn container_process(ops: &Inner, entry: &ContainerEntry) -> Result<Arc<ContainerProcess>, Failure> {
    if let Some(process) = lock(&entry.process).clone() {
        return Ok(process);
    }
    let bytes = ops.runtime.bundle_spec(&entry.id);
    let bytes =
        bytes.map_err(|error| driver::runtime(format!("prepare a command in container {}", entry.id), error))?;
    let read = ContainerProcess::of_spec(&bytes);
    let process = Arc::new(read.map_err(|error| driver::oci("prepare a command", error))?);
    *lock(&entry.process) = Some(Arc::clone(&process));
    Ok(process)
}
