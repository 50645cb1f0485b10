//! Paths of requests. None may climb: a path with a `..` component is refused, not tidied, since whoever wrote it
//! meant another place than a string comparison would find.

use std::path::{Component, Path, PathBuf};

use super::{invalid, quoted};
use crate::domain::error::Failure;

/// PATH_MAX of Linux, with its NUL byte.
const MAX: usize = 4096;

/// NAME_MAX of Linux.
const MAX_COMPONENT: usize = 255;

/// An absolute path, returned as it was given.
///
/// # Errors
/// It is empty, relative, too long, climbs, or has a control character.
pub(super) fn absolute(field: &str, text: String) -> Result<String, Failure> {
    if !text.starts_with('/') {
        return Err(invalid(field, format!("is {}", quoted(&text)), "give an absolute path"));
    }
    checked(field, text)
}

/// A path below some directory, returned as it was given.
///
/// # Errors
/// It is empty, absolute, too long, climbs, or has a control character.
pub(super) fn relative(field: &str, text: String) -> Result<PathBuf, Failure> {
    if text.is_empty() || text.starts_with('/') {
        return Err(invalid(field, format!("is {}", quoted(&text)), "give a relative path"));
    }
    checked(field, text).map(PathBuf::from)
}

/// Paths to hide or protect, taken literally.
///
/// # Errors
/// There are too many, or one is no absolute path.
pub(super) fn list(field: &str, paths: Vec<String>) -> Result<Vec<PathBuf>, Failure> {
    const MOST: usize = 1024;
    if paths.len() > MOST {
        return Err(invalid(
            field,
            format!("has {} entries", paths.len()),
            "1024 are allowed",
        ));
    }
    paths
        .into_iter()
        .map(|path| absolute(field, path).map(PathBuf::from))
        .collect()
}

/// The parent of the containers' cgroups: cgroupfs syntax, also of a systemd slice. Empty is the root.
///
/// # Errors
/// It is relative, climbs, or has a control character or another that systemd would read as syntax.
pub(super) fn cgroup(field: &str, text: String) -> Result<String, Failure> {
    if text.is_empty() {
        return Ok(text);
    }
    let text = absolute(field, text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ':' | '@' | '\\' | '+');
    if !text.chars().all(plain) {
        let remedy = "use letters, digits and any of / - _ . : @ + \\";
        return Err(invalid(field, format!("is {}", quoted(&text)), remedy));
    }
    let names = Path::new(&text).components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    });
    // One spelling for one cgroup; nothing left of it is the root.
    Ok(names.fold(String::new(), |path, name| path + "/" + name))
}

fn checked(field: &str, text: String) -> Result<String, Failure> {
    if text.len() >= MAX {
        return Err(invalid(
            field,
            format!("is {} bytes long", text.len()),
            "a path has at most 4095",
        ));
    }
    if text.chars().any(char::is_control) {
        let problem = format!("is {}, with a control character", quoted(&text));
        return Err(invalid(field, problem, "use printable characters"));
    }
    if Path::new(&text)
        .components()
        .any(|component| component == Component::ParentDir)
    {
        return Err(invalid(
            field,
            format!("is {}, which climbs", quoted(&text)),
            "leave '..' out",
        ));
    }
    if text.split('/').any(|name| name.len() > MAX_COMPONENT) {
        return Err(invalid(
            field,
            format!("is {}", quoted(&text)),
            "a file name has at most 255 bytes",
        ));
    }
    Ok(text)
}
