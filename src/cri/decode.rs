//! From wire messages to domain values: the only door, and everything that comes through it has been looked at.
//!
//! Each message is taken apart whole, so that a field which a newer protocol adds stops the build until somebody has
//! decided about it. A refusal names the field, what is wrong with it and what would be right (contract §2.1).

pub(super) mod container;
pub(super) mod device;
pub(super) mod exec;
pub(super) mod filter;
pub(super) mod id;
pub(super) mod identity;
pub(super) mod image;
pub(super) mod mount;
pub(super) mod namespace;
pub(super) mod network;
pub(super) mod path;
pub(super) mod pod;
pub(super) mod profile;
pub(super) mod resources;
pub(super) mod security;
pub(super) mod sysctl;
#[cfg(test)]
mod tests;
pub(super) mod text;

use crate::domain::error::{Failure, Kind};

/// Longest piece of a request that a message repeats, in characters: requests may hold hostile megabytes.
const QUOTED: usize = 64;

/// The request cannot be taken: `field` is `problem`, so `remedy`.
pub(super) fn invalid(field: &str, problem: impl AsRef<str>, remedy: &str) -> Failure {
    Failure::new(Kind::InvalidArgument, format!("{field} {}; {remedy}", problem.as_ref()))
}

/// The request is sound, but what it asks for is not built.
pub(super) fn unsupported(field: &str, what: &str, remedy: &str) -> Failure {
    Failure::new(
        Kind::Unimplemented,
        format!("{field}: {what} not supported yet; {remedy}"),
    )
}

/// A sub-message without which the request means nothing.
pub(super) fn required<T>(field: &str, message: Option<T>) -> Result<T, Failure> {
    message.ok_or_else(|| invalid(field, "is missing", "set it"))
}

/// Every entry of a list of at most `most`, its number named in what is refused.
pub(super) fn each<M, T>(
    field: &str,
    messages: Vec<M>,
    most: usize,
    one: impl Fn(&str, M) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    if messages.len() > most {
        return Err(invalid(
            field,
            format!("has {} entries", messages.len()),
            &format!("{most} are allowed"),
        ));
    }
    let numbered = messages.into_iter().enumerate();
    numbered
        .map(|(number, message)| one(&format!("{field}[{number}]"), message))
        .collect()
}

/// A piece of a request as a message may repeat it: quoted, escaped, shortened.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
