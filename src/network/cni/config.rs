//! CNI configuration lists and results: reading the files, making each plugin's standard input, finding addresses.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::NetworkError;
use super::plugin::Invocation;

/// A configuration file larger than this is refused.
const MAX_FILE: u64 = 1024 * 1024;

/// A network configuration list.
#[derive(Debug)]
pub(super) struct NetworkList {
    /// Name of the network.
    pub(super) name: String,
    /// Version the plugins are spoken to in.
    pub(super) version: String,
    /// Plugins in order of ADD.
    pub(super) plugins: Vec<PluginConfig>,
    /// The list as JSON, to be kept with attachments.
    pub(super) raw: Value,
}

/// One plugin's part of a list.
#[derive(Debug)]
pub(super) struct PluginConfig(Map<String, Value>);

impl PluginConfig {
    /// Name of the plugin's binary.
    pub(super) fn kind(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    fn has_capability(&self, name: &str) -> bool {
        self.0
            .get("capabilities")
            .and_then(|all| all.get(name))
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }
}

/// The first usable-looking configuration of `dir` in lexical order. The first file decides: a broken one is an error,
/// not a reason to give pods another network.
pub(super) fn first_in(dir: &Path) -> Result<NetworkList, NetworkError> {
    let missing = |why: &str| {
        NetworkError::NoConfig(format!(
            "{why} {}: install a pod network (its agent writes a .conflist there), or set [network] mode = \"builtin\"",
            dir.display()
        ))
    };
    let mut files: Vec<PathBuf> = match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| is_config(path))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing("there is no CNI directory")),
        Err(error) => {
            return Err(NetworkError::BadConfig {
                path: dir.to_owned(),
                problem: error.to_string(),
            });
        }
    };
    files.sort();
    let first = files
        .first()
        .ok_or_else(|| missing("there is no CNI configuration in"))?;
    let bad = |problem: String| NetworkError::BadConfig {
        path: first.clone(),
        problem,
    };
    let size = std::fs::metadata(first).map_err(|error| bad(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(bad(format!("it has {size} bytes, more than {MAX_FILE}")));
    }
    let text = std::fs::read_to_string(first).map_err(|error| bad(error.to_string()))?;
    parse(&text).map_err(bad)
}

fn is_config(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    path.is_file() && matches!(extension, Some("conflist" | "conf" | "json"))
}

/// A list kept with an attachment.
pub(super) fn parse_stored(text: &str) -> Result<NetworkList, NetworkError> {
    parse(text).map_err(|problem| NetworkError::BadConfig {
        path: "(kept with the pod)".into(),
        problem,
    })
}

fn parse(text: &str) -> Result<NetworkList, String> {
    let raw: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let object = raw.as_object().ok_or("it is not a JSON object")?;
    let string = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = string("name").filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let version = string("cniVersion").unwrap_or_else(|| "0.2.0".to_owned());
    let plugins = match object.get("plugins") {
        Some(Value::Array(list)) => list
            .iter()
            .map(|plugin| plugin.as_object().cloned())
            .collect::<Option<Vec<_>>>(),
        Some(_) => None,
        // A lone plugin's file, the form of old.
        None => Some(vec![object.clone()]),
    };
    let plugins: Vec<PluginConfig> = plugins
        .ok_or("plugins is not a list of objects")?
        .into_iter()
        .map(PluginConfig)
        .collect();
    if plugins.is_empty() {
        return Err("it lists no plugins".to_owned());
    }
    for plugin in &plugins {
        let kind = plugin.kind();
        if kind.is_empty() || kind.contains('/') || kind == ".." {
            return Err(format!("a plugin's type is {kind:?}; it must be the name of a binary"));
        }
    }
    Ok(NetworkList {
        name,
        version,
        plugins,
        raw,
    })
}

impl NetworkList {
    /// Refuses what no plugin of the list would do: a limit or a port that is not there must not look as if it were.
    ///
    /// # Errors
    /// Names the first such thing.
    pub(super) fn can_do(&self, invocation: &Invocation) -> Result<(), NetworkError> {
        let host_port = invocation
            .port_mappings
            .first()
            .and_then(|mapping| mapping.get("hostPort"));
        let asked = [
            (
                host_port.map(|port| format!("host port {port}")),
                "portMappings",
                "portmap",
            ),
            (
                invocation.bandwidth.as_ref().map(|_| "a bandwidth limit".to_owned()),
                "bandwidth",
                "bandwidth",
            ),
        ];
        for (what, capability, plugin) in asked {
            if let Some(what) = what
                && !self.plugins.iter().any(|plugin| plugin.has_capability(capability))
            {
                return Err(NetworkError::NoCapability {
                    what,
                    network: self.name.clone(),
                    capability,
                    plugin,
                });
            }
        }
        Ok(())
    }

    /// What a plugin gets on standard input: its part, with name, version, the previous result and what its
    /// capabilities ask for.
    pub(super) fn stdin_of(&self, plugin: &PluginConfig, invocation: &Invocation, previous: Option<&Value>) -> Vec<u8> {
        let mut input = plugin.0.clone();
        input.insert("name".to_owned(), json!(self.name));
        input.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(previous) = previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        let mut runtime = Map::new();
        if plugin.has_capability("portMappings") && !invocation.port_mappings.is_empty() {
            runtime.insert("portMappings".to_owned(), json!(invocation.port_mappings));
        }
        if let Some(bandwidth) = invocation
            .bandwidth
            .as_ref()
            .filter(|_| plugin.has_capability("bandwidth"))
        {
            runtime.insert("bandwidth".to_owned(), bandwidth.clone());
        }
        if !runtime.is_empty() {
            input.insert("runtimeConfig".to_owned(), Value::Object(runtime));
        }
        input.remove("capabilities");
        Value::Object(input).to_string().into_bytes()
    }
}

/// The pod's addresses in a result, IPv4 first. Results of 0.3 and newer list `ips`; older ones have `ip4` and `ip6`.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let listed = result
        .get("ips")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|ip| in_pod(result, ip));
    let texts = listed
        .filter_map(|ip| ip.get("address"))
        .chain(["ip4", "ip6"].into_iter().filter_map(|key| result.get(key)?.get("ip")));
    let mut ips: Vec<IpAddr> = texts
        .filter_map(Value::as_str)
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    ips
}

/// An address belongs to the pod unless its interface is one without a sandbox, that is, on the host.
fn in_pod(result: &Value, ip: &Value) -> bool {
    let Some(index) = ip
        .get("interface")
        .and_then(Value::as_u64)
        .and_then(|index| usize::try_from(index).ok())
    else {
        return true;
    };
    let interface = result.get("interfaces").and_then(|all| all.get(index));
    interface
        .and_then(|interface| interface.get("sandbox"))
        .and_then(Value::as_str)
        .is_some_and(|path| !path.is_empty())
}
