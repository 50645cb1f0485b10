//! Whose directories `root` and `state` are. A daemon sweeps what lies below them and no record knows, so it must never
//! take a directory for its own that belongs to another daemon, or to no daemon at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::fs::{FsError, write_atomic};
use crate::base::lock::{self, LockError};

/// Name of the record in `state`.
const FILE: &str = "owner";

/// What may lie in a `root` before its database does: a start that was cut short, and what mkfs leaves.
const EMPTY_ROOT: &[&str] = &[lock::FILE, "copepod.new", "lost+found"];

/// The same for `state` before it has its record; the socket may be there because clients wait for it.
const EMPTY_STATE: &[&str] = &[lock::FILE, "owner.new", "lost+found"];

/// Directories of the system, which must not become ours even when they are empty (hier(7)).
const SYSTEM: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root",
    "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/tmp",
];

/// A directory cannot be ours.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is one of the system's.
    #[error("`{key}` = {} is a directory of the system: name one below it that is for copepod alone", dir.display())]
    System {
        /// The configuration key.
        key: &'static str,
        /// The directory.
        dir: PathBuf,
    },
    /// Something lies in it that no copepod made.
    #[error(
        "`{key}` = {} is not empty and no copepod made it (it has {found:?}): name another directory, or empty this one",
        dir.display()
    )]
    Foreign {
        /// The configuration key.
        key: &'static str,
        /// The directory.
        dir: PathBuf,
        /// Something that is in it.
        found: String,
    },
    /// A daemon with another `root` runs on it.
    #[error("`state` = {} is in use by another copepod{}: stop it, or give this one another `state`", dir.display(), lock::holder(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who has it, when the lock file tells.
        pid: Option<u32>,
    },
    /// A daemon with another `root` has left containers in it, or may have.
    #[error(
        "`state` = {} belongs to the copepod with `root` = {}: give this one another `state`; or, if that root is gone for good, end the containers of that copepod and remove {}",
        dir.display(), root.display(), dir.join(FILE).display()
    )]
    OtherRoot {
        /// The directory.
        dir: PathBuf,
        /// The other daemon's root.
        root: PathBuf,
    },
    /// The record is none of ours.
    #[error("read {}: if it is not copepod's, name another `state`; if it is, remove it", path.display())]
    Unreadable {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The lock cannot be taken.
    #[error("lock `state`")]
    Lock(#[source] LockError),
    /// A file operation.
    #[error("find out whose the daemon's directories are")]
    Io(#[from] FsError),
}

/// The record.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    instance: String,
    /// Without links.
    root: PathBuf,
    boot_id: String,
}

/// `state`, locked for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Refuses directories that cannot be ours, before anything in them or of them is changed.
///
/// # Errors
/// Names the key, the directory and what is in it.
pub fn refuse_foreign(root: &Path, state: &Path) -> Result<(), OwnerError> {
    refuse("root", root, "copepod.redb", EMPTY_ROOT)?;
    refuse("state", state, FILE, EMPTY_STATE)
}

fn refuse(key: &'static str, dir: &Path, mark: &str, harmless: &[&str]) -> Result<(), OwnerError> {
    let real = match fs::canonicalize(dir) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FsError::io("examine", dir)(error).into()),
    };
    if SYSTEM.iter().any(|system| real == Path::new(system)) {
        return Err(OwnerError::System {
            key,
            dir: dir.to_owned(),
        });
    }
    if real.join(mark).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(&real).map_err(FsError::io("list", &real))?;
    let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    match names.find(|name| !harmless.contains(&name.as_str())) {
        None => Ok(()),
        Some(found) => Err(OwnerError::Foreign {
            key,
            dir: dir.to_owned(),
            found,
        }),
    }
}

/// Locks `state` and writes into it whose it is. A record of an earlier boot is replaced, whoever wrote it: nothing that
/// it stands for can be running.
///
/// # Errors
/// Another daemon runs on it, or may have containers in it; says which and what to do.
pub fn claim(state: &Path, root: &Path, instance: &str, boot_id: &str) -> Result<Claim, OwnerError> {
    let lock = lock::hold(state).map_err(|error| match error {
        LockError::Held { dir, pid } => OwnerError::InUse { dir, pid },
        LockError::File { .. } => OwnerError::Lock(error),
    })?;
    let ours = Owner {
        instance: instance.to_owned(),
        root: fs::canonicalize(root).map_err(FsError::io("examine", root))?,
        boot_id: boot_id.to_owned(),
    };
    let path = state.join(FILE);
    let written = match fs::read(&path) {
        Ok(bytes) => Some(
            serde_json::from_slice::<Owner>(&bytes).map_err(|source| OwnerError::Unreadable {
                path: path.clone(),
                source,
            })?,
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(FsError::io("read", &path)(error).into()),
    };
    if let Some(other) = written
        && other.boot_id == ours.boot_id
        && (&other.instance, &other.root) != (&ours.instance, &ours.root)
    {
        return Err(OwnerError::OtherRoot {
            dir: state.to_owned(),
            root: other.root,
        });
    }
    // Of strings and a path below an existing directory: always representable, unless the path is not UTF-8.
    let text = serde_json::to_vec(&ours).map_err(|source| OwnerError::Unreadable {
        path: path.clone(),
        source,
    })?;
    write_atomic(&path, &text, 0o600)?;
    Ok(Claim { _lock: lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dirs {
        _top: tempfile::TempDir,
        root: PathBuf,
        state: PathBuf,
    }

    fn dirs() -> Dirs {
        let top = tempfile::tempdir().unwrap();
        let (root, state) = (top.path().join("root"), top.path().join("state"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&state).unwrap();
        Dirs { _top: top, root, state }
    }

    #[test]
    fn a_state_keeps_its_first_owner_within_a_boot() {
        let Dirs { _top, root, state } = dirs();
        drop(claim(&state, &root, "one", "boot").unwrap());
        drop(claim(&state, &root, "one", "boot").unwrap());
        let error = claim(&state, &_top.path().join("root/.."), "two", "boot").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(root.to_str().unwrap()) && text.contains("remove"),
            "{text}"
        );
        drop(claim(&state, &_top.path().join("root/.."), "two", "next boot").unwrap());
    }

    #[test]
    fn a_state_in_use_names_the_process() {
        let Dirs { _top, root, state } = dirs();
        let _held = claim(&state, &root, "one", "boot").unwrap();
        let text = claim(&state, &root, "two", "boot").unwrap_err().to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    }

    #[test]
    fn what_no_copepod_made_is_refused() {
        let Dirs { _top, root, state } = dirs();
        refuse_foreign(&root, &state).unwrap();
        refuse_foreign(&root.join("missing"), &state.join("missing")).unwrap();
        fs::write(root.join("letters"), "dear").unwrap();
        let text = refuse_foreign(&root, &state).unwrap_err().to_string();
        assert!(text.contains("`root`") && text.contains("letters"), "{text}");
        fs::write(root.join("copepod.redb"), "").unwrap();
        refuse_foreign(&root, &state).unwrap();
        fs::write(state.join("dpkg.pid"), "1").unwrap();
        assert!(
            refuse_foreign(&root, &state)
                .unwrap_err()
                .to_string()
                .contains("`state`")
        );
        drop(claim(&state, &root, "one", "boot").unwrap());
        refuse_foreign(&root, &state).unwrap();
        let text = refuse_foreign(Path::new("/tmp/"), &state).unwrap_err().to_string();
        assert!(text.contains("directory of the system"), "{text}");
    }
}
