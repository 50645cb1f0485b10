//! A container: what was asked for, and the states it goes through. Every transition is a function here
//! (CRI contract §4.1, §4.2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::id::{ContainerId, PodId};
use crate::domain::image::ImageId;
use crate::domain::mount::{Device, Mount};
use crate::domain::pod::Namespaces;
use crate::domain::resources::Resources;
use crate::domain::security::{Identity, ResolvedUser, Security};

/// What names a container within its pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Name of the container.
    pub name: String,
    /// How often it was restarted before.
    pub attempt: u32,
}

/// The image as the request names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// What to resolve locally: an id, tag or digest.
    pub image: String,
    /// What the user wrote, for display.
    pub user_specified: String,
    /// Annotations of the image spec, returned as given.
    pub annotations: BTreeMap<String, String>,
    /// Runtime handler the image was pulled for.
    pub runtime_handler: String,
}

/// What CreateContainer asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name and attempt; unique within the pod for its whole life.
    pub metadata: ContainerMetadata,
    /// The image.
    pub image: ImageRequest,
    /// Replaces the image's entrypoint (and its cmd) unless empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd unless empty.
    pub args: Vec<String>,
    /// Working directory; empty is the image's.
    pub working_dir: String,
    /// Environment in order; values are bytes on the wire and may be any.
    pub envs: Vec<(String, Vec<u8>)>,
    /// Volumes, in the request's order, as requested.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// For selection; returned byte for byte.
    pub labels: BTreeMap<String, String>,
    /// Free text; returned byte for byte.
    pub annotations: BTreeMap<String, String>,
    /// Log file below the pod's log directory; `None` discards output.
    pub log_path: Option<PathBuf>,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach session.
    pub stdin_once: bool,
    /// Run on a terminal.
    pub tty: bool,
    /// The stop signal asked for; `None` is the image's or SIGTERM.
    pub stop_signal: Option<Signal>,
    /// cgroup limits.
    pub resources: Resources,
    /// Namespaces; pid and ipc win over the pod's, network follows the pod.
    pub namespaces: Namespaces,
    /// Confinement.
    pub security: Security,
    /// Who the process runs as, as asked for.
    pub identity: Identity,
}

/// A signal by its Linux number (1..=64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM, what a stop sends when nobody says otherwise.
    pub const TERM: Self = Self(15);

    /// A signal as images write it: a number, or a name with or without `SIG`, in any case; `RTMIN+n` and `RTMAX-n` too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // The first and last real-time signal that a program sees: glibc and musl keep 32 and 33 for themselves, and
        // whoever writes RTMIN+3 means what his program called so.
        const RTMIN: i32 = 34;
        const RTMAX: i32 = 64;
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return text
                .parse()
                .ok()
                .filter(|number| (1..=RTMAX).contains(number))
                .map(Self);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = |offset: &str| offset.parse::<i32>().ok().filter(|n| (0..=RTMAX - RTMIN).contains(n));
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let offset = if rest.is_empty() { "0" } else { rest.strip_prefix('+')? };
            return real_time(offset).map(|n| Self(RTMIN + n));
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            let offset = if rest.is_empty() { "0" } else { rest.strip_prefix('-')? };
            return real_time(offset).map(|n| Self(RTMAX - n));
        }
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| Self(*number))
    }
}

/// Signals of Linux on x86 and arm (signal(7)).
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Why a container ended, as kubelet reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit status 0.
    Completed,
    /// Another exit status, or a signal.
    Error,
    /// The kernel's OOM killer ended it.
    OomKilled,
    /// It could not be started.
    StartError,
    /// How it ended is not known: its shim died, or the host rebooted.
    Unknown,
}

impl ExitReason {
    /// The word on the wire (contract §4.2).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, 128 + signal, 128 (start error) or 255 (unknown).
    pub code: i32,
    /// Why.
    pub reason: ExitReason,
    /// Text for people; empty when there is nothing to say.
    pub message: String,
    /// When it was started; the same as `finished_at` for one that never ran.
    pub started_at: Timestamp,
    /// When it ended, never before `started_at`.
    pub finished_at: Timestamp,
}

