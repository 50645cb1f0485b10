//! Filters of list calls (contract §2.5): a missing one, and an empty one, let everything pass.

use copepod_proto::cri as wire;

use super::{id, invalid, text};
use crate::domain::error::Failure;
use crate::domain::filter::{ContainerFilter, PodFilter, StateKind};
use crate::domain::pod::PodState;
use crate::ops::request::StatsFilter;

/// Of pods.
///
/// # Errors
/// A state is unknown, or an id could not be one.
pub(in crate::cri) fn pods(message: Option<wire::PodSandboxFilter>) -> Result<PodFilter, Failure> {
    let wire::PodSandboxFilter {
        id,
        state,
        label_selector,
    } = message.unwrap_or_default();
    let state = match state {
        None => None,
        Some(wire::PodSandboxStateValue { state }) => Some(match wire::PodSandboxState::try_from(state) {
            Ok(wire::PodSandboxState::SandboxReady) => PodState::Ready,
            Ok(wire::PodSandboxState::SandboxNotready) => PodState::NotReady,
            Err(_) => return Err(invalid("filter.state", format!("is {state}"), "0 and 1 are known")),
        }),
    };
    Ok(PodFilter {
        id: id::optional("filter.id", id)?,
        state,
        labels: text::labels("filter.label_selector", label_selector)?,
    })
}

/// Of containers.
///
/// # Errors
/// As [`pods`].
pub(in crate::cri) fn containers(message: Option<wire::ContainerFilter>) -> Result<ContainerFilter, Failure> {
    let wire::ContainerFilter {
        id,
        state,
        pod_sandbox_id,
        label_selector,
    } = message.unwrap_or_default();
    let state = match state {
        None => None,
        Some(wire::ContainerStateValue { state }) => Some(match wire::ContainerState::try_from(state) {
            Ok(wire::ContainerState::ContainerCreated) => StateKind::Created,
            Ok(wire::ContainerState::ContainerRunning) => StateKind::Running,
            Ok(wire::ContainerState::ContainerExited) => StateKind::Exited,
            Ok(wire::ContainerState::ContainerUnknown) => StateKind::Unknown,
            Err(_) => return Err(invalid("filter.state", format!("is {state}"), "0 to 3 are known")),
        }),
    };
    Ok(ContainerFilter {
        id: id::optional("filter.id", id)?,
        pod: id::optional("filter.pod_sandbox_id", pod_sandbox_id)?,
        state,
        labels: text::labels("filter.label_selector", label_selector)?,
    })
}

/// Of containers' counters.
///
/// # Errors
/// An id could not be one.
pub(in crate::cri) fn stats(message: Option<wire::ContainerStatsFilter>) -> Result<StatsFilter, Failure> {
    let wire::ContainerStatsFilter {
        id,
        pod_sandbox_id,
        label_selector,
    } = message.unwrap_or_default();
    Ok(StatsFilter {
        id: id::optional("filter.id", id)?,
        pod: id::optional("filter.pod_sandbox_id", pod_sandbox_id)?,
        labels: text::labels("filter.label_selector", label_selector)?,
    })
}
