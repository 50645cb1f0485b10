//! The container's rootfs as a detached mount: no mount table of the host ever shows it.
//!
//! Made by the shim, with the initial user namespace's credentials: an overlay mounted with others cannot read
//! `trusted.overlay.opaque`, and deleted files would reappear.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use rustix::process::{WaitId, WaitIdOptions};

use super::fallback::{Fallback, Fallbacks};
use crate::init::channel::{Channel, Event};
use crate::sys::clone;
use crate::sys::mount::{Depth, MountAttr, set_attributes};

/// One mount of the task API's Create request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootfsMount {
    /// `overlay` or `bind`.
    pub(crate) fstype: String,
    /// Path of a bind.
    pub(crate) source: String,
    /// `lowerdir=a:b`, `upperdir=`, `workdir=`, flags of overlayfs, `ro`.
    pub(crate) options: Vec<String>,
}

/// Why there is no rootfs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    /// Several, or another type.
    #[error("rootfs: {what} is not supported by this runtime; it takes one overlay or one bind mount")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The directory of the spec or of a bind.
    #[error("open rootfs {}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: Errno,
    },
    /// An option.
    #[error("rootfs overlay: option {option}")]
    Option {
        /// As given.
        option: String,
        /// Cause.
        source: Errno,
    },
    /// The overlay.
    #[error("mount the rootfs overlay")]
    Mount {
        /// Cause.
        source: Errno,
    },
    /// Read-only.
    #[error("make the rootfs read-only")]
    ReadOnly {
        /// Cause.
        source: Errno,
    },
    /// One page of options is all that an older kernel takes.
    #[error("rootfs overlay: {bytes} bytes of options; this kernel takes 4095: use an image with fewer layers")]
    TooManyLayers {
        /// How many it would be.
        bytes: usize,
    },
}

/// Opens the rootfs; `path` is the spec's root, used when nothing is to be mounted.
///
/// # Errors
/// Names the mount or the option.
pub(super) fn open(mounts: &[RootfsMount], path: &Path, fallbacks: Fallbacks) -> Result<OwnedFd, RootfsError> {
    match mounts {
        [] => bind(path),
        [one] if one.fstype == "overlay" => {
            let options = Overlay::parse(&one.options);
            let root = options.mount(path, fallbacks)?;
            if one.options.iter().any(|option| option == "ro") {
                read_only(root)
            } else {
                Ok(root)
            }
        }
        [one] if one.fstype == "bind" || one.options.iter().any(|option| option == "rbind" || option == "bind") => {
            let root = bind(Path::new(&one.source))?;
            if one.options.iter().any(|option| option == "ro") {
                read_only(root)
            } else {
                Ok(root)
            }
        }
        [one] => Err(RootfsError::Unsupported {
            what: format!("a mount of type {:?}", one.fstype),
        }),
        several => Err(RootfsError::Unsupported {
            what: format!("a stack of {} mounts", several.len()),
        }),
    }
}

fn bind(path: &Path) -> Result<OwnedFd, RootfsError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let failed = |source| RootfsError::Open {
        path: path.to_owned(),
        source,
    };
    let tree = open_tree(CWD, path, flags).map_err(failed)?;
    // What the container mounts must not appear on the host.
    let private = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    set_attributes(tree.as_fd(), &private, Depth::Tree).map_err(failed)?;
    Ok(tree)
}

fn read_only(root: OwnedFd) -> Result<OwnedFd, RootfsError> {
    let change = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    set_attributes(root.as_fd(), &change, Depth::Top).map_err(|source| RootfsError::ReadOnly { source })?;
    Ok(root)
}

