//! Containers in lists and status (contract §4).

use copepod_proto::cri as wire;

use super::resources;
use crate::cri::signal;
use crate::domain::container::{Container, ContainerMetadata, ContainerState, Exit, ImageRequest};
use crate::domain::mount::{Access, Mount, Propagation};
use crate::domain::security::ResolvedUser;

/// A container in a list.
pub(in crate::cri) fn item(container: &Container) -> wire::Container {
    wire::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: Some(metadata(&container.spec.metadata)),
        image: Some(image(container)),
        // kubelet's image collection compares both with `Image.id`.
        image_ref: container.image_id.to_string(),
        state: state(&container.state).into(),
        created_at: container.created_at.as_nanos(),
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        image_id: container.image_id.to_string(),
    }
}

/// A container's status.
pub(in crate::cri) fn status(container: &Container) -> wire::ContainerStatus {
    let end = Times::of(&container.state);
    wire::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(metadata(&container.spec.metadata)),
        state: state(&container.state).into(),
        created_at: container.created_at.as_nanos(),
        started_at: end.started_at,
        finished_at: end.finished_at,
        exit_code: end.exit_code,
        image: Some(image(container)),
        image_ref: container.image_ref.clone(),
        reason: end.reason,
        message: end.message,
        labels: container.spec.labels.clone(),
        annotations: container.spec.annotations.clone(),
        mounts: container.spec.mounts.iter().map(mount).collect(),
        log_path: container
            .log_path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        resources: Some(wire::ContainerResources {
            linux: Some(resources::encode(&container.spec.resources)),
            windows: None,
        }),
        image_id: container.image_id.to_string(),
        user: Some(user(&container.user)),
        stop_signal: signal::encode(container.stop_signal).into(),
    }
}

/// What names a container.
pub(super) fn metadata(metadata: &ContainerMetadata) -> wire::ContainerMetadata {
    let ContainerMetadata { name, attempt } = metadata;
    wire::ContainerMetadata {
        name: name.clone(),
        attempt: *attempt,
    }
}

fn state(state: &ContainerState) -> wire::ContainerState {
    match state {
        ContainerState::Created => wire::ContainerState::ContainerCreated,
        ContainerState::Running { .. } => wire::ContainerState::ContainerRunning,
        ContainerState::Exited(_) => wire::ContainerState::ContainerExited,
    }
}

/// What of a status comes from the state; zero until it is so.
#[derive(Default)]
struct Times {
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
    message: String,
}

impl Times {
    fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Created => Self::default(),
            ContainerState::Running { started_at, pid: _ } => Self {
                started_at: started_at.as_nanos(),
                ..Self::default()
            },
            ContainerState::Exited(Exit {
                code,
                reason,
                message,
                started_at,
                finished_at,
            }) => Self {
                started_at: started_at.as_nanos(),
                finished_at: finished_at.as_nanos(),
                exit_code: *code,
                reason: reason.as_str().to_owned(),
                message: message.clone(),
            },
        }
    }
}

fn image(container: &Container) -> wire::ImageSpec {
    let ImageRequest {
        image: _,
        user_specified,
        annotations,
        runtime_handler,
    } = &container.spec.image;
    wire::ImageSpec {
        image: container.image_name.clone(),
        annotations: annotations.clone(),
        user_specified_image: user_specified.clone(),
        runtime_handler: runtime_handler.clone(),
        image_ref: String::new(),
    }
}

/// Exactly as requested: kubelet finds the termination message through it.
fn mount(mount: &Mount) -> wire::Mount {
    let Mount {
        container_path,
        host_path,
        access,
        selinux_relabel,
        propagation,
    } = mount;
    let propagation = match propagation {
        Propagation::Private => wire::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => wire::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => wire::MountPropagation::PropagationBidirectional,
    };
    wire::Mount {
        container_path: container_path.clone(),
        host_path: host_path.display().to_string(),
        readonly: *access != Access::ReadWrite,
        recursive_read_only: *access == Access::ReadOnlyTree,
        selinux_relabel: *selinux_relabel,
        propagation: propagation.into(),
        ..wire::Mount::default()
    }
}

fn user(user: &ResolvedUser) -> wire::ContainerUser {
    let ResolvedUser {
        uid,
        gid,
        groups,
        home: _,
    } = user;
    wire::ContainerUser {
        linux: Some(wire::LinuxContainerUser {
            uid: i64::from(*uid),
            gid: i64::from(*gid),
            supplemental_groups: groups.iter().map(|gid| i64::from(*gid)).collect(),
        }),
    }
}
