//! Verbose details: JSON text under the key `info`, for people and scripts (contract §12). kubelet reads none of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::container::Container;
use crate::domain::image::Image;
use crate::domain::pod::Pod;
use crate::ops::CgroupDriver;
use crate::ops::answer::{Details, FsInfo, PodDetails};

type Info = BTreeMap<String, String>;

/// Of a pod.
pub(in crate::cri) fn pod(pod: &Pod, details: PodDetails) -> Info {
    let PodDetails { init_pid } = details;
    let result = pod
        .attachment
        .as_ref()
        .map(|attachment| parsed(attachment.cni_result.as_bytes()));
    let pins = [
        ("network", &pod.pins.net),
        ("ipc", &pod.pins.ipc),
        ("uts", &pod.pins.uts),
    ];
    let namespace = |(kind, path): (_, &Option<_>)| path.as_ref().map(|path| json!({"type": kind, "path": path}));
    let namespaces: Vec<Value> = pins.into_iter().filter_map(namespace).collect();
    one(&json!({
        "pid": init_pid,
        "sandboxID": pod.id,
        "config": pod.spec,
        "hostname": pod.effective_hostname,
        "cniResult": result,
        "networkTeardownOwed": pod.network_owed,
        "runtimeSpec": {"linux": {"namespaces": namespaces, "cgroupsPath": pod.spec.cgroup_parent}},
    }))
}

/// Of a container.
pub(in crate::cri) fn container(container: &Container, details: &Details) -> Info {
    let Details { pid, spec_json } = details;
    one(&json!({
        "pid": pid,
        "sandboxID": container.pod,
        "config": container.spec,
        "cgroup": container.cgroup,
        "layers": container.layers,
        "runtimeSpec": spec_json.as_deref().map(parsed),
    }))
}

/// Of an image.
pub(in crate::cri) fn image(image: &Image) -> Info {
    one(&json!({
        "imageSpec": parsed(&image.config_json),
        "manifest": parsed(&image.manifest_json),
        "layers": image.layers,
        "pulledAt": image.pulled_at,
    }))
}

/// Of the runtime: `config` is the key that tools know.
pub(in crate::cri) fn runtime(driver: CgroupDriver, stores: &[FsInfo]) -> Info {
    let driver = match driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    };
    let store = stores.first().map(|store| &store.mountpoint);
    let config = json!({"cgroupDriver": driver, "imageStore": store});
    Info::from([("config".to_owned(), config.to_string())])
}

/// A document of ours or of an image, or nothing when it is none.
fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

fn one(details: &Value) -> Info {
    Info::from([("info".to_owned(), details.to_string())])
}
