//! What was measured, as it is kept between the measuring and the reading: one line of JSON each.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Sample {
    /// Durations of one step through one runtime.
    Latency {
        endpoint: String,
        parallel: usize,
        step: Step,
        /// Milliseconds, in the order they were taken.
        values: Vec<f64>,
    },
    /// Durations of fork, exec and wait on this machine, without any runtime.
    Floor {
        /// Milliseconds.
        values: Vec<f64>,
    },
    /// What idle containers weigh.
    Memory(Weight),
    /// The size of a file.
    Size { name: String, bytes: u64 },
}

/// What a runtime and its idle containers weigh; the containers' own processes do not count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Weight {
    pub(crate) endpoint: String,
    pub(crate) pods: usize,
    /// PSS of all processes of the runtime without pods, KiB.
    pub(crate) pss_before: u64,
    /// The same with the pods, KiB.
    pub(crate) pss_after: u64,
    /// Resident set of the daemon alone without pods, KiB.
    pub(crate) daemon_before: u64,
    /// The same with the pods, KiB.
    pub(crate) daemon_after: u64,
    /// The machine's `MemAvailable` without pods, KiB.
    pub(crate) available_before: u64,
    /// The same with the pods, KiB.
    pub(crate) available_after: u64,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    Run,
    Create,
    Start,
    /// Run, create and start of one pod together.
    Sum,
    Exec,
    StopContainer,
    StopPod,
    Remove,
    /// A call that does nothing.
    RoundTrip,
}

impl Step {
    pub(crate) const ALL: [Self; 9] = [
        Self::Run,
        Self::Create,
        Self::Start,
        Self::Sum,
        Self::Exec,
        Self::StopContainer,
        Self::StopPod,
        Self::Remove,
        Self::RoundTrip,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Run => "RunPodSandbox",
            Self::Create => "CreateContainer",
            Self::Start => "StartContainer",
            Self::Sum => "run + create + start",
            Self::Exec => "ExecSync true",
            Self::StopContainer => "StopContainer (0 s)",
            Self::StopPod => "StopPodSandbox",
            Self::Remove => "RemovePodSandbox",
            Self::RoundTrip => "Version (round trip)",
        }
    }
}

/// Appends one measurement.
pub(crate) fn append(results: &Path, sample: &Sample) -> Result<(), BenchError> {
    let written = |source| BenchError::Write {
        path: results.to_owned(),
        source,
    };
    let mut line = serde_json::to_string(sample).map_err(|source| BenchError::Line {
        path: results.to_owned(),
        source,
    })?;
    line.push('\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(results)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(written)
}

/// All measurements of a results file.
pub(crate) fn read(results: &Path) -> Result<Vec<Sample>, BenchError> {
    crate::pod::read_text(results.to_owned())?
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|source| BenchError::Line {
                path: results.to_owned(),
                source,
            })
        })
        .collect()
}

/// Records the size of `file`.
pub(crate) fn size(results: &Path, name: String, file: &Path) -> Result<(), BenchError> {
    let bytes = std::fs::metadata(file)
        .map_err(|source| BenchError::Read {
            path: file.to_owned(),
            source,
        })?
        .len();
    append(results, &Sample::Size { name, bytes })
}

/// The value that `share` (0 to 1) of the values are not above; `None` without values.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index below the length"
    )]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied()
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The durations of one step, if they were measured.
pub(crate) fn latencies<'a>(samples: &'a [Sample], of: &str, at_once: usize, what: Step) -> Option<&'a [f64]> {
    samples.iter().rev().find_map(|sample| match sample {
        Sample::Latency {
            endpoint,
            parallel,
            step,
            values,
        } if endpoint == of && *parallel == at_once && *step == what => Some(values.as_slice()),
        Sample::Latency { .. } | Sample::Floor { .. } | Sample::Memory(_) | Sample::Size { .. } => None,
    })
}

/// The durations of fork, exec and wait.
pub(crate) fn floor(samples: &[Sample]) -> Option<&[f64]> {
    samples.iter().rev().find_map(|sample| match sample {
        Sample::Floor { values } => Some(values.as_slice()),
        Sample::Latency { .. } | Sample::Memory(_) | Sample::Size { .. } => None,
    })
}
