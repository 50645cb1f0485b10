//! One small process per container.

mod cgroup;
mod child;
mod init;
mod oom;
mod pause;
mod pin;
mod plan;
mod seccomp;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().next_back() {
        Some(verb) if verb == "pin" => pin::run(),
        Some(verb) if verb == "pause" => pause::run(),
        _ => ExitCode::FAILURE,
    }
}
