//! Volumes (contract §6.4).

use copepod_proto::cri as wire;

use super::{each, invalid, path, quoted, unsupported};
use crate::domain::error::Failure;
use crate::domain::mount::{Access, Mount, Propagation};

/// Most mounts of a container.
const MOST: usize = 10_000;

/// Files of procfs that may be covered: what shows a container its own share of the machine, and nothing a security
/// decision rests on. Over anything else there, a label or limit could be written to a fake (CVE-2019-16884).
const OVER_PROC: [&str; 8] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "uptime",
];

/// Volumes, in the request's order and as requested: status tells them back.
///
/// # Errors
/// Names the destination and what of it cannot be.
pub(super) fn decode(field: &str, messages: Vec<wire::Mount>) -> Result<Vec<Mount>, Failure> {
    each(field, messages, MOST, one)
}

fn one(field: &str, message: wire::Mount) -> Result<Mount, Failure> {
    let wire::Mount {
        container_path,
        host_path,
        readonly,
        selinux_relabel,
        propagation,
        uid_mappings,
        gid_mappings,
        recursive_read_only,
        image,
        image_sub_path,
        mount_options,
    } = message;
    let container_path = destination(&format!("{field}.container_path"), container_path)?;
    if image.is_some() || !image_sub_path.is_empty() {
        return Err(unsupported(
            &format!("{field}.image"),
            "image volumes are",
            "put the files in the image itself",
        ));
    }
    if !uid_mappings.is_empty() || !gid_mappings.is_empty() {
        return Err(unsupported(
            field,
            "id-mapped mounts are",
            "leave uidMappings and gidMappings out",
        ));
    }
    if let Some(option) = mount_options.first() {
        let what = format!("mount option {} is", quoted(option));
        return Err(unsupported(field, &what, "leave mount_options out"));
    }
    let propagation = match wire::MountPropagation::try_from(propagation) {
        Ok(wire::MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(wire::MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(wire::MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => {
            return Err(invalid(
                field,
                format!("has propagation {propagation}"),
                "0 to 2 are known",
            ));
        }
    };
    let access = match (recursive_read_only, readonly, propagation) {
        (false, false, _) => Access::ReadWrite,
        (false, true, _) => Access::ReadOnly,
        (true, true, Propagation::Private) => Access::ReadOnlyTree,
        (true, _, _) => {
            let problem = "is recursive_read_only but not read-only and private";
            return Err(invalid(field, problem, "set readonly, and propagation to private"));
        }
    };
    Ok(Mount {
        host_path: path::absolute(&format!("{field}.host_path"), host_path)?.into(),
        container_path,
        access,
        selinux_relabel,
        propagation,
    })
}

fn destination(field: &str, text: String) -> Result<String, Failure> {
    let text = path::absolute(field, text)?;
    let mut names = text.split('/').filter(|name| !matches!(*name, "" | "."));
    match (names.next(), names.next(), names.next()) {
        (None, _, _) => Err(invalid(field, "is the root", "mount the volume below it")),
        (Some("proc"), Some(name), None) if OVER_PROC.contains(&name) => Ok(text),
        (Some("proc"), Some(_), _) => Err(invalid(
            field,
            format!("is {}, inside procfs", quoted(&text)),
            "mount the volume elsewhere",
        )),
        (Some(_), _, _) => Ok(text),
    }
}
