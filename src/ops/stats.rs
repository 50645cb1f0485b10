//! Counters of containers.

use std::sync::Arc;

use crate::domain::container::{Container, ContainerState};
use crate::domain::error::{Failure, Kind};
use crate::domain::filter::{ContainerFilter, StateKind};
use crate::ops::answer::Stats;
use crate::ops::query::measured;
use crate::ops::request::StatsFilter;
use crate::ops::{Inner, driver};

/// Of one container.
pub(crate) async fn container(ops: &Arc<Inner>, text: &str) -> Result<Stats, Failure> {
    let container = ops.table.container(text)?.container();
    if let ContainerState::Exited(_) = container.state {
        return Err(Failure::new(
            Kind::FailedPrecondition,
            format!(
                "container {} has exited: only created and running ones have counters",
                container.id
            ),
        ));
    }
    read(ops, vec![container])
        .await
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(Failure::new(Kind::Internal, "the counters were not read")))
}

/// Of every running container that passes. One that cannot be read has ended meanwhile, or is broken: either way it
/// must not fail the others' (contract §10.1).
pub(crate) async fn list(ops: &Arc<Inner>, filter: &StatsFilter) -> Result<Vec<Stats>, Failure> {
    let StatsFilter { id, pod, labels } = filter.clone();
    let entries = ops.table.containers(&ContainerFilter {
        id,
        pod,
        state: Some(StateKind::Running),
        labels,
    });
    let containers = entries.iter().map(|entry| entry.container()).collect();
    let read = read(ops, containers).await;
    Ok(read.into_iter().filter_map(Result::ok).collect())
}

/// Reading cgroup files takes the kernel's locks for long enough to keep it off the threads that serve requests.
async fn read(ops: &Arc<Inner>, containers: Vec<Arc<Container>>) -> Vec<Result<Stats, Failure>> {
    let ops = Arc::clone(ops);
    let one = move |container: Arc<Container>| match ops.runtime.stats(&container.cgroup) {
        Ok(cgroup) => Ok(Stats {
            layer: measured(ops.snapshot.usage(&container.id)),
            cgroup,
            container,
        }),
        Err(error) => Err(driver::runtime(
            format!("read the counters of container {}", container.id),
            error,
        )),
    };
    let all = tokio::task::spawn_blocking(move || containers.into_iter().map(one).collect());
    all.await.unwrap_or_default()
}
