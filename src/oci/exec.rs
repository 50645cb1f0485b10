//! Processes beside a container's own: the same identity, environment, confinement and directory, other arguments.

use oci_spec::runtime::Process;
use serde::Deserialize;

use super::OciError;

/// A container's process, kept for its execs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerProcess(Process);

/// What an exec talks through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecIo {
    /// Pipes.
    Streams,
    /// A pseudo-terminal.
    Terminal,
}

impl ContainerProcess {
    /// From the container's spec in JSON, of which nothing else is kept.
    ///
    /// # Errors
    /// It is not one.
    pub fn of_spec(json: &[u8]) -> Result<Self, OciError> {
        #[derive(Deserialize)]
        struct Part {
            process: Process,
        }
        let part: Part = serde_json::from_slice(json).map_err(|source| OciError::ProcessUnreadable { source })?;
        Ok(Self(part.process))
    }

    /// The process object, in JSON, of an exec of `args`.
    ///
    /// # Errors
    /// The arguments are empty.
    pub fn exec(&self, args: &[String], io: ExecIo) -> Result<Vec<u8>, OciError> {
        if args.is_empty() {
            return Err(OciError::EmptyExec);
        }
        let mut process = self.0.clone();
        process
            .set_args(Some(args.to_vec()))
            .set_terminal(Some(io == ExecIo::Terminal))
            .set_console_size(None);
        serde_json::to_vec(&process).map_err(|source| OciError::ProcessUnwritable { source })
    }
}
