//! The command line: what was typed, as values. Runs nothing.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config;

/// A Kubernetes container runtime.
#[derive(Debug, Parser)]
#[command(
    name = "copepod",
    version,
    about = "A Kubernetes container runtime",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the CRI until SIGTERM; containers outlive the daemon
    Serve {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Look at the configuration
    Config {
        /// What about it
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the default configuration with comments
    Default,
    /// Check a configuration file and say every mistake
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
        config: PathBuf,
    },
}
