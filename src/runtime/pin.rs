//! Namespaces of a pod without a process: the shim's verb `pin` makes them, bind mounts keep them (house decision 18).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use super::{Pin, Runtime, RuntimeError};
use crate::base::cmd::{Program, run};
use crate::base::error::chain;
use crate::base::fs::{FsError, remove_file_if_there};

/// It takes about two milliseconds; making a network namespace may wait for the kernel to finish dismantling others.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the verb reads from its standard input.
#[derive(Debug, Serialize)]
struct Request<'a> {
    net: Option<&'a Path>,
    ipc: Option<&'a Path>,
    uts: Option<&'a Path>,
    hostname: Option<&'a str>,
    sysctls: &'a BTreeMap<String, String>,
}

/// What it answers on its standard output.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: Option<bool>,
    error: Option<String>,
}

impl Runtime {
    /// Makes and pins namespaces.
    ///
    /// # Errors
    /// Names the namespace or sysctl; nothing stays pinned.
    pub async fn pin(&self, pin: &Pin) -> Result<(), RuntimeError> {
        let uts = pin.uts.as_ref();
        let targets = [
            pin.net.as_deref(),
            pin.ipc.as_deref(),
            uts.map(|(path, _)| path.as_path()),
        ];
        let pinned = self.try_pin(pin, &targets).await;
        if pinned.is_err() {
            for target in targets.into_iter().flatten() {
                // The verb unmounts what it mounted; this is for one that was killed.
                if let Err(error) = self.unpin(target).await {
                    tracing::warn!(error = chain(&error), "a failed pin left something behind");
                }
            }
        }
        pinned
    }

    async fn try_pin(&self, pin: &Pin, targets: &[Option<&Path>]) -> Result<(), RuntimeError> {
        for target in targets.iter().copied().flatten() {
            make_target(target).map_err(RuntimeError::Files)?;
        }
        let request = Request {
            net: pin.net.as_deref(),
            ipc: pin.ipc.as_deref(),
            uts: pin.uts.as_ref().map(|(path, _)| path.as_path()),
            hostname: pin.uts.as_ref().map(|(_, hostname)| hostname.as_str()),
            sysctls: &pin.sysctls,
        };
        let done = run(Program {
            path: self.shim.clone(),
            args: vec!["pin".into()],
            env: Vec::new(),
            stdin: serde_json::to_vec(&request).map_err(RuntimeError::PinTalk)?,
            timeout: DEADLINE,
            output_limit: 64 * 1024,
        })
        .await
        .map_err(RuntimeError::Pin)?;
        let refused = |text: String| RuntimeError::PinRefused { text };
        if done.stdout.is_empty() {
            let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(refused(format!("the shim ended with {}: {words}", done.status)));
        }
        let Answer { ok, error } = serde_json::from_slice(&done.stdout).map_err(RuntimeError::PinTalk)?;
        match (ok, error) {
            (Some(true), None) => Ok(()),
            (_, Some(text)) => Err(refused(text)),
            (_, None) => Err(refused("no reason given".to_owned())),
        }
    }

    /// Unpins one namespace; fine when it is gone.
    ///
    /// # Errors
    /// It cannot be unmounted.
    pub async fn unpin(&self, path: &Path) -> Result<(), RuntimeError> {
        loop {
            // Detached: somebody may be inside, who then holds the namespace instead of us.
            match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // Something else was mounted over it.
                Ok(()) => {}
                // Not a mount point (any more), or not there.
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => {
                    return Err(RuntimeError::Mount {
                        doing: "unmount",
                        path: path.to_owned(),
                        source: io::Error::from(errno),
                    });
                }
            }
        }
        remove_file_if_there(path).map_err(RuntimeError::Files)
    }
}

/// An empty file to mount on. One that is there already belongs to somebody.
fn make_target(target: &Path) -> Result<(), FsError> {
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(FsError::io("create", parent))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o444).open(target);
    made.map(drop).map_err(FsError::io("create", target))
}