/// Where in its life a container is. Only forward; `Exited` is the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Built, waiting for Start.
    Created,
    /// Its process runs.
    Running {
        /// Process id in the host's PID namespace.
        pid: i32,
        /// When it was started.
        started_at: Timestamp,
    },
    /// Ended.
    Exited(Exit),
}

/// The transition is not allowed from this state.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("container is {is}, not {needs}")]
pub struct WrongState {
    /// The state it has.
    pub is: &'static str,
    /// The state it must have.
    pub needs: &'static str,
}

impl ContainerState {
    /// The state's name for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited(_) => "exited",
        }
    }

    /// Created → Running.
    ///
    /// # Errors
    /// It is not `Created`.
    pub fn started(&self, pid: i32, started_at: Timestamp) -> Result<Self, WrongState> {
        match self {
            Self::Created => Ok(Self::Running { pid, started_at }),
            Self::Running { .. } | Self::Exited(_) => Err(WrongState {
                is: self.name(),
                needs: "created",
            }),
        }
    }

    /// Anything but Exited → Exited; the end time is never before the start.
    ///
    /// # Errors
    /// It has exited already: the first report stands.
    pub fn exited(&self, mut exit: Exit) -> Result<Self, WrongState> {
        if let Self::Exited(_) = self {
            return Err(WrongState {
                is: self.name(),
                needs: "created or running",
            });
        }
        if let Self::Running { started_at, .. } = self {
            exit.started_at = *started_at;
        }
        exit.finished_at = exit.finished_at.max(exit.started_at);
        Ok(Self::Exited(exit))
    }

    /// The pid and start time, if it runs.
    #[must_use]
    pub fn running(&self) -> Option<(i32, Timestamp)> {
        match self {
            Self::Running { pid, started_at } => Some((*pid, *started_at)),
            Self::Created | Self::Exited(_) => None,
        }
    }
}

/// A container that is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Chosen by us.
    pub id: ContainerId,
    /// Its pod.
    pub pod: PodId,
    /// What was asked for, whole, with updates to resources applied.
    pub spec: ContainerSpec,
    /// When CreateContainer began.
    pub created_at: Timestamp,
    /// Where it is in its life.
    pub state: ContainerState,
    /// The image it runs, which may have been removed since.
    pub image_id: ImageId,
    /// Image name for display: its first tag when created, or what was requested.
    pub image_name: String,
    /// `repo@sha256:…` when known, else the image id; survives the image's removal.
    pub image_ref: String,
    /// Layers the root file system is made of, lowest first; they are held until the container is removed.
    pub layers: Vec<crate::domain::image::DiffId>,
    /// Who the process runs as, resolved in the image at Create.
    pub user: ResolvedUser,
    /// The signal a stop sends.
    pub stop_signal: Signal,
    /// cgroup of the container, in cgroupfs syntax.
    pub cgroup: String,
    /// Absolute log path, when output is kept.
    pub log_path: Option<PathBuf>,
    /// The boot in which its process lives.
    pub boot_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(at: i64) -> Exit {
        Exit {
            code: 0,
            reason: ExitReason::Completed,
            message: String::new(),
            started_at: Timestamp(at),
            finished_at: Timestamp(at),
        }
    }

    #[test]
    fn only_forward_transitions_exist() {
        let created = ContainerState::Created;
        let running = created.started(7, Timestamp(10)).unwrap();
        assert_eq!(running.started(8, Timestamp(11)).unwrap_err().is, "running");
        let exited = running.exited(exit(12)).unwrap();
        assert!(exited.exited(exit(13)).is_err());
        assert!(exited.started(9, Timestamp(14)).is_err());
    }

    #[test]
    fn stop_signals_as_images_write_them() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(Signal::parse(text), Some(Signal(number)), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "-9",
            "SIGNAL",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "99999999999",
            "SIGSIGTERM",
        ] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_end_is_never_before_its_start() {
        let running = ContainerState::Created.started(7, Timestamp(10)).unwrap();
        let ContainerState::Exited(end) = running.exited(exit(5)).unwrap() else {
            panic!("not exited")
        };
        assert_eq!((end.started_at, end.finished_at), (Timestamp(10), Timestamp(10)));
    }
}
