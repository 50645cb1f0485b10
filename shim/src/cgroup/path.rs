//! `linux.cgroupsPath`, made safe to be joined to a hierarchy's root.

use std::path::{Path, PathBuf};

use super::error::CgroupError;

/// Longest name that a directory of cgroupfs can have, in bytes (NAME_MAX).
const MAX_NAME: usize = 255;

/// A path below a hierarchy's root, without `.`, `..`, empty or over-long names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupPath(PathBuf);

impl CgroupPath {
    /// Takes the cgroupfs form: absolute, names separated by `/` (several in a row are one).
    ///
    /// # Errors
    /// systemd's form, a relative path, the root, names that climb, control characters.
    pub(crate) fn parse(path: &str) -> Result<Self, CgroupError> {
        let owned = || path.to_owned();
        if path.chars().any(char::is_control) {
            return Err(CgroupError::PathCharacter { path: owned() });
        }
        let Some(names) = path.strip_prefix('/') else {
            // slice:prefix:name is never absolute, and a cgroupfs path may have colons in it.
            let systemd = path.split(':').count() == 3;
            let error = if systemd {
                CgroupError::PathOfSystemd { path: owned() }
            } else {
                CgroupError::PathNotAbsolute { path: owned() }
            };
            return Err(error);
        };
        let mut clean = PathBuf::new();
        for name in names.split('/').filter(|name| !name.is_empty()) {
            if name == "." || name == ".." {
                return Err(CgroupError::PathClimbs { path: owned() });
            }
            if name.len() > MAX_NAME {
                return Err(CgroupError::PathTooLong {
                    length: name.len(),
                    allowed: MAX_NAME,
                });
            }
            clean.push(name);
        }
        if clean.as_os_str().is_empty() {
            return Err(CgroupError::PathIsRoot { path: owned() });
        }
        Ok(Self(clean))
    }

    /// The cgroup's directory in the hierarchy mounted at `root`.
    pub(crate) fn below(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{CgroupError, CgroupPath};

    #[test]
    fn names_below_the_root_are_taken() {
        for (path, below) in [
            ("/a", "/r/a"),
            ("/kubepods/pod1/id", "/r/kubepods/pod1/id"),
            ("//a//b:c:d/", "/r/a/b:c:d"),
            ("/x..y/.z", "/r/x..y/.z"),
        ] {
            assert_eq!(
                CgroupPath::parse(path).unwrap().below(Path::new("/r")),
                Path::new(below)
            );
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_reason() {
        type Reason = fn(&CgroupError) -> bool;
        let long = format!("/{}", "x".repeat(256));
        let table: &[(&str, Reason)] = &[
            ("", |e| matches!(e, CgroupError::PathNotAbsolute { .. })),
            ("a/b", |e| matches!(e, CgroupError::PathNotAbsolute { .. })),
            ("/", |e| matches!(e, CgroupError::PathIsRoot { .. })),
            ("//", |e| matches!(e, CgroupError::PathIsRoot { .. })),
            ("/..", |e| matches!(e, CgroupError::PathClimbs { .. })),
            ("/a/../../b", |e| matches!(e, CgroupError::PathClimbs { .. })),
            ("/a/./b", |e| matches!(e, CgroupError::PathClimbs { .. })),
            ("/a\nb", |e| matches!(e, CgroupError::PathCharacter { .. })),
            ("/a\0b", |e| matches!(e, CgroupError::PathCharacter { .. })),
            ("system.slice:cri:abc", |e| {
                matches!(e, CgroupError::PathOfSystemd { .. })
            }),
            (&long, |e| matches!(e, CgroupError::PathTooLong { .. })),
        ];
        for (path, reason) in table {
            let error = CgroupPath::parse(path).unwrap_err();
            assert!(reason(&error), "{path:?}: {error}");
        }
    }
}
