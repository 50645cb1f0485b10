//! Why a verb was refused or failed.

use rustix::io::Errno;

use crate::cgroup::error::CgroupError;
use crate::child::error::CreateError;
use crate::child::fallback::UnknownFallback;
use crate::child::launch::LaunchError;
use crate::io::writer::WriterError;
use crate::seccomp::profile::ProfileError;

/// Why a verb was refused or failed. Each names what the shim was doing; the cause is its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpError {
    #[error("{verb}: the container is {phase}")]
    WrongPhase { verb: &'static str, phase: &'static str },
    #[error("this shim keeps container {ours}, not {asked}")]
    OtherContainer { ours: String, asked: String },
    #[error("{what} is not supported by this shim yet")]
    Unsupported { what: &'static str },
    #[error("{0}")]
    Invalid(&'static str),
    #[error("signal {0} does not exist")]
    Signal(u32),
    #[error("exec {0} is not known: it has ended some time ago, was killed, or never was")]
    NoExec(String),
    #[error("exec id {0} is in use")]
    ExecExists(String),
    #[error("read the OCI process of the exec")]
    Process { source: serde_json::Error },
    #[error("make a pipe for the container's standard input")]
    Input { source: Errno },
    #[error("make pipes for the exec")]
    Pipes { source: Errno },
    #[error("read {}", copepod_proto::bundle::CONFIG)]
    ReadConfig { source: std::io::Error },
    #[error("parse {}", copepod_proto::bundle::CONFIG)]
    ParseConfig { source: serde_json::Error },
    #[error("open the container's log")]
    OpenLog { source: WriterError },
    #[error("open the container's log again")]
    ReopenLog { source: WriterError },
    #[error("hand the terminal to the log writer")]
    Terminal { source: WriterError },
    #[error("compile the seccomp profile of the container")]
    Seccomp { source: ProfileError },
    #[error("read which kernel features to do without")]
    Fallbacks { source: UnknownFallback },
    #[error("prepare the container's cgroup")]
    Cgroup { source: CgroupError },
    #[error("read the OOM counter of the container's cgroup")]
    Oom { source: CgroupError },
    #[error("read the processes of the container's cgroup")]
    Pids { source: CgroupError },
    #[error("create the container")]
    Create { source: CreateError },
    #[error("open /dev/null for the container's standard input")]
    Null { source: Errno },
    #[error("copy a descriptor of the container's streams")]
    Streams { source: std::io::Error },
    #[error("build the container")]
    Build { source: LaunchError },
    #[error("the container was not built within {0} s")]
    BuildSlow(u64),
    #[error("watch a new process")]
    Watch { source: std::io::Error },
    #[error("start the container: {0}")]
    Start(String),
    #[error("start a process in the container")]
    Exec { source: CreateError },
    #[error("start a process in the container")]
    Launch { source: LaunchError },
    #[error("send the signal")]
    Send { source: Errno },
    #[error("kill the processes of the cgroup")]
    KillAll { source: CgroupError },
    #[error("kill the processes of the cgroup: some have not died within {0} s, a disk may be stalled")]
    Undying(u64),
    #[error("remove the cgroup")]
    RemoveCgroup { source: CgroupError },
    #[error("remove the cgroup: processes are still in it after {0} s")]
    CgroupBusy(u64),
    #[error("the shim's task for this verb was cut short")]
    CutShort,
}

/// What a caller can conclude from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no such thing (any more).
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// Not in this phase.
    WrongState,
    /// The request makes no sense.
    Invalid,
    /// Not built.
    Unsupported,
    /// The disk under the log does not answer.
    Unavailable,
    /// It was tried and did not work.
    Failed,
}

impl OpError {
    /// What a caller can conclude.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::NoExec(_) | Self::OtherContainer { .. } => Kind::NotFound,
            Self::ExecExists(_) => Kind::AlreadyExists,
            Self::WrongPhase { .. }
            | Self::ReopenLog {
                source: WriterError::Complete,
            } => Kind::WrongState,
            Self::Invalid(_)
            | Self::Signal(_)
            | Self::Process { .. }
            | Self::ParseConfig { .. }
            | Self::Seccomp { .. }
            | Self::Fallbacks { .. } => Kind::Invalid,
            Self::Unsupported { .. } => Kind::Unsupported,
            Self::ReopenLog {
                source: WriterError::Stalled { .. },
            }
            | Self::OpenLog {
                source: WriterError::Stalled { .. },
            } => Kind::Unavailable,
            Self::Input { .. }
            | Self::Pipes { .. }
            | Self::ReadConfig { .. }
            | Self::OpenLog { .. }
            | Self::ReopenLog { .. }
            | Self::Terminal { .. }
            | Self::Cgroup { .. }
            | Self::Oom { .. }
            | Self::Pids { .. }
            | Self::Create { .. }
            | Self::Streams { .. }
            | Self::Start(_)
            | Self::Exec { .. }
            | Self::Launch { .. }
            | Self::Build { .. }
            | Self::BuildSlow(_)
            | Self::Watch { .. }
            | Self::Null { .. }
            | Self::Send { .. }
            | Self::KillAll { .. }
            | Self::RemoveCgroup { .. }
            | Self::Undying(_)
            | Self::CgroupBusy(_)
            | Self::CutShort => Kind::Failed,
        }
    }
}
