//! CreateContainer (contract §4, §6).

use std::path::PathBuf;

use copepod_proto::cri as wire;

use super::{device, id, image, invalid, mount, path, required, resources, security, text, unsupported};
use crate::cri::signal;
use crate::domain::container::{ContainerMetadata, ContainerSpec};
use crate::domain::error::Failure;
use crate::ops::request::CreateContainer;

/// What CreateContainer asks for.
///
/// # Errors
/// Names the field.
pub(in crate::cri) fn create(request: wire::CreateContainerRequest) -> Result<CreateContainer, Failure> {
    let wire::CreateContainerRequest {
        pod_sandbox_id,
        config,
        // What the pod was made with is recorded; its presence is part of the protocol (contract §2.1).
        sandbox_config,
    } = request;
    let pod = id::required("pod_sandbox_id", pod_sandbox_id)?;
    required("sandbox_config", sandbox_config)?;
    let spec = spec(required("config", config)?)?;
    Ok(CreateContainer { pod, spec })
}

fn spec(config: wire::ContainerConfig) -> Result<ContainerSpec, Failure> {
    let wire::ContainerConfig {
        metadata,
        image,
        command,
        args,
        working_dir,
        envs,
        mounts,
        devices,
        labels,
        annotations,
        log_path,
        stdin,
        stdin_once,
        tty,
        linux,
        windows,
        cdi_devices,
        stop_signal,
    } = config;
    if windows.is_some() {
        return Err(invalid("config.windows", "is set", "this is a Linux node"));
    }
    device::by_name("config.CDI_devices", cdi_devices)?;
    let annotations = text::labels("config.annotations", annotations)?;
    if let Some(key) = annotations.keys().find(|key| key.starts_with("cdi.k8s.io/")) {
        return Err(unsupported(
            "config.annotations",
            &format!("{}: CDI is", super::quoted(key)),
            "leave it out",
        ));
    }
    let wire::LinuxContainerConfig {
        resources,
        security_context,
    } = linux.unwrap_or_default();
    let (namespaces, security, identity) = security::container("config.linux.security_context", security_context)?;
    Ok(ContainerSpec {
        metadata: self::metadata("config.metadata", metadata)?,
        image: self::image::request("config.image", image)?,
        command: text::words("config.command", command)?,
        args: text::words("config.args", args)?,
        working_dir: directory("config.working_dir", working_dir)?,
        envs: text::environment("config.envs", envs.into_iter().map(variable).collect())?,
        mounts: mount::decode("config.mounts", mounts)?,
        devices: device::decode("config.devices", devices)?,
        labels: text::labels("config.labels", labels)?,
        annotations,
        log_path: log("config.log_path", log_path)?,
        stdin,
        stdin_once,
        tty,
        stop_signal: signal::decode("config.stop_signal", stop_signal)?,
        resources: self::resources::decode("config.linux.resources", resources)?,
        namespaces,
        security,
        identity,
    })
}

fn metadata(field: &str, message: Option<wire::ContainerMetadata>) -> Result<ContainerMetadata, Failure> {
    let wire::ContainerMetadata { name, attempt } = required(field, message)?;
    Ok(ContainerMetadata {
        name: text::name(&format!("{field}.name"), name)?,
        attempt,
    })
}

fn variable(message: wire::KeyValue) -> (String, Vec<u8>) {
    let wire::KeyValue { key, value } = message;
    (key, value)
}

fn directory(field: &str, directory: String) -> Result<String, Failure> {
    if directory.is_empty() {
        Ok(directory)
    } else {
        path::absolute(field, directory)
    }
}

/// Below the pod's log directory, and staying there.
fn log(field: &str, path: String) -> Result<Option<PathBuf>, Failure> {
    if path.is_empty() {
        Ok(None)
    } else {
        self::path::relative(field, path).map(Some)
    }
}
