//! Pods in lists and status (contract §3).

use copepod_proto::cri as wire;

use crate::domain::pod::{NamespaceMode, Namespaces, Pod, PodMetadata, PodState};

/// A pod in a list.
pub(in crate::cri) fn item(pod: &Pod) -> wire::PodSandbox {
    wire::PodSandbox {
        id: pod.id.to_string(),
        metadata: Some(metadata(&pod.spec.metadata)),
        state: state(pod.state).into(),
        created_at: pod.created_at.as_nanos(),
        labels: pod.spec.labels.clone(),
        annotations: pod.spec.annotations.clone(),
        runtime_handler: pod.spec.runtime_handler.clone(),
    }
}

/// A pod's status. The namespace options are told back as asked for: kubelet makes a host-network pod anew for ever
/// when they are not.
pub(in crate::cri) fn status(pod: &Pod) -> wire::PodSandboxStatus {
    wire::PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some(metadata(&pod.spec.metadata)),
        state: state(pod.state).into(),
        created_at: pod.created_at.as_nanos(),
        network: network(pod),
        linux: Some(wire::LinuxPodSandboxStatus {
            namespaces: Some(wire::Namespace {
                options: Some(namespaces(&pod.spec.namespaces)),
            }),
        }),
        labels: pod.spec.labels.clone(),
        annotations: pod.spec.annotations.clone(),
        runtime_handler: pod.spec.runtime_handler.clone(),
    }
}

/// What names a pod.
pub(super) fn metadata(metadata: &PodMetadata) -> wire::PodSandboxMetadata {
    let PodMetadata {
        name,
        namespace,
        uid,
        attempt,
    } = metadata;
    wire::PodSandboxMetadata {
        name: name.clone(),
        uid: uid.clone(),
        namespace: namespace.clone(),
        attempt: *attempt,
    }
}

fn state(state: PodState) -> wire::PodSandboxState {
    match state {
        PodState::Ready => wire::PodSandboxState::SandboxReady,
        PodState::NotReady => wire::PodSandboxState::SandboxNotready,
    }
}

/// Missing rather than empty on the host's network and after teardown: an empty address of a ready pod makes kubelet
/// make it anew.
fn network(pod: &Pod) -> Option<wire::PodSandboxNetworkStatus> {
    let mut ips = pod.attachment.as_ref()?.ips.iter().map(ToString::to_string);
    Some(wire::PodSandboxNetworkStatus {
        ip: ips.next()?,
        additional_ips: ips.map(|ip| wire::PodIp { ip }).collect(),
    })
}

fn namespaces(namespaces: &Namespaces) -> wire::NamespaceOption {
    let Namespaces { network, pid, ipc } = namespaces;
    let mode = |mode: &NamespaceMode| match mode {
        NamespaceMode::Pod => wire::NamespaceMode::Pod,
        NamespaceMode::Container => wire::NamespaceMode::Container,
        NamespaceMode::Node => wire::NamespaceMode::Node,
        NamespaceMode::Target(_) => wire::NamespaceMode::Target,
    };
    let target_id = match pid {
        NamespaceMode::Target(id) => id.clone(),
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Node => String::new(),
    };
    wire::NamespaceOption {
        network: mode(network).into(),
        pid: mode(pid).into(),
        ipc: mode(ipc).into(),
        target_id,
        userns_options: None,
    }
}
