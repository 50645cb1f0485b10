//! Device nodes (contract §6.4).

use copepod_proto::cri as wire;

use super::{each, invalid, path, quoted, unsupported};
use crate::domain::error::Failure;
use crate::domain::mount::Device;

/// Most device entries of a container; one may be a directory of many.
const MOST: usize = 10_000;

/// Nodes that every container has and relies on.
const OURS: [&str; 9] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/console",
    "/dev/pts",
];

/// Devices. That they exist is seen where they are looked up.
///
/// # Errors
/// Names the path or permission.
pub(super) fn decode(field: &str, messages: Vec<wire::Device>) -> Result<Vec<Device>, Failure> {
    each(field, messages, MOST, one)
}

/// Devices by name of the Container Device Interface.
///
/// # Errors
/// There is one: they are not built.
pub(super) fn by_name(field: &str, messages: Vec<wire::CdiDevice>) -> Result<(), Failure> {
    match messages.into_iter().next() {
        Some(wire::CdiDevice { name }) => {
            let what = format!("device {}: CDI is", quoted(&name));
            Err(unsupported(field, &what, "use a device plugin that names device paths"))
        }
        None => Ok(()),
    }
}

fn one(field: &str, message: wire::Device) -> Result<Device, Failure> {
    let wire::Device {
        container_path,
        host_path,
        permissions,
    } = message;
    let host_path = path::absolute(&format!("{field}.host_path"), host_path)?;
    let container_path = path::absolute(&format!("{field}.container_path"), container_path)?;
    let kernel = ["/proc", "/sys"]
        .iter()
        .any(|dir| std::path::Path::new(&container_path).starts_with(dir));
    if kernel || (OURS.contains(&container_path.as_str()) && host_path != container_path) {
        let problem = format!("is {}, which the runtime provides", quoted(&container_path));
        return Err(invalid(
            &format!("{field}.container_path"),
            problem,
            "put the device elsewhere",
        ));
    }
    let known = |letter: char| matches!(letter, 'r' | 'w' | 'm');
    let twice = |letter: char| permissions.matches(letter).count() > 1;
    if permissions.is_empty() || !permissions.chars().all(known) || permissions.chars().any(twice) {
        let problem = format!("is {}", quoted(&permissions));
        return Err(invalid(
            &format!("{field}.permissions"),
            problem,
            "use each of r, w and m at most once",
        ));
    }
    Ok(Device {
        host_path: host_path.into(),
        container_path,
        permissions,
    })
}
