//! Errors as text.

use std::error::Error;

/// An error and its causes on one line, as `doing: why: …`. Messages never repeat their cause, so nothing is told twice.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
