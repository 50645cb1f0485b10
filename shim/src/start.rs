//! `start`, as containerd calls it: leaves a `serve` behind for the bundle in the working directory and prints where it
//! listens.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use copepod_proto::bundle::{SHIM_LOG, TASK_SOCKET};
use rustix::io::Errno;

use crate::Arguments;

/// Longest path of a unix socket, without the NUL that ends it (unix(7)).
const LONGEST_PATH: usize = 107;
/// Longest word from `serve`, in bytes.
const WORD_BYTES: u64 = 4096;

/// Why no shim was left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("find the bundle directory")]
    Bundle { source: std::io::Error },
    #[error("open {SHIM_LOG} in the bundle")]
    Log { source: std::io::Error },
    #[error("find the shim's own binary")]
    Binary { source: std::io::Error },
    #[error("run the shim's own binary")]
    Run { source: std::io::Error },
    #[error("hear from the new shim")]
    Hear { source: std::io::Error },
    #[error("the new shim: {0}")]
    Failed(String),
    #[error("print the shim's address")]
    Print { source: Errno },
}

/// Starts `serve` and prints containerd's bootstrap parameters (version 3: `containerd.task.v3.Task`).
///
/// # Errors
/// The step that failed, or what the new shim said.
pub(crate) fn start(arguments: &Arguments) -> Result<(), StartError> {
    let bundle = absolute(arguments).map_err(|source| StartError::Bundle { source })?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(bundle.join(SHIM_LOG));
    let mut child = Command::new(std::env::current_exe().map_err(|source| StartError::Binary { source })?)
        .arg("serve")
        .arg("--bundle")
        .arg(&bundle)
        .args(["--id", &arguments.id, "--namespace", &arguments.namespace])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.map_err(|source| StartError::Log { source })?)
        .spawn()
        .map_err(|source| StartError::Run { source })?;
    let mut word = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(WORD_BYTES)
            .read_to_string(&mut word)
            .map_err(|source| StartError::Hear { source })?;
    }
    let word = word.trim_end();
    // The shim may be a child of the process that was started, and says which.
    if let Some(shim) = word.strip_prefix("ready ") {
        return print(&address(&bundle, shim));
    }
    match word {
        "" => Err(StartError::Failed(format!(
            "ended without a word, see {}",
            bundle.join(SHIM_LOG).display()
        ))),
        other => Err(StartError::Failed(other.trim_start_matches("error: ").to_owned())),
    }
}

/// The bundle directory: the flag's, or the working directory.
pub(crate) fn absolute(arguments: &Arguments) -> std::io::Result<PathBuf> {
    let here = std::env::current_dir()?;
    Ok(here.join(&arguments.bundle))
}

/// Where the shim listens. containerd's own bundle paths are longer than a socket's may be; the shim's working directory
/// is the bundle, and /proc leads there for as long as it lives.
fn address(bundle: &std::path::Path, shim: &str) -> String {
    let path = bundle.join(TASK_SOCKET);
    if path.as_os_str().len() <= LONGEST_PATH {
        format!("unix://{}", path.display())
    } else {
        format!("unix:///proc/{shim}/cwd/{TASK_SOCKET}")
    }
}

fn print(address: &str) -> Result<(), StartError> {
    let parameters = serde_json::json!({ "version": 3, "address": address, "protocol": "ttrpc" });
    rustix::io::write(rustix::stdio::stdout(), parameters.to_string().as_bytes())
        .map(drop)
        .map_err(|source| StartError::Print { source })
}
