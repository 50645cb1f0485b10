//! The files that daemon and shim share in a container's bundle directory.
//!
//! A bundle is a directory under `state`, one per container, mode 0700. The daemon writes [`CONFIG`] (an OCI
//! runtime spec) and [`OPTIONS`] before it starts the shim; the shim writes [`START`] and [`EXIT`], and listens on
//! the two sockets. What is here dies with a reboot. No behaviour lives in this file but reading and writing records.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The OCI runtime spec (runtime-spec config.md), written by the daemon.
pub const CONFIG: &str = "config.json";
/// [`ShimOptions`], written by the daemon. Absent when another runtime drives the shim.
pub const OPTIONS: &str = "shim.json";
/// [`StartRecord`], written by the shim before it answers Start.
pub const START: &str = "start.json";
/// [`ExitRecord`], written by the shim before it announces the exit.
pub const EXIT: &str = "exit.json";
/// The task API (ttrpc, `containerd.task.v3.Task`) and `copepod.shim.v1.Shim`.
pub const TASK_SOCKET: &str = "task.sock";
/// The second socket (`SOCK_SEQPACKET`): hands stdio file descriptors over by `SCM_RIGHTS`.
pub const FD_SOCKET: &str = "fd.sock";
/// What the shim itself has to say (panics, start-up errors); size bounded by the shim.
pub const SHIM_LOG: &str = "shim.log";
/// Version of every record in this file. A reader refuses a higher one.
pub const VERSION: u32 = 1;

/// Kernel features newer than Linux 5.14 that have an older way, by the names that the configuration and
/// [`ShimOptions::force_fallbacks`] use; the shim's README says what each is.
pub const FALLBACKS: [&str; 2] = [LOWERDIR_PLUS, CLONE_INTO_CGROUP];
/// Overlay layers given one by one through fsconfig(2).
pub const LOWERDIR_PLUS: &str = "lowerdir-plus";
/// A child born in its v2 cgroup.
pub const CLONE_INTO_CGROUP: &str = "clone-into-cgroup";

/// What the daemon tells the shim beyond the OCI runtime spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimOptions {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Where the container's output goes in CRI log format; `None` discards it (CRI contract §7).
    pub log: Option<LogTarget>,
    /// The container has a terminal (`process.terminal` in the spec says so too).
    pub tty: bool,
    /// Keep the container's standard input open for attach; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first attach session ends (CRI `stdin_once`).
    pub stdin_once: bool,
    /// cgroup directories that the shim and its log writer move into before anything else: one absolute path per v1
    /// hierarchy and the v2 path, where there is one. They exist already.
    pub shim_cgroups: Vec<PathBuf>,
    /// Directory (0700, ours) where compiled seccomp programs are kept, shared by all shims; `None` compiles each time.
    pub seccomp_cache: Option<PathBuf>,
    /// Kernel features that are to be treated as missing, of [`FALLBACKS`]: forces older ways.
    pub force_fallbacks: Vec<String>,
}

/// A log file below a directory that kubelet owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTarget {
    /// The pod's log directory; may contain symbolic links itself.
    pub directory: PathBuf,
    /// Path below it. No symbolic link is followed below `directory`.
    pub path: PathBuf,
    /// A content longer than this is split into P records, in bytes.
    pub max_line_bytes: u32,
}

/// A container's process is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Process id of the container's init in the host's PID namespace.
    pub pid: i32,
    /// Unix time in nanoseconds.
    pub started_at: i64,
}

