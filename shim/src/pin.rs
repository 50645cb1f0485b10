//! The `pin` verb: makes a pod's namespaces and pins each by a bind mount, so that no process has to hold them. Born
//! single-threaded by exec, it reads one JSON object on standard input, answers one on standard output, and ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::init;
use crate::plan::spec::NamespaceKind;
use crate::plan::sysctl;
use crate::sys::{link, namespace};

/// Longest request in bytes.
const MAX_REQUEST: u64 = 1 << 20;

/// What to make. Each path is an empty file that exists.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    net: Option<PathBuf>,
    #[serde(default)]
    ipc: Option<PathBuf>,
    #[serde(default)]
    uts: Option<PathBuf>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Done { ok: bool },
    Failed { error: String, errno: Option<i32> },
}

#[derive(Debug, thiserror::Error)]
enum PinError {
    #[error("read the request")]
    Read { source: std::io::Error },
    #[error("understand the request")]
    Parse { source: serde_json::Error },
    #[error("sysctl {key:?}: {reason}")]
    Sysctl { key: String, reason: &'static str },
    #[error("{field} needs a {kind:?} namespace of the pod's own")]
    NamespaceMissing { field: String, kind: NamespaceKind },
    #[error("make namespaces")]
    Unshare { source: Errno },
    #[error("bring lo up")]
    Loopback { source: Errno },
    #[error("set host name {name:?}")]
    HostName { name: String, source: Errno },
    #[error(transparent)]
    WriteSysctl(#[from] init::InitError),
    #[error("pin the {kind:?} namespace on {}", path.display())]
    Pin {
        kind: NamespaceKind,
        path: PathBuf,
        source: Errno,
    },
    #[error("{cause}; and {} stays pinned", path.display())]
    Undo {
        cause: Box<PinError>,
        path: PathBuf,
        source: Errno,
    },
}

/// Does what standard input says. The exit status says the same as the answer.
pub(crate) fn run() -> ExitCode {
    let (answer, code) = match read().and_then(|request| pin(&request)) {
        Ok(()) => (Answer::Done { ok: true }, ExitCode::SUCCESS),
        Err(error) => (failed(&error), ExitCode::FAILURE),
    };
    let mut text = serde_json::to_vec(&answer).unwrap_or_default();
    text.push(b'\n');
    match std::io::stdout().write_all(&text) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn failed(error: &PinError) -> Answer {
    let mut text = error.to_string();
    let mut errno = None;
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        errno = source
            .downcast_ref::<Errno>()
            .map(|errno| errno.raw_os_error())
            .or(errno);
        cause = source.source();
    }
    Answer::Failed { error: text, errno }
}

fn read() -> Result<Request, PinError> {
    let mut text = Vec::new();
    std::io::stdin()
        .take(MAX_REQUEST)
        .read_to_end(&mut text)
        .map_err(|source| PinError::Read { source })?;
    serde_json::from_slice(&text).map_err(|source| PinError::Parse { source })
}

fn pin(request: &Request) -> Result<(), PinError> {
    let sysctls = checked(request)?;
    let pins = pins(request);
    let flags = pins
        .iter()
        .fold(UnshareFlags::empty(), |flags, (kind, ..)| flags | unshare_flag(*kind));
    namespace::unshare(flags).map_err(|source| PinError::Unshare { source })?;
    if request.net.is_some() {
        link::bring_loopback_up().map_err(|source| PinError::Loopback { source })?;
    }
    if let Some(name) = &request.hostname {
        rustix::system::sethostname(name.as_bytes()).map_err(|source| PinError::HostName {
            name: name.clone(),
            source,
        })?;
    }
    init::sysctls(sysctls.iter().map(|(path, value)| (path.as_str(), *value)))?;
    for (index, (kind, name, path)) in pins.iter().enumerate() {
        let pinned = bind(name, path).map_err(|source| PinError::Pin {
            kind: *kind,
            path: path.to_path_buf(),
            source,
        });
        if let Err(cause) = pinned {
            return Err(undo(cause, pins.get(..index).unwrap_or_default()));
        }
    }
    Ok(())
}

type Pin<'a> = (NamespaceKind, &'static str, &'a Path);

fn pins(request: &Request) -> Vec<Pin<'_>> {
    let wanted = [
        (NamespaceKind::Network, "net", &request.net),
        (NamespaceKind::Ipc, "ipc", &request.ipc),
        (NamespaceKind::Uts, "uts", &request.uts),
    ];
    wanted
        .into_iter()
        .filter_map(|(kind, name, path)| Some((kind, name, path.as_deref()?)))
        .collect()
}

fn unshare_flag(kind: NamespaceKind) -> UnshareFlags {
    match kind {
        NamespaceKind::Network => UnshareFlags::NEWNET,
        NamespaceKind::Ipc => UnshareFlags::NEWIPC,
        NamespaceKind::Uts => UnshareFlags::NEWUTS,
        // `pins` names no other.
        NamespaceKind::Pid
        | NamespaceKind::Mount
        | NamespaceKind::User
        | NamespaceKind::Cgroup
        | NamespaceKind::Time => UnshareFlags::empty(),
    }
}

/// Everything that can be refused is refused before anything is made.
fn checked(request: &Request) -> Result<Vec<(String, &str)>, PinError> {
    let has = |kind| pins(request).iter().any(|(made, ..)| *made == kind);
    if request.hostname.is_some() && !has(NamespaceKind::Uts) {
        return Err(PinError::NamespaceMissing {
            field: "hostname".to_owned(),
            kind: NamespaceKind::Uts,
        });
    }
    let one = |(key, value): (&String, &'_ String)| {
        let refused = |reason| PinError::Sysctl {
            key: key.clone(),
            reason,
        };
        let path = sysctl::path(key).map_err(refused)?;
        // A value is written to one file and means nothing else, `+` and `=` included (CVE-2022-0811).
        if value.contains(['\n', '\0']) {
            return Err(refused("the value contains a newline or NUL"));
        }
        let kind =
            sysctl::namespace(&path).ok_or_else(|| refused("no namespace confines it: it would change the host"))?;
        if has(kind) {
            Ok(path)
        } else {
            Err(PinError::NamespaceMissing {
                field: format!("sysctl {key}"),
                kind,
            })
        }
    };
    request
        .sysctls
        .iter()
        .map(|(key, value)| Ok((one((key, value))?, value.as_str())))
        .collect()
}

fn bind(name: &str, path: &Path) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, format!("/proc/self/ns/{name}"), flags)?;
    move_mount(&tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn undo(cause: PinError, made: &[Pin<'_>]) -> PinError {
    made.iter().fold(cause, |cause, (_, _, path)| {
        match rustix::mount::unmount(*path, UnmountFlags::DETACH) {
            Ok(()) => cause,
            Err(source) => PinError::Undo {
                cause: Box::new(cause),
                path: path.to_path_buf(),
                source,
            },
        }
    })
}

#[cfg(test)]
mod tests;
