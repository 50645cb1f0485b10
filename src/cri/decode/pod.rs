//! RunPodSandbox (contract §3, §5).

use std::path::PathBuf;

use copepod_proto::cri as wire;

use super::{invalid, network, path, quoted, required, resources, security, sysctl, text};
use crate::domain::error::{Failure, Kind};
use crate::domain::pod::{PodMetadata, PodSpec};

/// Longest host name (`__NEW_UTS_LEN`).
const MAX_HOSTNAME: usize = 64;

/// What RunPodSandbox asks for.
///
/// # Errors
/// Names the field.
pub(in crate::cri) fn run(request: wire::RunPodSandboxRequest) -> Result<PodSpec, Failure> {
    let wire::RunPodSandboxRequest {
        config,
        runtime_handler,
    } = request;
    let wire::PodSandboxConfig {
        metadata,
        hostname,
        log_directory,
        dns_config,
        port_mappings,
        labels,
        annotations,
        linux,
        windows,
    } = required("config", config)?;
    if windows.is_some() {
        return Err(invalid("config.windows", "is set", "this is a Linux node"));
    }
    let wire::LinuxPodSandboxConfig {
        cgroup_parent,
        security_context,
        sysctls,
        overhead,
        resources,
    } = linux.unwrap_or_default();
    let (namespaces, security) = security::pod("config.linux.security_context", security_context)?;
    Ok(PodSpec {
        metadata: self::metadata("config.metadata", metadata)?,
        hostname: host_name("config.hostname", hostname)?,
        log_directory: log_directory_of(log_directory)?,
        dns: network::dns("config.dns_config", dns_config)?,
        ports: network::ports("config.port_mappings", port_mappings)?,
        labels: text::labels("config.labels", labels)?,
        annotations: text::labels("config.annotations", annotations)?,
        cgroup_parent: path::cgroup("config.linux.cgroup_parent", cgroup_parent)?,
        sysctls: sysctl::decode("config.linux.sysctls", sysctls, &namespaces)?,
        namespaces,
        security,
        overhead: self::resources::decode("config.linux.overhead", overhead)?,
        resources: self::resources::decode("config.linux.resources", resources)?,
        runtime_handler: handler("runtime_handler", runtime_handler)?,
    })
}

/// The only handler is the default one, whose name is empty.
///
/// # Errors
/// It names another.
pub(super) fn handler(field: &str, name: String) -> Result<String, Failure> {
    if name.is_empty() {
        return Ok(name);
    }
    let problem = format!("{field} is {}, which is not a handler of this node", quoted(&name));
    Err(Failure::new(
        Kind::InvalidArgument,
        format!("{problem}; leave it empty for the default one"),
    ))
}

fn metadata(field: &str, message: Option<wire::PodSandboxMetadata>) -> Result<PodMetadata, Failure> {
    let wire::PodSandboxMetadata {
        name,
        uid,
        namespace,
        attempt,
    } = required(field, message)?;
    Ok(PodMetadata {
        name: text::name(&format!("{field}.name"), name)?,
        namespace: text::name(&format!("{field}.namespace"), namespace)?,
        uid: text::name(&format!("{field}.uid"), uid)?,
        attempt,
    })
}

/// Also a line of files in the pod.
fn host_name(field: &str, name: String) -> Result<String, Failure> {
    if name.len() > MAX_HOSTNAME {
        return Err(invalid(
            field,
            format!("is {} bytes long", name.len()),
            "Linux allows 64",
        ));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.bytes().all(plain) {
        return Err(invalid(
            field,
            format!("is {}", quoted(&name)),
            "use letters, digits, '-' and '.'",
        ));
    }
    Ok(name)
}

fn log_directory_of(directory: String) -> Result<Option<PathBuf>, Failure> {
    if directory.is_empty() {
        return Ok(None);
    }
    path::absolute("config.log_directory", directory).map(|path| Some(path.into()))
}
