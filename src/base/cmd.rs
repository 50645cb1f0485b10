//! Running other programs: bounded in time and output, with a clean environment.
//!
//! The only room that starts processes by name, so that deadline, output limit and environment are decided once.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// A program to run to its end.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file to execute; a bare name is looked up in `PATH`.
    pub path: PathBuf,
    /// Arguments after the name.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, OsString)>,
    /// Written to standard input, which is closed afterwards.
    pub stdin: Vec<u8>,
    /// The program is killed after this long.
    pub timeout: Duration,
    /// Standard output and standard error may each have this many bytes; the program is killed beyond.
    pub output_limit: usize,
}

/// What a finished program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CmdError {
    /// It could not be started.
    #[error("start {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its streams or its end could not be read.
    #[error("talk to {}", path.display())]
    Talk {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ran too long and was killed.
    #[error("{} did not finish within {} ms and was killed", path.display(), timeout.as_millis())]
    TimedOut {
        /// The program.
        path: PathBuf,
        /// The limit.
        timeout: Duration,
    },
    /// It wrote too much and was killed.
    #[error("{} wrote more than {limit} bytes and was killed", path.display())]
    TooMuchOutput {
        /// The program.
        path: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Runs `program` to its end.
///
/// # Errors
/// See [`CmdError`]; an exit status other than 0 is not an error here. Dropping the future kills the program.
pub async fn run(program: Program) -> Result<Finished, CmdError> {
    let Program {
        path,
        args,
        env,
        stdin,
        timeout,
        output_limit,
    } = program;
    let mut child = Command::new(&path)
        .args(args)
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CmdError::Start {
            path: path.clone(),
            source,
        })?;
    match tokio::time::timeout(timeout, talk(&mut child, &stdin, output_limit)).await {
        Err(_) => Err(CmdError::TimedOut { path, timeout }),
        Ok(Err(source)) if source.kind() == io::ErrorKind::FileTooLarge => Err(CmdError::TooMuchOutput {
            path,
            limit: output_limit,
        }),
        Ok(Err(source)) => Err(CmdError::Talk { path, source }),
        Ok(Ok(finished)) => Ok(finished),
    }
}

async fn talk(child: &mut Child, input: &[u8], limit: usize) -> io::Result<Finished> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut pipe) = stdin {
            match pipe.write_all(input).await {
                // A program may end without reading its input; its exit status tells more than the broken pipe.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                Err(_) | Ok(()) => {}
            }
        }
        Ok(())
    };
    let ((), stdout, stderr) = tokio::try_join!(feed, collect(stdout, limit), collect(stderr, limit))?;
    Ok(Finished {
        status: child.wait().await?,
        stdout,
        stderr,
    })
}

async fn collect<R: AsyncRead + Unpin>(stream: Option<R>, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > limit {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![],
            stdin: b"hello".to_vec(),
            timeout: Duration::from_secs(5),
            output_limit: 1000,
        }
    }

    #[tokio::test]
    async fn feeds_input_and_collects_both_streams() {
        let done = run(shell("cat; echo oops >&2; exit 3")).await.unwrap();
        assert_eq!(
            (done.stdout.as_slice(), done.stderr.as_slice()),
            (&b"hello"[..], &b"oops\n"[..])
        );
        assert_eq!(done.status.code(), Some(3));
    }

    #[tokio::test]
    async fn kills_what_runs_or_writes_too_long() {
        let slow = Program {
            timeout: Duration::from_millis(50),
            ..shell("exec sleep 60")
        };
        assert!(matches!(run(slow).await, Err(CmdError::TimedOut { .. })));
        assert!(matches!(
            run(shell("while :; do echo y; done")).await,
            Err(CmdError::TooMuchOutput { .. })
        ));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let missing = Program {
            path: "/nonexistent/tool".into(),
            ..shell("")
        };
        assert_eq!(run(missing).await.unwrap_err().to_string(), "start /nonexistent/tool");
    }
}
