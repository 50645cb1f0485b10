//! The `copepod` command: parses, dispatches, and turns an error into one message and an exit status.

use std::error::Error as StdError;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use copepod::base::error::chain;
use copepod::cli::{Cli, Command, ConfigCommand};
use copepod::{app, config};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve { config } => serve(&config),
        Command::Config {
            command: ConfigCommand::Default,
        } => print(&config::raw::default_file()),
        Command::Config {
            command: ConfigCommand::Check { config },
        } => check(&config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("copepod: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn StdError>>;

fn serve(path: &Path) -> Outcome {
    // First, while there is nothing to lose: the same process begins again.
    if let Err(error) = app::allocator::settle() {
        eprintln!("copepod: the allocator keeps its defaults: {error}");
    }
    let config = config::load(path)?;
    app::run(config)?;
    Ok(())
}

fn check(path: &Path) -> Outcome {
    config::load(path)?;
    print(&format!("{} is fine\n", path.display()))
}

fn print(text: &str) -> Outcome {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
