//! The runtime itself: version, readiness, configuration (contract §12).

use copepod_proto::cri as wire;

use crate::ops::CgroupDriver;
use crate::ops::answer::{Conditions, Reason};

/// The version of the interface that kubelet takes, and the name that becomes part of every container id in the API:
/// neither may ever change.
pub(in crate::cri) fn version() -> wire::VersionResponse {
    wire::VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: "copepod".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

/// Readiness, handlers and features. Only what is built is advertised: kubelet admits pods by it.
pub(in crate::cri) fn status(conditions: &Conditions) -> wire::StatusResponse {
    let Conditions { runtime, network } = conditions;
    wire::StatusResponse {
        status: Some(wire::RuntimeStatus {
            conditions: vec![condition("RuntimeReady", runtime), condition("NetworkReady", network)],
        }),
        info: std::collections::BTreeMap::new(),
        // The default handler has no name, and must be listed for its features to be believed.
        runtime_handlers: vec![wire::RuntimeHandler {
            name: String::new(),
            features: Some(wire::RuntimeHandlerFeatures {
                // mount_setattr(2) of Linux 5.12; 5.14 is required.
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        }],
        features: Some(wire::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: false,
        }),
    }
}

fn condition(kind: &str, state: &Result<(), Reason>) -> wire::RuntimeCondition {
    let (reason, message) = match state {
        Ok(()) => (String::new(), String::new()),
        Err(Reason { reason, message }) => ((*reason).to_owned(), message.clone()),
    };
    wire::RuntimeCondition {
        r#type: kind.to_owned(),
        status: state.is_ok(),
        reason,
        message,
    }
}

/// An unset message would be read as systemd.
pub(in crate::cri) fn runtime_config(driver: CgroupDriver) -> wire::RuntimeConfigResponse {
    let driver = match driver {
        CgroupDriver::Cgroupfs => wire::CgroupDriver::Cgroupfs,
        CgroupDriver::Systemd => wire::CgroupDriver::Systemd,
    };
    wire::RuntimeConfigResponse {
        linux: Some(wire::LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        }),
    }
}
