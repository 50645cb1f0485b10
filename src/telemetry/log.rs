//! The daemon's own log: text or JSON on standard error, with one filter for our code and for crates that use `log`.
//! Field names of the house: `pod`, `container`, `image`, `op`, `kind`, `error`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// A level or a filter in tracing-subscriber's syntax.
    pub filter: String,
    /// How lines look.
    pub format: Format,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("understand the log filter {filter:?}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set it up before.
    #[error("install the logger")]
    Install(#[source] TryInitError),
}

/// Whether `filter` can be understood.
///
/// # Errors
/// Why not, in words.
pub fn check_filter(filter: &str) -> Result<(), String> {
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    if filter.is_empty() {
        return Err("it is empty".to_owned());
    }
    // A lone word is otherwise taken for the name of a module, and a misspelt level would silence everything.
    if filter.bytes().all(|b| b.is_ascii_alphanumeric()) && !levels.contains(&filter.to_ascii_lowercase().as_str()) {
        return Err("no such level".to_owned());
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Installs the process's logger; messages of the `log` crate (ttrpc, cgroups-rs) come along.
///
/// # Errors
/// The filter is malformed or a logger is installed already.
pub fn install(config: &Config) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = EnvFilter::try_new(&config.filter).map_err(|source| LogError::Filter {
        filter: config.filter.clone(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // `try_init` also installs the bridge from `log`.
    match config.format {
        Format::Text => builder.with_ansi(false).finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LogError::Install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        assert!(check_filter("inof").is_err());
        assert!(check_filter("").is_err());
        assert!(check_filter("debug").is_ok());
        assert!(check_filter("info,copepod::image=debug").is_ok());
    }
}
