//! The daemon's configuration: [`raw`] is what was written, [`resolve`] what it means on this host. A mistake stops the
//! start, and every mistake is told at once, each with file, line, key and what is allowed.

pub mod raw;
pub mod resolve;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::{image, network, runtime, telemetry};

/// Where the configuration is read from unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/copepod/config.toml";

/// What the daemon runs with; each room gets its own part.
#[derive(Debug, Clone)]
pub struct Config {
    /// Survives a reboot: database, images, writable layers.
    pub root: PathBuf,
    /// Dies with a reboot: sockets, pins, bundles, exit records.
    pub state: PathBuf,
    /// The CRI socket.
    pub socket: PathBuf,
    /// Logging.
    pub log: telemetry::log::Config,
    /// Pulls and layers.
    pub image: image::Config,
    /// Pod network.
    pub network: network::Config,
    /// Shims.
    pub runtime: runtime::Config,
}

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1; `None` for a value that was not written but defaulted.
    pub line: Option<usize>,
    /// Full key, e.g. `network.mode`; empty for bad syntax.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}; `copepod config default` prints one to start from", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is wrong.
    #[error("{}", Listing { path, mistakes })]
    Wrong {
        /// Which.
        path: PathBuf,
        /// All of them, in the file's order.
        mistakes: Vec<Mistake>,
    },
}

struct Listing<'a> {
    path: &'a Path,
    mistakes: &'a [Mistake],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "the configuration has {} mistake(s)", self.mistakes.len())?;
        for Mistake { line, key, problem } in self.mistakes {
            match line {
                Some(line) => write!(f, "\n  {path}:{line}: ")?,
                None => write!(f, "\n  {path}: ")?,
            }
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Reads the configuration at `path`; a missing file at the default place means all defaults.
///
/// # Errors
/// It cannot be read, or has mistakes: all of them.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => String::new(),
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    parse(&text).map_err(|mistakes| ConfigError::Wrong {
        path: path.to_owned(),
        mistakes,
    })
}

/// Understands `text`, all of it or none.
///
/// # Errors
/// Every mistake, in the file's order.
pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let (values, mut mistakes) = raw::read(text);
    let resolved = resolve::resolve(&values, &mut mistakes);
    mistakes.sort_by_key(|mistake| mistake.line);
    match resolved {
        Some(config) if mistakes.is_empty() => Ok(config),
        Some(_) | None => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
