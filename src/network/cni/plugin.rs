//! Running one CNI plugin: environment, standard input, bounded time and output, and what its answer means.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Attach, Detach, NetworkError};
use super::bandwidth;
use super::config::{NetworkList, PluginConfig};
use crate::base::cmd::{self, Program};
use crate::domain::network::{PortMapping, Protocol};

/// A plugin that takes longer hangs. Well below kubelet's 4 minutes for RunPodSandbox, with room for a chain.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Results are a few hundred bytes.
const MAX_OUTPUT: usize = 1024 * 1024;
/// What a plugin said goes to a pod's events: no more than a reader can bear.
const MAX_MESSAGE: usize = 1024;
/// Where plugins find iptables, nft and ip.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all plugins of a chain are told alike.
#[derive(Debug)]
pub(super) struct Invocation {
    container: String,
    netns: String,
    args: String,
    /// The `portMappings` capability's value.
    pub(super) port_mappings: Vec<Value>,
    /// The `bandwidth` capability's value.
    pub(super) bandwidth: Option<Value>,
}

impl Invocation {
    /// For ADD.
    ///
    /// # Errors
    /// A bandwidth annotation makes no sense.
    pub(super) fn of_attach(attach: &Attach) -> Result<Self, NetworkError> {
        let Attach {
            pod,
            name,
            namespace,
            uid,
            netns,
            ports,
            annotations,
        } = attach;
        Ok(Self {
            container: pod.to_string(),
            netns: netns.display().to_string(),
            args: args_of(pod.as_str(), name, namespace, uid),
            port_mappings: mappings_of(ports),
            bandwidth: bandwidth::asked(annotations)?,
        })
    }

    pub(super) fn of_detach(detach: &Detach) -> Self {
        let Detach {
            pod,
            name,
            namespace,
            uid,
            netns,
            attachment: _,
            ports,
            annotations,
        } = detach;
        Self {
            container: pod.to_string(),
            netns: netns
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            args: args_of(pod.as_str(), name, namespace, uid),
            port_mappings: mappings_of(ports),
            // What makes no sense was refused at ADD.
            bandwidth: bandwidth::asked(annotations).ok().flatten(),
        }
    }
}

fn args_of(pod: &str, name: &str, namespace: &str, uid: &str) -> String {
    // `;` and `=` are the format's own; Kubernetes names contain neither, and decode refuses control characters.
    let clean = |text: &str| text.replace([';', '='], "_");
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={pod};K8S_POD_UID={}",
        clean(namespace),
        clean(name),
        clean(uid)
    )
}

fn mappings_of(ports: &[PortMapping]) -> Vec<Value> {
    ports
        .iter()
        .filter_map(|port| {
            let PortMapping { protocol, container_port, host_port, host_ip } = port;
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            let host_port = (*host_port)?;
            Some(json!({"hostPort": host_port, "containerPort": container_port, "protocol": protocol, "hostIP": host_ip}))
        })
        .collect()
}

/// One run of one plugin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// ADD or DEL.
    pub(super) command: &'static str,
    /// The network.
    pub(super) list: &'a NetworkList,
    /// Which of its plugins.
    pub(super) plugin: &'a PluginConfig,
    /// What all plugins are told alike.
    pub(super) invocation: &'a Invocation,
    /// The result so far (ADD), or the final one (DEL).
    pub(super) previous: Option<&'a Value>,
}

/// The installed plugins.
#[derive(Debug)]
pub(super) struct Plugins {
    /// Searched in this order.
    pub(super) bin_dirs: Vec<PathBuf>,
}

impl Plugins {
    /// The binary of a plugin.
    pub(super) fn find(&self, plugin: &PluginConfig, network: &str) -> Result<PathBuf, NetworkError> {
        let candidates = self.bin_dirs.iter().map(|dir| dir.join(plugin.kind()));
        candidates
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| NetworkError::NoPlugin {
                plugin: plugin.kind().to_owned(),
                network: network.to_owned(),
                searched: self
                    .bin_dirs
                    .iter()
                    .map(|dir| dir.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Runs a plugin. `None` when it succeeded without a result, as DEL does.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Option<Value>, NetworkError> {
        let Call {
            command,
            list,
            plugin,
            invocation,
            previous,
        } = call;
        let kind = plugin.kind().to_owned();
        let program = Program {
            path: self.find(plugin, &list.name)?,
            args: vec![],
            env: self.environment(command, invocation),
            stdin: list.stdin_of(plugin, invocation, previous),
            timeout: TIMEOUT,
            output_limit: MAX_OUTPUT,
        };
        let done = cmd::run(program).await.map_err(|source| NetworkError::Run {
            plugin: kind.clone(),
            command,
            source,
        })?;
        if !done.status.success() {
            let message = complaint(&done.stdout, &done.stderr);
            return Err(NetworkError::Plugin {
                plugin: kind,
                command,
                message,
            });
        }
        if done.stdout.iter().all(u8::is_ascii_whitespace) || command == "DEL" {
            return Ok(None);
        }
        serde_json::from_slice(&done.stdout)
            .map(Some)
            .map_err(|error| NetworkError::Answer {
                plugin: kind,
                command,
                problem: format!("what is not JSON ({error})"),
            })
    }

    fn environment(&self, command: &str, invocation: &Invocation) -> Vec<(String, OsString)> {
        let dirs = self
            .bin_dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect::<Vec<_>>()
            .join(":");
        [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", invocation.container.clone()),
            ("CNI_NETNS", invocation.netns.clone()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_ARGS", invocation.args.clone()),
            ("CNI_PATH", dirs),
            ("PATH", PATH.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into()
    }
}

/// What a failed plugin said: the error object of the spec, else its standard error; printable and shortened.
fn complaint(stdout: &[u8], stderr: &[u8]) -> String {
    let object: Option<Value> = serde_json::from_slice(stdout).ok();
    let field = |name: &str| {
        object
            .as_ref()
            .and_then(|error| error.get(name))
            .and_then(Value::as_str)
    };
    let text = match (field("msg"), field("details").filter(|details| !details.is_empty())) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) => message.to_owned(),
        (None, _) => String::from_utf8_lossy(if stderr.is_empty() { stdout } else { stderr }).into_owned(),
    };
    let printable: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect();
    if printable.is_empty() {
        "it said nothing".to_owned()
    } else {
        printable
    }
}
