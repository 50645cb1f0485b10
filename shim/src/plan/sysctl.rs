//! Kernel parameters: which may be set for a container, and where they lie below `/proc/sys`.

use super::Step;
use super::error::PlanError;
use super::spec::NamespaceKind;

/// A kernel parameter, if a namespace of the container confines it.
pub(super) fn step(key: &str, value: &str, has: impl Fn(NamespaceKind) -> bool) -> Result<Step, PlanError> {
    let refused = |reason| PlanError::Sysctl {
        key: key.to_owned(),
        reason,
    };
    let found = path(key).map_err(refused)?;
    if value.contains(['\n', '\0']) {
        return Err(refused("the value contains a newline or NUL"));
    }
    let kind = namespace(&found).ok_or_else(|| refused("no namespace confines it: it would change the host"))?;
    if !has(kind) {
        return Err(PlanError::NamespaceMissing {
            field: format!("linux.sysctl {key}"),
            kind,
        });
    }
    Ok(Step::Sysctl {
        path: found,
        value: value.to_owned(),
    })
}

/// `a.b.c` or `a/b/c` as a path below `/proc/sys`. With slashes, dots belong to the names, as for sysctl(8); with
/// dots first, a slash stands for a dot (`net.ipv4.conf.eth0/100.forwarding`).
///
/// # Errors
/// Why the key is malformed.
pub(crate) fn path(key: &str) -> Result<String, &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    if key.is_empty() || key.len() > 255 || !key.bytes().all(allowed) {
        return Err("a key is 1 to 255 of a-z 0-9 _ - . /");
    }
    let first = key.find(['.', '/']).and_then(|at| key.as_bytes().get(at));
    let path = if first == Some(&b'.') {
        let swapped = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        key.chars().map(swapped).collect()
    } else {
        key.to_owned()
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a key has no empty component and does not climb");
    }
    Ok(path)
}

/// Which namespace confines the parameter, if one does.
pub(crate) fn namespace(path: &str) -> Option<NamespaceKind> {
    const IPC: [&str; 7] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni"];
    let (head, tail) = path.split_once('/')?;
    match head {
        "net" => Some(NamespaceKind::Network),
        "fs" if tail.starts_with("mqueue/") => Some(NamespaceKind::Ipc),
        "kernel" if IPC.contains(&tail) || tail == "shm_rmid_forced" => Some(NamespaceKind::Ipc),
        "kernel" if tail == "hostname" || tail == "domainname" => Some(NamespaceKind::Uts),
        _ => None,
    }
}
