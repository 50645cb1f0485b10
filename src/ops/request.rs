//! What the verbs are asked for, where an id is not enough.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::domain::container::ContainerSpec;
use crate::domain::image::Credentials;

/// What CreateContainer asks for, and where.
#[derive(Debug, Clone)]
pub struct CreateContainer {
    /// Id or unambiguous prefix of the pod.
    pub pod: String,
    /// The container.
    pub spec: ContainerSpec,
}

/// How long a container may take to end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Not at all: SIGKILL.
    Now,
    /// This long after its stop signal.
    After(Duration),
}

/// A bounded exec.
#[derive(Debug, Clone)]
pub struct ExecSync {
    /// Id or unambiguous prefix of the container.
    pub container: String,
    /// argv, not empty.
    pub args: Vec<String>,
    /// `None` waits for ever.
    pub timeout: Option<Duration>,
}

/// What PullImage asks for.
#[derive(Clone)]
pub struct PullImage {
    /// Reference as the user writes it.
    pub image: String,
    /// Credentials of the request.
    pub auth: Option<Credentials>,
}

/// Which containers' counters are wanted; fields AND together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsFilter {
    /// Id or unambiguous prefix.
    pub id: Option<String>,
    /// Id or unambiguous prefix of the pod.
    pub pod: Option<String>,
    /// Every label given must be there with exactly this value.
    pub labels: BTreeMap<String, String>,
}

impl fmt::Debug for PullImage {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullImage")
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}
