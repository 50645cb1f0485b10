//! Times the steps of a pod's life. The runtimes take turns within one run, so that a machine's bad minute hits all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::BenchError;
use crate::pod::{Client, Endpoint};
use crate::sample::{Sample, Step, append};

/// Pods that each worker runs, one after the other, in one turn.
const PODS_PER_TURN: usize = 4;
/// Execs in each pod: they are short, and more of them make a steadier median.
const EXECS_PER_POD: usize = 4;
/// Calls that do nothing, and floors, per turn.
const ROUND_TRIPS: usize = 16;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) turns: usize,
    pub(crate) parallel: Vec<usize>,
    pub(crate) busybox: PathBuf,
}

type Times = Vec<(Step, Duration)>;

/// Measures and appends to `results`.
pub(crate) async fn measure(results: &Path, plan: &Plan) -> Result<(), BenchError> {
    let mut clients = Vec::new();
    for endpoint in &plan.endpoints {
        clients.push((endpoint.name.clone(), Client::open(endpoint).await?));
    }
    let mut serial = 0;
    let mut floor = Vec::new();
    for &parallel in &plan.parallel {
        let mut all: BTreeMap<(usize, Step), Vec<f64>> = BTreeMap::new();
        for turn in 0..=plan.turns {
            for (index, (name, client)) in clients.iter_mut().enumerate() {
                let times = one_turn(client, parallel, &mut serial).await?;
                // The first turn warms caches, and the peer's first pod loads its plugins.
                if turn > 0 {
                    for (step, took) in times {
                        all.entry((index, step)).or_default().push(milliseconds(took));
                    }
                }
                eprint!("\rparallel {parallel}: turn {turn} of {}, {name}        ", plan.turns);
            }
            floor.extend(fork_and_exec(&plan.busybox)?);
        }
        eprintln!();
        for ((index, step), values) in all {
            let endpoint = clients.get(index).map(|(name, _)| name.clone()).unwrap_or_default();
            append(
                results,
                &Sample::Latency {
                    endpoint,
                    parallel,
                    step,
                    values,
                },
            )?;
        }
    }
    append(results, &Sample::Floor { values: floor })
}

async fn one_turn(client: &mut Client, parallel: usize, serial: &mut u64) -> Result<Times, BenchError> {
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        times.push((Step::RoundTrip, client.round_trip().await?));
    }
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..parallel {
        let (client, first) = (client.clone(), *serial);
        *serial += PODS_PER_TURN as u64;
        workers.spawn(worker(client, first));
    }
    while let Some(done) = workers.join_next().await {
        times.extend(done.map_err(|source| BenchError::Worker { source })??);
    }
    Ok(times)
}

async fn worker(mut client: Client, first: u64) -> Result<Times, BenchError> {
    let mut times = Vec::new();
    for serial in first..first + PODS_PER_TURN as u64 {
        let (running, up) = client.start(serial).await?;
        times.extend([
            (Step::Run, up.run),
            (Step::Create, up.create),
            (Step::Start, up.start),
            (Step::Sum, up.run + up.create + up.start),
        ]);
        for _ in 0..EXECS_PER_POD {
            times.push((Step::Exec, client.exec(&running).await?));
        }
        let down = client.end(running).await?;
        times.extend([
            (Step::StopContainer, down.stop_container),
            (Step::StopPod, down.stop_pod),
            (Step::Remove, down.remove),
        ]);
    }
    Ok(times)
}

/// The same program as the pods' exec runs, started here, its output read to the end: no runtime can be below it.
fn fork_and_exec(busybox: &Path) -> Result<Vec<f64>, BenchError> {
    (0..ROUND_TRIPS)
        .map(|_| {
            let begin = Instant::now();
            Command::new(busybox)
                .arg("true")
                .stdin(Stdio::null())
                .output()
                .map_err(|source| BenchError::Floor {
                    path: busybox.to_owned(),
                    source,
                })?;
            Ok(milliseconds(begin.elapsed()))
        })
        .collect()
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
