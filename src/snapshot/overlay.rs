//! Directories of a writable layer and the options of its overlay mount.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::base::error::chain;
use crate::base::id::ContainerId;
use crate::domain::mount::FsMount;

use super::SnapshotError;

/// Prefix of what is being removed; never the name of a container's directory.
const GONE: &str = ".gone-";

/// Refuses paths that would end early, or mean something else, inside of mount options.
pub(super) fn check_path(path: &Path) -> Result<&str, SnapshotError> {
    let bad = || SnapshotError::Path { path: path.to_owned() };
    let text = path.to_str().ok_or_else(bad)?;
    if text.contains([':', ',', '\\']) {
        Err(bad())
    } else {
        Ok(text)
    }
}

pub(super) fn prepare(dir: &Path, layers: &[PathBuf]) -> Result<FsMount, SnapshotError> {
    // Whatever is there already is another container's, or this one's: never to be undone here.
    mkdir(dir)?;
    let made = make(dir, layers);
    if made.is_err()
        && let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = chain(&error), path = %dir.display(), "cannot undo a writable layer");
    }
    made
}

fn make(dir: &Path, layers: &[PathBuf]) -> Result<FsMount, SnapshotError> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    mkdir(&upper)?;
    mkdir(&work)?;
    let mut lowers: Vec<&Path> = Vec::new();
    // Highest first. overlayfs refuses a directory that is there twice; the higher one hides the lower one whole.
    for layer in layers.iter().rev() {
        if !lowers.contains(&layer.as_path()) {
            lowers.push(layer);
        }
    }
    let empty = dir.join("empty");
    if let Some(top) = lowers.first() {
        like(top, &upper)?;
    } else {
        // An image without layers (CVE-2026-24054 class) is an empty directory and never somebody else's.
        mkdir(&empty)?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
            .map_err(SnapshotError::io("set the mode of", &upper))?;
        lowers.push(&empty);
    }
    let lowers = lowers.into_iter().map(check_path).collect::<Result<Vec<_>, _>>()?;
    Ok(FsMount {
        fstype: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            format!("lowerdir={}", lowers.join(":")),
            format!("upperdir={}", check_path(&upper)?),
            format!("workdir={}", check_path(&work)?),
            // Whatever a container did not sync itself may be lost with the machine; nothing waits for disks at exit
            // (house §8).
            "volatile".to_owned(),
        ],
    })
}

fn mkdir(path: &Path) -> Result<(), SnapshotError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(SnapshotError::io("make", path))
}

/// The merged root has mode and owner of the upper directory: those of the image's own root.
fn like(top: &Path, upper: &Path) -> Result<(), SnapshotError> {
    let found = fs::metadata(top).map_err(SnapshotError::io("look at layer", top))?;
    chown(upper, Some(found.uid()), Some(found.gid())).map_err(SnapshotError::io("set the owner of", upper))?;
    fs::set_permissions(upper, found.permissions()).map_err(SnapshotError::io("set the mode of", upper))
}

/// Takes the name away; the new one, or `None` if there is nothing of that name.
pub(super) fn rename_away(root: &Path, name: &str) -> Result<Option<PathBuf>, SnapshotError> {
    let path = root.join(name);
    let gone = root.join(format!("{GONE}{name}"));
    match fs::rename(&path, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|()| Some(gone)).map_err(SnapshotError::io("remove", &path)),
    }
}

/// Removes what was renamed away; what can't be removed now the next start tries again.
pub(super) fn remove_gone(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(error = chain(&error), path = %path.display(), "cannot remove a writable layer");
        }
        Err(_) | Ok(()) => {}
    }
}

/// Renames everything away that is of no container in `keep`; what is to be removed.
pub(super) fn sweep(root: &Path, keep: &[ContainerId]) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(root).map_err(SnapshotError::io("list", root))? {
        let entry = entry.map_err(SnapshotError::io("list", root))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(GONE) {
            gone.push(entry.path());
        } else if !keep.iter().any(|id| id.as_str() == name) {
            gone.extend(rename_away(root, name)?);
        }
    }
    Ok(gone)
}
