//! Kernel parameters of a pod: an allow-list of what belongs to a namespace the pod has of its own. Everything else
//! would change the host (CVE-2022-0532), and a value is only ever a value (CVE-2022-0811).

use std::collections::BTreeMap;

use super::{invalid, quoted};
use crate::domain::error::Failure;
use crate::domain::pod::{NamespaceMode, Namespaces};
use crate::domain::security::Sysctls;

/// Parameters of the IPC namespace (ipc_namespaces(7)), as path components below `/proc/sys`.
const IPC: [&str; 12] = [
    "kernel/auto_msgmni",
    "kernel/msg_next_id",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Parameters by dotted name, or slashed where a component has a dot in it (sysctl(8)).
///
/// # Errors
/// Names the parameter, and the namespace that it would need.
pub(super) fn decode(field: &str, map: BTreeMap<String, String>, namespaces: &Namespaces) -> Result<Sysctls, Failure> {
    const MOST: usize = 512;
    if map.len() > MOST {
        return Err(invalid(field, format!("has {} entries", map.len()), "512 are allowed"));
    }
    let mut sysctls = Sysctls::new();
    for (key, value) in map {
        let parts = components(field, &key)?;
        owned_by_pod(field, &parts, namespaces)?;
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'\t' | b',' | b'.' | b':' | b'_' | b'-');
        if value.is_empty() || value.len() > 4096 || !value.bytes().all(plain) {
            let problem = format!("has {} for {key}", quoted(&value));
            return Err(invalid(
                field,
                problem,
                "a value is made of letters, digits, blanks and any of , . : _ -",
            ));
        }
        let dotted = !parts.iter().any(|part| part.contains('.'));
        sysctls.insert(parts.join(if dotted { "." } else { "/" }), value);
    }
    Ok(sysctls)
}

/// Splits as sysctl(8) does: the separator met first separates, the other one stands for itself.
fn components(field: &str, key: &str) -> Result<Vec<String>, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_' | b'-');
    let slashed = key.find(['.', '/']).is_some_and(|first| key[first..=first] == *"/");
    let separator = if slashed { '/' } else { '.' };
    let part = |part: &str| {
        if slashed {
            part.to_owned()
        } else {
            part.replace('/', ".")
        }
    };
    let parts: Vec<String> = key.split(separator).map(part).collect();
    let sound = |part: &String| !part.is_empty() && !part.starts_with('.');
    if key.len() > 256 || !key.bytes().all(plain) || parts.len() < 2 || !parts.iter().all(sound) {
        return Err(invalid(
            field,
            format!("names a parameter {}", quoted(key)),
            "write it as net.ipv4.ip_forward",
        ));
    }
    Ok(parts)
}

fn owned_by_pod(field: &str, parts: &[String], namespaces: &Namespaces) -> Result<(), Failure> {
    let path = parts.join("/");
    let (namespace, mode) = if parts[0] == "net" {
        ("network", &namespaces.network)
    } else if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        ("IPC", &namespaces.ipc)
    } else {
        let problem = format!("has {}, which belongs to the whole host", quoted(&parts.join(".")));
        return Err(invalid(
            field,
            problem,
            "set it on the node; pods may set net.*, fs.mqueue.* and those of IPC",
        ));
    };
    if *mode == NamespaceMode::Node {
        let problem = format!(
            "has {} in a pod on the host's {namespace} namespace",
            quoted(&parts.join("."))
        );
        return Err(invalid(
            field,
            problem,
            "set it on the node, or give the pod a namespace of its own",
        ));
    }
    Ok(())
}