/// Options of an overlay, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Overlay {
    /// Topmost first.
    lower: Vec<String>,
    /// `upperdir`, `workdir`, and others with a value.
    values: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Overlay {
    fn parse(options: &[String]) -> Self {
        let mut overlay = Self::default();
        for option in options {
            match option.split_once('=') {
                Some(("lowerdir", layers)) => overlay.lower = split_layers(layers),
                Some((key, value)) => overlay.values.push((key.to_owned(), value.to_owned())),
                // Of the mount, not of overlayfs.
                None if matches!(option.as_str(), "ro" | "rw" | "defaults") => {}
                None => overlay.flags.push(option.clone()),
            }
        }
        overlay
    }

    fn mount(&self, staging: &Path, fallbacks: Fallbacks) -> Result<OwnedFd, RootfsError> {
        // fsconfig(2) takes at most 255 bytes a string.
        let fits = self
            .lower
            .iter()
            .chain(self.values.iter().map(|(_, value)| value))
            .all(|text| text.len() < 256);
        if fallbacks.forces(Fallback::LowerdirPlus) || !fits {
            return self.mount_by_stage(staging);
        }
        match self.mount_by_context() {
            // Before 6.5 overlayfs keeps every option unread and refuses them all together at the end.
            Err(
                RootfsError::Mount { source: Errno::INVAL }
                | RootfsError::Option {
                    source: Errno::INVAL, ..
                },
            ) => self.mount_by_stage(staging),
            other => other,
        }
    }

    fn mount_by_context(&self) -> Result<OwnedFd, RootfsError> {
        let failed = |source| RootfsError::Mount { source };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed)?;
        let set = |key: &str, value: &str| {
            let refused = |source| RootfsError::Option {
                option: format!("{key}={value}"),
                source,
            };
            fsconfig_set_string(&context, key, value).map_err(refused)
        };
        self.lower.iter().try_for_each(|layer| set("lowerdir+", layer))?;
        self.values.iter().try_for_each(|(key, value)| set(key, value))?;
        for flag in &self.flags {
            fsconfig_set_flag(&context, flag.as_str()).map_err(|source| RootfsError::Option {
                option: flag.clone(),
                source,
            })?;
        }
        fsconfig_create(&context).map_err(failed)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(failed)
    }

    /// The older way. mount(2) needs a place, so a process with a mount namespace of its own makes the mount there and
    /// sends a detached copy back. Layers are named relative to their common directory, for one page must hold all.
    fn mount_by_stage(&self, staging: &Path) -> Result<OwnedFd, RootfsError> {
        let failed = |source| RootfsError::Mount { source };
        let (directory, data) = self.page();
        if data.len() > 4095 {
            return Err(RootfsError::TooManyLayers { bytes: data.len() });
        }
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let stage = clone::spawn(clone::NEW_MOUNT, None, || match stage(&directory, &data, staging) {
            Ok(mount) => theirs.hand(mount.as_fd()).map_or(1, |()| 0),
            Err(errno) => errno.raw_os_error(),
        });
        let stage = stage.map_err(failed)?;
        drop(theirs);
        let status = loop {
            match rustix::process::waitid(WaitId::PidFd(stage.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(status) => break status.and_then(|status| status.exit_status()),
                Err(Errno::INTR) => {}
                Err(source) => return Err(failed(source)),
            }
        };
        match (status, ours.receive().map_err(failed)?) {
            (Some(0), Some(Event::Handed(mount))) => Ok(mount),
            (Some(errno @ 2..), _) => Err(failed(Errno::from_raw_os_error(errno))),
            _ => Err(failed(Errno::IO)),
        }
    }

    /// The directory that all layers lie below, and the options relative to it.
    fn page(&self) -> (String, String) {
        let mut common: Option<Vec<&str>> = None;
        for layer in &self.lower {
            let mut parts: Vec<&str> = layer.split('/').collect();
            parts.pop();
            common = Some(match common {
                None => parts,
                Some(known) => known
                    .into_iter()
                    .zip(parts)
                    .take_while(|(a, b)| a == b)
                    .map(|(a, _)| a)
                    .collect(),
            });
        }
        let directory = format!("{}/", common.unwrap_or_default().join("/"));
        let relative = |layer: &String| escape(layer.strip_prefix(&directory).unwrap_or(layer));
        let mut data = format!(
            "lowerdir={}",
            self.lower.iter().map(relative).collect::<Vec<_>>().join(":")
        );
        for (key, value) in &self.values {
            data.push_str(&format!(",{key}={}", value.replace('\\', "\\\\").replace(',', "\\,")));
        }
        for flag in &self.flags {
            data.push(',');
            data.push_str(flag);
        }
        (directory, data)
    }
}

fn stage(directory: &str, data: &str, staging: &Path) -> Result<OwnedFd, Errno> {
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave)?;
    rustix::process::chdir(directory)?;
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", staging, "overlay", MountFlags::empty(), data.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, staging, flags)
}

/// Layers are separated by colons; a backslash keeps the next character.
fn split_layers(layers: &str) -> Vec<String> {
    let (mut found, mut current, mut kept) = (Vec::new(), String::new(), false);
    for character in layers.chars() {
        match character {
            '\\' if !kept => {
                kept = true;
                continue;
            }
            ':' if !kept => found.push(std::mem::take(&mut current)),
            other => current.push(other),
        }
        kept = false;
    }
    found.push(current);
    found.retain(|layer| !layer.is_empty());
    found
}

fn escape(layer: &str) -> String {
    layer.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

#[cfg(test)]
mod tests;
