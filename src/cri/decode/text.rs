//! Names, labels, environments: text of a request, bounded and free of what could act somewhere else.

use std::collections::BTreeMap;

use super::{invalid, quoted};
use crate::domain::error::Failure;

/// Longest name (RFC 1123 subdomains, which Kubernetes' names are).
const MAX_NAME: usize = 253;

/// Most labels, or annotations, of an object.
const MAX_LABELS: usize = 4096;

/// Most bytes of an object's labels, or annotations: Kubernetes allows 256 KiB.
const MAX_LABEL_BYTES: usize = 1 << 20;

/// Most entries of a list that a process gets; a namespace with thousands of services has tens of thousands.
const MAX_WORDS: usize = 1 << 17;

/// Most bytes of it: what execve(2) takes of arguments and environment with the usual stack limit.
const MAX_WORD_BYTES: usize = 2 << 20;

/// A name that may become part of a file name, of CNI arguments and of a log line.
///
/// # Errors
/// It is empty, too long, or holds more than letters, digits, `-`, `_` and `.` (CVE-2025-0750).
pub(super) fn name(field: &str, text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Err(invalid(field, "is empty", "set it"));
    }
    if text.len() > MAX_NAME {
        return Err(invalid(
            field,
            format!("is {} bytes long", text.len()),
            "253 are allowed",
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.bytes().all(plain) || text.starts_with('.') {
        let remedy = "use letters, digits, '-', '_' and '.', and do not begin with '.'";
        return Err(invalid(field, format!("is {}", quoted(&text)), remedy));
    }
    Ok(text)
}

/// Labels or annotations: stored and returned byte for byte, so only bounded.
///
/// # Errors
/// There are too many, or a key is empty.
pub(super) fn labels(field: &str, map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    if map.len() > MAX_LABELS {
        return Err(invalid(field, format!("has {} entries", map.len()), "4096 are allowed"));
    }
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_LABEL_BYTES {
        return Err(invalid(field, format!("is {bytes} bytes"), "1 MiB is allowed"));
    }
    if map.contains_key("") {
        return Err(invalid(field, "has an entry without a key", "name it or leave it out"));
    }
    Ok(map)
}

/// Words that become arguments of a program.
///
/// # Errors
/// There are too many, or one has a NUL byte, which would end it early.
pub(super) fn words(field: &str, words: Vec<String>) -> Result<Vec<String>, Failure> {
    bounded(field, words.len(), words.iter().map(String::len).sum())?;
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(invalid(
            field,
            format!("has a NUL byte in {}", quoted(word)),
            "arguments end at one",
        )),
        None => Ok(words),
    }
}

/// An environment, in order; values may be any bytes but NUL.
///
/// # Errors
/// A name is empty or has a `=` or NUL byte, a value has a NUL byte, or `HOME` a control character (CVE-2022-4318,
/// CVE-2026-15809: it ends up in line-based files).
pub(super) fn environment(field: &str, envs: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    bounded(
        field,
        envs.len(),
        envs.iter().map(|(key, value)| key.len() + value.len()).sum(),
    )?;
    for (key, value) in &envs {
        if key.is_empty() || key.contains(['=', '\0']) {
            let remedy = "a name is not empty and has neither '=' nor a NUL byte";
            return Err(invalid(field, format!("names a variable {}", quoted(key)), remedy));
        }
        if value.contains(&0) {
            return Err(invalid(
                field,
                format!("has a NUL byte in {}", quoted(key)),
                "values end at one",
            ));
        }
        if key == "HOME" && value.iter().any(u8::is_ascii_control) {
            return Err(invalid(field, "has a control character in HOME", "give a plain path"));
        }
    }
    Ok(envs)
}

/// One line of printable text; may be empty.
///
/// # Errors
/// It is too long or has a control character.
pub(super) fn line(field: &str, text: String, max: usize) -> Result<String, Failure> {
    if text.len() > max {
        return Err(invalid(
            field,
            format!("is {} bytes long", text.len()),
            &format!("{max} are allowed"),
        ));
    }
    if text.chars().any(char::is_control) {
        let problem = format!("is {}, with a control character", quoted(&text));
        return Err(invalid(field, problem, "use printable characters"));
    }
    Ok(text)
}

fn bounded(field: &str, count: usize, bytes: usize) -> Result<(), Failure> {
    if count > MAX_WORDS || bytes > MAX_WORD_BYTES {
        let problem = format!("has {count} entries of {bytes} bytes");
        return Err(invalid(field, problem, "131072 entries and 2 MiB are allowed"));
    }
    Ok(())
}
