//! Prints what was measured, as tables for people.
#![allow(clippy::print_stdout, reason = "the tables are what the command is for")]

use crate::error::BenchError;
use crate::sample::{Sample, Step, Weight, floor, latencies, median, quantile};

const FIRST_COLUMN: usize = 22;
const COLUMN: usize = 28;

/// Prints every table that the samples allow; the ratios are against the first runtime measured.
#[allow(clippy::unnecessary_wraps, reason = "one signature for all commands")]
pub(crate) fn print(samples: &[Sample]) -> Result<(), BenchError> {
    let mut runs: Vec<usize> = Vec::new();
    let mut endpoints: Vec<&str> = Vec::new();
    for sample in samples {
        if let Sample::Latency { endpoint, parallel, .. } = sample {
            if !runs.contains(parallel) {
                runs.push(*parallel);
            }
            if !endpoints.contains(&endpoint.as_str()) {
                endpoints.push(endpoint);
            }
        }
    }
    for parallel in runs {
        latency_table(samples, &endpoints, parallel);
    }
    if let Some(values) = floor(samples) {
        println!("\nfork + exec + wait of the same program, no runtime: {}", cell(values));
    }
    weights(samples);
    for sample in samples {
        if let Sample::Size { name, bytes } = sample {
            println!("{name}: {} KiB", bytes / 1024);
        }
    }
    Ok(())
}

fn latency_table(samples: &[Sample], endpoints: &[&str], parallel: usize) {
    println!("\nparallel {parallel}; milliseconds, median (p90), and the median's ratio to the first column's");
    print!("{:FIRST_COLUMN$}", "");
    for endpoint in endpoints {
        print!("{endpoint:>COLUMN$}");
    }
    println!();
    for step in Step::ALL {
        print!("{:FIRST_COLUMN$}", step.title());
        let base = endpoints
            .first()
            .and_then(|first| latencies(samples, first, parallel, step))
            .and_then(median);
        for (index, endpoint) in endpoints.iter().enumerate() {
            let values = latencies(samples, endpoint, parallel, step).unwrap_or_default();
            let ratio = match (base, median(values)) {
                (Some(base), Some(own)) if index > 0 && base > 0.0 => format!("  {:.3}", own / base),
                _ => String::new(),
            };
            print!("{:>COLUMN$}", format!("{}{ratio}", cell(values)));
        }
        println!();
    }
}

fn cell(values: &[f64]) -> String {
    match (median(values), quantile(values, 0.9)) {
        (Some(middle), Some(high)) => format!("{middle:.2} ({high:.2})"),
        _ => "-".to_owned(),
    }
}

fn weights(samples: &[Sample]) {
    let weights: Vec<&Weight> = samples
        .iter()
        .filter_map(|sample| match sample {
            Sample::Memory(weight) => Some(weight),
            Sample::Latency { .. } | Sample::Floor { .. } | Sample::Size { .. } => None,
        })
        .collect();
    if weights.is_empty() {
        return;
    }
    println!("\nmemory, MB (10^6 bytes): per idle container, and the daemon");
    println!(
        "{:24}{:>8}{:>18}{:>24}{:>16}{:>16}",
        "", "pods", "PSS / container", "MemAvailable / cont.", "daemon, no pod", "daemon, pods"
    );
    for weight in weights {
        println!(
            "{:24}{:>8}{:>18.3}{:>24.3}{:>16.1}{:>16.1}",
            weight.endpoint,
            weight.pods,
            per_container(weight.pss_after, weight.pss_before, weight.pods),
            per_container(weight.available_before, weight.available_after, weight.pods),
            megabytes(weight.daemon_before),
            megabytes(weight.daemon_after),
        );
    }
    println!();
}

/// Growth from `less` to `more` KiB, per pod, in MB; negative when it shrank.
#[allow(
    clippy::cast_precision_loss,
    reason = "a machine's memory in KiB fits a double's 53 bits"
)]
pub(crate) fn per_container(more: u64, less: u64, pods: usize) -> f64 {
    (megabytes(more) - megabytes(less)) / pods as f64
}

/// KiB as MB.
#[allow(
    clippy::cast_precision_loss,
    reason = "a machine's memory in KiB fits a double's 53 bits"
)]
pub(crate) fn megabytes(kibibytes: u64) -> f64 {
    kibibytes as f64 * 1024.0 / 1e6
}
