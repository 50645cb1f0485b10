//! Ids of requests. What could not be an id of anything is merely unknown (clients send uuids and expect "not
//! found"); what could confuse a log, a path or a person is refused before anybody looks.

use super::{invalid, quoted};
use crate::domain::error::Failure;

/// Ids are 64 characters; half of that more is room for a prefix such as `sha256:`.
const MAX: usize = 96;

/// An id or prefix that must be there.
///
/// # Errors
/// It is empty, longer than any id, or holds what no id holds.
pub(in crate::cri) fn required(field: &str, text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(invalid(field, "is empty", "give an id or an unambiguous prefix of one"));
    }
    if text.len() > MAX {
        return Err(invalid(
            field,
            format!("is {} bytes long", text.len()),
            "an id has 64 characters",
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if !text.bytes().all(plain) || text.starts_with('.') {
        let problem = format!("is {}, which no id looks like", quoted(&text));
        return Err(invalid(field, problem, "ids are made of hexadecimal digits"));
    }
    Ok(text)
}

/// An id of a filter: empty lets everything pass.
///
/// # Errors
/// As [`required`], but for emptiness.
pub(in crate::cri) fn optional(field: &str, text: String) -> Result<Option<String>, Failure> {
    if text.is_empty() {
        Ok(None)
    } else {
        required(field, text).map(Some)
    }
}
