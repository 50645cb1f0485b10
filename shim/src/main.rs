//! `containerd-shim-copepod-v1`: one small process per container. It builds the container, keeps its streams and log,
//! records its exit, and serves containerd's task API and copepod's own shim service until it is told to end.
//!
//! The verb is picked here, before anything else runs; whatever the verb, the process has one thread for life.

mod cgroup;
mod child;
mod delete;
mod init;
mod io;
mod oom;
mod ops;
mod pause;
mod pin;
mod plan;
mod reap;
mod seccomp;
mod serve;
mod start;
mod sys;
mod task;
mod ttrpc;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::io::note::{chain, note};

const USAGE: &str = "usage: containerd-shim-copepod-v1 serve --bundle DIR --id ID [--namespace NS]
       containerd-shim-copepod-v1 pin | pause | --version
       containerd-shim-copepod-v1 -namespace NS -id ID [-bundle DIR] start | delete   (as containerd calls it)";

/// What the process is to do.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Serve,
    Start,
    Delete,
    Pin,
    Pause,
    Version,
}

/// Flags of `serve`, `start` and `delete`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The bundle directory; empty is the working directory.
    pub(crate) bundle: PathBuf,
    /// The container's id.
    pub(crate) id: String,
    /// containerd's namespace; only shown.
    pub(crate) namespace: String,
}

/// Why the command line makes no sense.
#[derive(Debug, thiserror::Error)]
enum ArgumentError {
    #[error("unknown argument {0:?}\n{USAGE}")]
    Unknown(OsString),
    #[error("{0} needs a value\n{USAGE}")]
    NoValue(String),
    #[error("the value of {0} is not UTF-8")]
    NotUtf8(String),
    #[error("no verb given\n{USAGE}")]
    NoVerb,
    #[error("no --id given\n{USAGE}")]
    NoId,
}

fn main() -> ExitCode {
    let (verb, arguments) = match parse(std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            note(error);
            return ExitCode::from(2);
        }
    };
    let outcome: Result<(), Box<dyn std::error::Error>> = match verb {
        Verb::Serve => serve::serve(&arguments).map_err(Into::into),
        Verb::Start => start::start(&arguments).map_err(Into::into),
        Verb::Delete => delete::delete(&arguments).map_err(Into::into),
        Verb::Pin => return pin::run(),
        Verb::Pause => return pause::run(),
        Verb::Version => version().map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn version() -> Result<(), rustix::io::Errno> {
    let text = concat!("containerd-shim-copepod-v1 ", env!("CARGO_PKG_VERSION"), "\n");
    rustix::io::write(rustix::stdio::stdout(), text.as_bytes()).map(drop)
}

/// Reads our own flags (`--id`) and containerd's (`-id`); the verb may stand anywhere between them.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<(Verb, Arguments), ArgumentError> {
    let (mut verb, mut parsed) = (None, Arguments::default());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let Some(text) = argument.to_str() else {
            return Err(ArgumentError::Unknown(argument));
        };
        let mut value = |flag: &str| arguments.next().ok_or_else(|| ArgumentError::NoValue(flag.to_owned()));
        let utf8 = |flag: &str, value: OsString| value.into_string().map_err(|_| ArgumentError::NotUtf8(flag.into()));
        match text {
            "serve" => verb = Some(Verb::Serve),
            "start" => verb = Some(Verb::Start),
            "delete" => verb = Some(Verb::Delete),
            "pin" => verb = Some(Verb::Pin),
            "pause" => verb = Some(Verb::Pause),
            "--version" | "-version" | "-v" => verb = Some(Verb::Version),
            "--bundle" | "-bundle" => parsed.bundle = value(text)?.into(),
            "--id" | "-id" => parsed.id = utf8(text, value(text)?)?,
            "--namespace" | "-namespace" => parsed.namespace = utf8(text, value(text)?)?,
            // Where containerd listens for events, which this shim does not publish.
            "-address" | "-publish-binary" => drop(value(text)?),
            "-debug" => {}
            _unknown => return Err(ArgumentError::Unknown(argument)),
        }
    }
    let verb = verb.ok_or(ArgumentError::NoVerb)?;
    if parsed.id.is_empty() && matches!(verb, Verb::Serve | Verb::Start | Verb::Delete) {
        return Err(ArgumentError::NoId);
    }
    Ok((verb, parsed))
}

#[cfg(test)]
mod tests {
    use super::{ArgumentError, Arguments, Verb, parse};

    fn read(line: &str) -> Result<(Verb, Arguments), ArgumentError> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn reads_our_flags_and_containerds() {
        let (verb, arguments) = read("serve --bundle /run/x --id abc --namespace k8s.io").unwrap();
        assert_eq!(verb, Verb::Serve);
        assert_eq!(
            arguments,
            Arguments {
                bundle: "/run/x".into(),
                id: "abc".into(),
                namespace: "k8s.io".into()
            }
        );
        let (verb, arguments) =
            read("-namespace k8s.io -address /run/a.sock -publish-binary /usr/bin/containerd -id abc -debug start")
                .unwrap();
        assert_eq!(
            (verb, arguments.id.as_str(), arguments.bundle.as_os_str()),
            (Verb::Start, "abc", "".as_ref())
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for line in ["", "serve", "serve --id", "run --id a", "serve --id a --fast"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
