//! Start: lets the first process go on to the workload, and says whether it could.

use std::sync::Arc;

use crate::child::launch::{Launch, Progress};
use copepod_proto::bundle::{StartRecord, VERSION};

use crate::io::note::{chain, note};
use crate::ops::error::OpError;
use crate::ops::report::{Stopped, next_station};
use crate::ops::{Shim, exit};
use crate::reap::now;
use crate::task::Phase;

/// Executes the workload. On return it runs, and the start record is on disk. Returns its process id.
///
/// # Errors
/// [`OpError::Start`] with the reason when it could not be executed; then the exit record is on disk, with status 128.
pub(crate) async fn start(shim: Arc<Shim>) -> Result<i32, OpError> {
    let phase = shim.advance("start", |phase| match phase {
        Phase::Created { pid } => Some(Phase::Starting { pid: *pid }),
        Phase::Absent
        | Phase::Creating
        | Phase::Starting { .. }
        | Phase::Running { .. }
        | Phase::Ending { .. }
        | Phase::Stopped { .. }
        | Phase::Deleted { .. } => None,
    })?;
    let pid = phase.pid();
    let launch = shim.parts().as_mut().and_then(|parts| parts.launch.take());
    let started = match launch {
        Some(launch) => release(launch).await,
        None => Err("its gate is gone".to_owned()),
    };
    match started {
        Ok(()) => {
            let record = StartRecord {
                version: VERSION,
                pid,
                started_at: now(),
            };
            if let Err(error) = copepod_proto::bundle::write_start(&shim.bundle, &record) {
                note(format_args!("write the start record: {}", chain(&error)));
            }
            shim.phase.send_replace(Phase::Running {
                pid,
                started_at: record.started_at,
            });
            Ok(pid)
        }
        Err(why) => {
            if let Some(parts) = shim.parts().as_mut() {
                parts.start_error = Some(why.clone());
            }
            shim.phase.send_replace(Phase::Ending { pid });
            // It ends by itself after its report; make sure of it, so that the exit record comes.
            exit::kill_first(&shim);
            exit::stopped(&shim).await;
            Err(OpError::Start(why))
        }
    }
}

/// Opens the gate and waits until the program behind it runs.
async fn release(mut launch: Launch) -> Result<(), String> {
    launch.release().map_err(|error| chain(&error))?;
    match next_station(&mut launch).await {
        Ok(Progress::Running) => Ok(()),
        Ok(Progress::Ready | Progress::Waiting) => Err("it waits at its gate although that is open".to_owned()),
        Err(Stopped::Failed(error)) => Err(chain(&error)),
        Err(Stopped::Lost(error)) => Err(chain(&error)),
    }
}
