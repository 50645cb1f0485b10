//! What is answered from memory, or from one small file.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::domain::error::{Failure, Kind};
use crate::domain::image::Image;
use crate::domain::stats::Usage;
use crate::ops::Inner;
use crate::ops::answer::{Conditions, Details, FsInfo, PodDetails, Reason};

/// Verbose facts of a pod.
pub(crate) async fn pod_details(ops: &Inner, pod: &str) -> Result<PodDetails, Failure> {
    let entry = ops.table.pod(pod)?;
    let init = entry.init.lock().await;
    Ok(PodDetails {
        init_pid: init.as_ref().map_or(0, |init| init.pid),
    })
}

/// Verbose facts of a container.
pub(crate) async fn container_details(ops: &Inner, container: &str) -> Result<Details, Failure> {
    let entry = ops.table.container(container)?;
    let pid = entry.container().state.running().map_or(0, |(pid, _)| pid);
    let spec_json = ops.runtime.bundle_spec(&entry.id).ok();
    Ok(Details { pid, spec_json })
}

/// All images, or those that the name means; an empty name is none (contract §2.5).
pub(crate) fn images(ops: &Inner, name: Option<&str>) -> Result<Vec<Arc<Image>>, Failure> {
    match name.filter(|name| !name.is_empty()) {
        None => Ok(ops.images.all()),
        // An ambiguous prefix in a filter matches nothing (contract §2.1).
        Some(name) => Ok(ops.images.find(name).ok().flatten().into_iter().collect()),
    }
}

/// Use of the image file system.
pub(crate) fn image_fs_info(ops: &Inner) -> Vec<FsInfo> {
    let layers = ops.images.layers();
    vec![FsInfo {
        mountpoint: ops.image.store().to_owned(),
        bytes: layers.iter().map(|layer| layer.bytes).sum(),
        // The store's own directory is there even when nothing else is; an answer of 0 is taken for a fault.
        inodes: layers.iter().map(|layer| layer.inodes).sum::<u64>().max(1),
        at: Timestamp::now(),
    }]
}

/// RuntimeReady and NetworkReady.
pub(crate) async fn conditions(ops: &Inner) -> Conditions {
    Conditions {
        runtime: ops.state.health().await.map_err(|unwell| Reason {
            reason: unwell.reason,
            message: unwell.message,
        }),
        network: ops.network.ready().map_err(|not_ready| Reason {
            reason: not_ready.reason,
            message: not_ready.message,
        }),
    }
}

/// Checks what kubelet learned of the pods' addresses.
pub(crate) fn check_pod_cidr(text: &str) -> Result<(), Failure> {
    let bad = text
        .split(',')
        .filter(|_| !text.is_empty())
        .find(|part| !is_cidr(part.trim()));
    match bad {
        None => Ok(()),
        Some(part) => Err(Failure::new(
            Kind::InvalidArgument,
            format!(
                "pod_cidr has {:?}, which is no address block: expected for example 10.85.0.0/16, or two joined by a comma",
                part.chars().take(80).collect::<String>()
            ),
        )),
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

/// A writable layer that was not measured yet counts as its two directories, so that no client takes 0 for a fault.
pub(crate) fn measured(usage: Usage) -> Usage {
    if usage.at == 0 {
        return Usage {
            bytes: usage.bytes,
            inodes: usage.inodes.max(1),
            at: Timestamp::now().as_nanos(),
        };
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_address_blocks_are_taken() {
        for good in ["", "10.85.0.0/16", "10.0.0.0/8,fd00::/48", "10.0.0.0/8, fd00::/48"] {
            assert!(check_pod_cidr(good).is_ok(), "{good}");
        }
        for bad in [
            "10.85.0.0",
            "10.85.0.0/33",
            "x/16",
            "10.0.0.0/8,",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
        ] {
            assert!(check_pod_cidr(bad).is_err(), "{bad}");
        }
    }
}
