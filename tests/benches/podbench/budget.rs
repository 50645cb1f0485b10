//! Holds what was measured against the promises of `tests/benches/budget.toml`.
#![allow(clippy::print_stdout, reason = "the verdicts are what the command is for")]

use std::path::Path;

use serde::Deserialize;

use crate::error::BenchError;
use crate::pod::read_text;
use crate::report::{megabytes, per_container};
use crate::sample::{Sample, Step, Weight, floor, latencies, median};

#[derive(Debug, Deserialize)]
struct Budget {
    promise: Vec<Promise>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    /// What is promised, for people.
    name: String,
    /// How it is measured.
    measure: Measure,
    /// The most that it may be.
    at_most: f64,
    /// What it was when the promise was last looked at; not compared.
    #[serde(default, rename = "measured")]
    _measured: Option<f64>,
}

/// A number made from samples.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Measure {
    /// Median of one step, divided by the same of another runtime.
    Ratio {
        step: Step,
        of: String,
        against: String,
        parallel: usize,
    },
    /// Median of an exec, the round trip subtracted, divided by the median of fork and exec.
    ExecOverFloor { of: String },
    /// PSS per idle container, MB.
    PssPerContainer { of: String },
    /// Resident set of the daemon without pods, MB.
    DaemonIdle { of: String },
    /// Size of a recorded file, MB.
    Size { of: String },
}

/// Prints a verdict for each promise; fails if one is broken, or was not measured.
pub(crate) fn check(budget: &Path, samples: &[Sample]) -> Result<(), BenchError> {
    let text = read_text(budget.to_owned())?;
    let Budget { promise } = toml::from_str(&text).map_err(|source| BenchError::Budget {
        path: budget.to_owned(),
        source,
    })?;
    let mut broken = 0;
    for Promise {
        name,
        measure,
        at_most,
        _measured,
    } in &promise
    {
        let verdict = match value(measure, samples) {
            Some(value) if value <= *at_most => format!("kept    {value:.3} of at most {at_most}"),
            Some(value) => {
                broken += 1;
                format!("BROKEN  {value:.3}, at most {at_most}")
            }
            None => {
                broken += 1;
                "NOT MEASURED".to_owned()
            }
        };
        println!("{verdict}: {name}");
    }
    if broken > 0 {
        return Err(BenchError::Broken {
            broken,
            all: promise.len(),
        });
    }
    Ok(())
}

fn value(measure: &Measure, samples: &[Sample]) -> Option<f64> {
    let weight = |of: &str| {
        samples.iter().rev().find_map(|sample| match sample {
            Sample::Memory(weight) if weight.endpoint == of => Some(weight),
            Sample::Latency { .. } | Sample::Floor { .. } | Sample::Memory(_) | Sample::Size { .. } => None,
        })
    };
    let time = |of: &str, parallel, step| latencies(samples, of, parallel, step).and_then(median);
    match measure {
        Measure::Ratio {
            step,
            of,
            against,
            parallel,
        } => Some(time(of, *parallel, *step)? / time(against, *parallel, *step)?),
        Measure::ExecOverFloor { of } => {
            Some((time(of, 1, Step::Exec)? - time(of, 1, Step::RoundTrip)?) / median(floor(samples)?)?)
        }
        Measure::PssPerContainer { of } => {
            weight(of).map(|weight: &Weight| per_container(weight.pss_after, weight.pss_before, weight.pods))
        }
        Measure::DaemonIdle { of } => weight(of).map(|weight| megabytes(weight.daemon_before)),
        Measure::Size { of } => samples.iter().rev().find_map(|sample| match sample {
            Sample::Size { name, bytes } if name == of => Some(megabytes(bytes / 1024)),
            Sample::Latency { .. } | Sample::Floor { .. } | Sample::Memory(_) | Sample::Size { .. } => None,
        }),
    }
}
