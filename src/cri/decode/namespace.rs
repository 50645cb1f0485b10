//! Whose namespaces (contract §5.1).

use copepod_proto::cri as wire;

use super::{id, invalid, unsupported};
use crate::domain::error::Failure;
use crate::domain::pod::{NamespaceMode, Namespaces};

/// Whose request it is: a pod cannot join one of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// RunPodSandbox.
    Pod,
    /// CreateContainer.
    Container,
}

/// Namespaces; a missing message means the pod's of everything.
///
/// # Errors
/// Names the namespace and the modes it can have.
pub(super) fn decode(
    field: &str,
    message: Option<wire::NamespaceOption>,
    subject: Subject,
) -> Result<Namespaces, Failure> {
    let wire::NamespaceOption {
        network,
        pid,
        ipc,
        target_id,
        userns_options,
    } = message.unwrap_or_default();
    user(&format!("{field}.userns_options"), userns_options)?;
    let network = mode(&format!("{field}.network"), network, "")?;
    if !matches!(network, NamespaceMode::Pod | NamespaceMode::Node) {
        return Err(invalid(
            &format!("{field}.network"),
            "is neither POD nor NODE",
            "a pod has one network",
        ));
    }
    let ipc = mode(&format!("{field}.ipc"), ipc, "")?;
    let pid_field = format!("{field}.pid");
    let pid = mode(&pid_field, pid, &target_id)?;
    match (&pid, subject) {
        (NamespaceMode::Target(_), Subject::Pod) => {
            return Err(invalid(
                &pid_field,
                "is TARGET",
                "a pod has no container to share with when it is made",
            ));
        }
        (NamespaceMode::Target(_), Subject::Container) => {}
        (NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Node, _) if !target_id.is_empty() => {
            return Err(invalid(
                &format!("{field}.target_id"),
                "is set",
                "it goes with pid mode TARGET only",
            ));
        }
        (NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Node, _) => {}
    }
    Ok(Namespaces { network, pid, ipc })
}

fn mode(field: &str, number: i32, target: &str) -> Result<NamespaceMode, Failure> {
    match wire::NamespaceMode::try_from(number) {
        Ok(wire::NamespaceMode::Pod) => Ok(NamespaceMode::Pod),
        Ok(wire::NamespaceMode::Container) => Ok(NamespaceMode::Container),
        Ok(wire::NamespaceMode::Node) => Ok(NamespaceMode::Node),
        Ok(wire::NamespaceMode::Target) if target.is_empty() => Err(invalid(
            field,
            "is TARGET without a target",
            "set target_id, for the PID namespace only",
        )),
        Ok(wire::NamespaceMode::Target) => id::required(field, target.to_owned()).map(NamespaceMode::Target),
        Err(_) => Err(invalid(
            field,
            format!("is {number}"),
            "POD, CONTAINER, NODE and TARGET are 0 to 3",
        )),
    }
}

/// User namespaces are not built. kubelet says NODE for every pod that does not ask for one.
fn user(field: &str, message: Option<wire::UserNamespace>) -> Result<(), Failure> {
    let Some(wire::UserNamespace { mode, uids, gids }) = message else {
        return Ok(());
    };
    match wire::NamespaceMode::try_from(mode) {
        Ok(wire::NamespaceMode::Node) if uids.is_empty() && gids.is_empty() => Ok(()),
        Ok(wire::NamespaceMode::Node) => Err(invalid(
            field,
            "has id mappings on the host's namespace",
            "leave them out, or use mode POD",
        )),
        Ok(wire::NamespaceMode::Pod) => Err(unsupported(
            field,
            "user namespaces are",
            "leave hostUsers out of the pod, or set it to true",
        )),
        Ok(wire::NamespaceMode::Container | wire::NamespaceMode::Target) | Err(_) => Err(invalid(
            field,
            "is neither POD nor NODE",
            "a pod has one user namespace",
        )),
    }
}
