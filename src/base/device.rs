//! Device nodes of the host: which there are and what they are. Nothing is opened; symbolic links given by a request
//! are followed once, those found inside a directory are not.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// A device to be made in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where it is in the container.
    pub path: PathBuf,
    /// Its kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits of the node.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the device cgroup permits: a subset of `rwm`.
    pub permissions: String,
}

/// What of `/dev` is made anew for each container, or is a way into another one's terminal.
const OWN: [&str; 6] = ["console", "mqueue", "pts", "shm", "fd", "ptmx"];

/// Deeper trees than this are not devices' (the deepest on a common host is `/dev/bus/usb/001`).
const MAX_DEPTH: usize = 8;

/// The device at `host`, or every device below it if it is a directory, as `container` (contract §6.4).
///
/// # Errors
/// It is not there, or it is neither a device nor a directory with at least one (`InvalidInput`).
pub fn at(host: &Path, container: &Path, permissions: &str) -> io::Result<Vec<DeviceNode>> {
    let host = fs::canonicalize(host)?;
    let metadata = fs::metadata(&host)?;
    if let Some(node) = node(&metadata, container, permissions) {
        return Ok(vec![node]);
    }
    let mut found = Vec::new();
    if metadata.is_dir() {
        collect(&host, container, permissions, MAX_DEPTH, &mut found)?;
    }
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a device nor a directory of devices",
        ));
    }
    Ok(found)
}

/// Every device of the host, for privileged containers.
///
/// # Errors
/// `/dev` cannot be read.
pub fn all() -> io::Result<Vec<DeviceNode>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        let name = entry.file_name();
        if !OWN.iter().any(|own| name == *own) {
            add(&entry.path(), &entry.path(), "rwm", MAX_DEPTH, &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(
    host: &Path,
    container: &Path,
    permissions: &str,
    depth: usize,
    found: &mut Vec<DeviceNode>,
) -> io::Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        add(
            &entry.path(),
            &container.join(entry.file_name()),
            permissions,
            depth,
            found,
        )?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

fn add(host: &Path, container: &Path, permissions: &str, depth: usize, found: &mut Vec<DeviceNode>) -> io::Result<()> {
    // Devices come and go: one that vanished since the directory was read is none.
    let Ok(metadata) = fs::symlink_metadata(host) else {
        return Ok(());
    };
    if let Some(node) = node(&metadata, container, permissions) {
        found.push(node);
    } else if metadata.is_dir() && depth > 0 {
        collect(host, container, permissions, depth - 1, found)?;
    }
    Ok(())
}

fn node(metadata: &Metadata, container: &Path, permissions: &str) -> Option<DeviceNode> {
    let kind = if metadata.file_type().is_char_device() {
        DeviceKind::Char
    } else if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    Some(DeviceNode {
        path: container.to_path_buf(),
        kind,
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q8_a_regular_file_is_no_device() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let refused = at(&file, Path::new("/dev/x"), "rwm").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            at(dir.path(), Path::new("/dev/x"), "rwm").unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            at(&dir.path().join("no"), Path::new("/dev/x"), "r").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn follows_the_links_of_a_request() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let nodes = at(&link, Path::new("/dev/nothing"), "rw").unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(
            (nodes[0].major, nodes[0].minor, nodes[0].kind),
            (1, 3, DeviceKind::Char)
        );
        assert_eq!(
            (nodes[0].path.as_path(), nodes[0].permissions.as_str()),
            (Path::new("/dev/nothing"), "rw")
        );
    }

    #[test]
    fn every_device_of_the_host_but_those_of_its_own() {
        let nodes = all().unwrap();
        assert!(nodes.iter().any(|node| node.path == Path::new("/dev/null")));
        assert!(
            !nodes
                .iter()
                .any(|node| node.path.starts_with("/dev/pts") || node.path == Path::new("/dev/console"))
        );
    }
}
