//! The load generator of `hack/bench.sh`: runs kubelet-shaped pods through CRI sockets, alternating between the
//! runtimes it is given, and writes what it measured as lines of JSON. It starts no runtime and judges none; `report`
//! and `check` read what it wrote.

mod budget;
mod error;
mod latency;
mod memory;
mod pod;
mod report;
mod sample;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::error::BenchError;
use crate::pod::Endpoint;

#[derive(Debug, Parser)]
#[command(about = "Measures container runtimes through the CRI")]
struct Arguments {
    /// Lines of JSON: appended to by measurements, read by report and check.
    #[arg(long)]
    results: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times every step of a pod's life, the runtimes taking turns.
    Latency {
        /// NAME=DIRECTORY of a held runtime (tests/support/hold-runtime.sh); the first is the peer.
        #[arg(long = "endpoint", required = true)]
        endpoints: Vec<Endpoint>,
        /// Turns per runtime; one more before them is not counted.
        #[arg(long, default_value_t = 10)]
        turns: usize,
        /// Pods at once; may be given several times.
        #[arg(long = "parallel", default_values_t = [1, 4])]
        parallel: Vec<usize>,
        /// The program that the pods' exec runs, on this machine: the floor of an exec.
        #[arg(long)]
        busybox: PathBuf,
    },
    /// Measures what a runtime's processes weigh with many idle containers.
    Memory {
        /// NAME=DIRECTORY of a held runtime.
        #[arg(long)]
        endpoint: Endpoint,
        /// Pods with one container each.
        #[arg(long, default_value_t = 100)]
        pods: usize,
        /// Seconds between the last pod's start and the measurement.
        #[arg(long, default_value_t = 60)]
        idle: u64,
    },
    /// Records the size of a file.
    Size {
        /// What it is.
        name: String,
        /// Where it is.
        file: PathBuf,
    },
    /// Prints the tables.
    Report,
    /// Holds the results against a budget; fails when a promise is broken.
    Check {
        /// tests/benches/budget.toml
        #[arg(long)]
        budget: PathBuf,
    },
}

fn main() -> std::process::ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podbench: {}", error::chain(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), BenchError> {
    let Arguments { results, command } = arguments;
    match command {
        Command::Latency {
            endpoints,
            turns,
            parallel,
            busybox,
        } => block_on(latency::measure(
            &results,
            &latency::Plan {
                endpoints,
                turns,
                parallel,
                busybox,
            },
        )),
        Command::Memory { endpoint, pods, idle } => block_on(memory::measure(
            &results,
            &memory::Plan {
                endpoint,
                pods,
                idle: std::time::Duration::from_secs(idle),
            },
        )),
        Command::Size { name, file } => sample::size(&results, name, &file),
        Command::Report => report::print(&sample::read(&results)?),
        Command::Check { budget } => budget::check(&budget, &sample::read(&results)?),
    }
}

fn block_on(work: impl Future<Output = Result<(), BenchError>>) -> Result<(), BenchError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BenchError::Threads { source })?
        .block_on(work)
}
