//! Which objects a list call wants (CRI contract §2.5). Fields AND together; an absent one lets everything pass.

use std::collections::BTreeMap;

use crate::domain::container::{Container, ContainerState};
use crate::domain::pod::{Pod, PodState};

/// Of pod sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFilter {
    /// Id or unambiguous prefix; an ambiguous one matches nothing.
    pub id: Option<String>,
    /// State.
    pub state: Option<PodState>,
    /// Every label given must be there with exactly this value.
    pub labels: BTreeMap<String, String>,
}

/// State of a container as a filter names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// Created.
    Created,
    /// Running.
    Running,
    /// Exited.
    Exited,
    /// Unknown to us: matches nothing, since we report no such state.
    Unknown,
}

/// Of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerFilter {
    /// Id or unambiguous prefix.
    pub id: Option<String>,
    /// Id or unambiguous prefix of the pod.
    pub pod: Option<String>,
    /// State.
    pub state: Option<StateKind>,
    /// Labels, as for pods.
    pub labels: BTreeMap<String, String>,
}

impl PodFilter {
    /// Whether `pod` passes everything but the id, which needs to know of other pods.
    #[must_use]
    pub fn passes(&self, pod: &Pod) -> bool {
        self.state.is_none_or(|state| state == pod.state) && has_labels(&pod.spec.labels, &self.labels)
    }
}

impl ContainerFilter {
    /// Whether `container` passes everything but the ids, which need to know of other objects.
    #[must_use]
    pub fn passes(&self, container: &Container) -> bool {
        self.state.is_none_or(|state| state == StateKind::of(&container.state))
            && has_labels(&container.spec.labels, &self.labels)
    }
}

impl StateKind {
    /// The kind of a state.
    #[must_use]
    pub fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Created => Self::Created,
            ContainerState::Running { .. } => Self::Running,
            ContainerState::Exited(_) => Self::Exited,
        }
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