/// How a container ended. On disk before anybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Record version, see [`VERSION`].
    pub version: u32,
    /// Exit status, or 128 + signal number.
    pub exit_code: i32,
    /// The kernel's OOM killer ended a process of the container's cgroup.
    pub oom_killed: bool,
    /// Unix time in nanoseconds; 0 when it never started.
    pub started_at: i64,
    /// Unix time in nanoseconds.
    pub exited_at: i64,
    /// Why it could not be started, when it could not.
    pub start_error: Option<String>,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is there but cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The record's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any record: see [`MAX_RECORD`].
    #[error("read {}: {size} bytes is more than a record can have ({MAX_RECORD})", path.display())]
    TooLarge {
        /// The record's file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The file is not a record of this kind.
    #[error("parse {}", path.display())]
    Parse {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
    /// A newer copepod wrote the file.
    #[error(
        "{} has version {found}, this copepod reads up to {VERSION}: use the copepod that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The record's file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The record cannot be put as JSON.
    #[error("encode {}", path.display())]
    Encode {
        /// The record's file.
        path: PathBuf,
        /// What cannot be put.
        source: serde_json::Error,
    },
    /// The temporary file beside the record cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// The temporary file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The temporary file cannot take the record's name.
    #[error("rename to {}", path.display())]
    Rename {
        /// The record's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Largest record that is read, in bytes. A container that got hold of a bundle must not fill the daemon's memory.
pub const MAX_RECORD: u64 = 64 << 10;

/// Reads what the daemon told the shim; `None` when there is no such file.
///
/// # Errors
/// [`RecordError`]: the file cannot be read, is no record, or a newer copepod wrote it.
pub fn read_options(bundle: &Path) -> Result<Option<ShimOptions>, RecordError> {
    read(&bundle.join(OPTIONS))
}

/// Writes what the daemon tells the shim, in one step.
///
/// # Errors
/// [`RecordError`]: the file cannot be written; what was there before still is.
pub fn write_options(bundle: &Path, record: &ShimOptions) -> Result<(), RecordError> {
    write(&bundle.join(OPTIONS), record)
}

/// Reads that a container was started; `None` when it was not.
///
/// # Errors
/// As [`read_options`].
pub fn read_start(bundle: &Path) -> Result<Option<StartRecord>, RecordError> {
    read(&bundle.join(START))
}

/// Writes that a container was started, in one step.
///
/// # Errors
/// As [`write_options`].
pub fn write_start(bundle: &Path, record: &StartRecord) -> Result<(), RecordError> {
    write(&bundle.join(START), record)
}

/// Reads how a container ended; `None` when nothing is known of an end.
///
/// # Errors
/// As [`read_options`].
pub fn read_exit(bundle: &Path) -> Result<Option<ExitRecord>, RecordError> {
    read(&bundle.join(EXIT))
}

/// Writes how a container ended, in one step.
///
/// # Errors
/// As [`write_options`].
pub fn write_exit(bundle: &Path, record: &ExitRecord) -> Result<(), RecordError> {
    write(&bundle.join(EXIT), record)
}

/// The one field that every version of every record has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn read<R: DeserializeOwned>(path: &Path) -> Result<Option<R>, RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_owned(),
        source,
    };
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    if size > MAX_RECORD {
        return Err(RecordError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    let bytes = fs::read(path).map_err(failed)?;
    let parse = |source| RecordError::Parse {
        path: path.to_owned(),
        source,
    };
    // The version first: fields of a newer record may not fit, and "newer" is the answer that helps.
    let Versioned { version: found } = serde_json::from_slice(&bytes).map_err(parse)?;
    if found > VERSION {
        return Err(RecordError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(parse)
}

/// Replaces the file as a whole: a reader sees the old record or the new one, also after the writer was killed half
/// way. No fsync: bundles die with a reboot anyway (see the top of this file).
fn write<R: Serialize>(path: &Path, record: &R) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec(record).map_err(|source| RecordError::Encode {
        path: path.to_owned(),
        source,
    })?;
    // The daemon and a shim may write the same record (a shim given up, its exit recorded for it).
    let temporary = path.with_extension(format!("tmp.{}", process::id()));
    let done = create(&temporary, &bytes)
        .map_err(|source| RecordError::Write {
            path: temporary.clone(),
            source,
        })
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(|source| RecordError::Rename {
                path: path.to_owned(),
                source,
            })
        });
    if done.is_err() {
        // Best effort: the error that matters is the one above.
        drop(fs::remove_file(&temporary));
    }
    done
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A leftover of a killed writer with the same pid is truncated.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests;
