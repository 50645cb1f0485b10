//! Where to ask for a registry's images: `<config_dir>/<registry>/hosts.toml`, read at every pull so that an edit holds
//! at once. The file's format is containerd's, because nodes have these files already; whatever is not understood stops
//! the pull by name instead of quietly asking somewhere else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::reference::{DOCKER_HUB, Reference};

/// A file with more than this many bytes is no hosts file.
const MAX_FILE: u64 = 1024 * 1024;

/// A place that serves a registry's images.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Everything before `/<repository>/manifests/…`.
    pub(super) base: Url,
    /// The registry itself or somebody instead of it: decides about credentials and the `ns` parameter.
    pub(super) role: Role,
    /// May be asked what a tag means.
    pub(super) resolves: bool,
    /// May be asked for content by digest.
    pub(super) pulls: bool,
    /// Sent with every request to this place, and only to it.
    pub(super) headers: HeaderMap,
    /// Whom to trust there.
    pub(super) trust: Trust,
}

/// What an endpoint is to the registry that an image names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the registry.
    Origin,
    /// It has copies.
    Mirror,
}

/// TLS settings of an endpoint beyond the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trust {
    /// PEM files with further authorities.
    pub(super) authorities: Vec<PathBuf>,
    /// PEM files with our certificate and its key (one file with both, or two).
    pub(super) client: Vec<PathBuf>,
    /// Whether certificates count.
    pub(super) verify: Verify,
}

/// Whether a server must prove who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Verify {
    /// By a certificate that leads to a known authority.
    #[default]
    Certificate,
    /// Not at all: `skip_verify = true`.
    Nothing,
}

/// A hosts file can't be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It is there and can't be read.
    #[error("read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no TOML, or has a key that is not known or of another type.
    #[error("parse {}: fix or remove the key", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Line, key and what is allowed.
        source: Box<toml::de::Error>,
    },
    /// The registry's name makes no URL.
    #[error("registry {registry:?} is no host that can be asked; check the image's name")]
    Registry {
        /// The registry.
        registry: String,
    },
    /// A key has a value that is not allowed.
    #[error("{}: {key}: {reason}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key, in full.
        key: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, RawHost>,
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<RawClient>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
    override_path: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawHost {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<RawClient>,
    skip_verify: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
    override_path: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawClient {
    Both(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// The places to ask for `reference`, in order; the registry itself comes last.
///
/// # Errors
/// There is a hosts file for it that can't be used.
pub(super) fn endpoints(config_dir: &Path, reference: &Reference) -> Result<Vec<Endpoint>, HostsError> {
    for dir in candidates(reference.registry()) {
        let file = config_dir.join(dir).join("hosts.toml");
        if let Some(text) = read(&file)? {
            return parse(&file, &text, reference);
        }
    }
    Ok(vec![plain_origin(reference)?])
}

/// Directory names tried: as it is, with the port as on file systems that know no colon, and for every registry.
fn candidates(registry: &str) -> Vec<String> {
    let mut names = vec![registry.to_owned()];
    if let Some((host, port)) = registry.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        names.push(format!("{host}_{port}_"));
    }
    names.push("_default".to_owned());
    names
}

fn read(file: &Path) -> Result<Option<String>, HostsError> {
    let read = |source| HostsError::Read {
        file: file.to_owned(),
        source,
    };
    match fs::metadata(file) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(read(error)),
        Ok(found) if found.len() > MAX_FILE || !found.is_file() => Err(read(io::ErrorKind::InvalidData.into())),
        Ok(_) => fs::read_to_string(file).map(Some).map_err(read),
    }
}

/// The registry of `reference` without any configuration: https, and http on this very machine.
fn plain_origin(reference: &Reference) -> Result<Endpoint, HostsError> {
    let host = reference.api_host();
    let no_url = |_| HostsError::Registry {
        registry: reference.registry().to_owned(),
    };
    let https = Url::parse(&format!("https://{host}/v2")).map_err(no_url)?;
    let base = if is_loopback(&https) {
        Url::parse(&format!("http://{host}/v2")).map_err(no_url)?
    } else {
        https
    };
    Ok(Endpoint {
        base,
        role: Role::Origin,
        resolves: true,
        pulls: true,
        headers: HeaderMap::new(),
        trust: Trust::default(),
    })
}

/// The address that a URL has as its host, if it is one.
pub(super) fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// Whether a URL leads to this very machine by its name alone.
pub(super) fn is_loopback(url: &Url) -> bool {
    match literal_address(url) {
        Some(address) => address.to_canonical().is_loopback(),
        None => url
            .host_str()
            .is_some_and(|name| name == "localhost" || name.ends_with(".localhost")),
    }
}

fn parse(file: &Path, text: &str, reference: &Reference) -> Result<Vec<Endpoint>, HostsError> {
    let raw: RawFile = toml::from_str(text).map_err(|source| HostsError::Parse {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    let RawFile {
        server,
        host,
        capabilities,
        ca,
        client,
        skip_verify,
        header,
        override_path,
    } = raw;
    let settings = RawHost {
        capabilities,
        ca,
        client,
        skip_verify,
        header,
        override_path,
    };
    let plain = plain_origin(reference)?;
    let origin = match server {
        Some(server) => Place {
            file,
            key: "server".to_owned(),
        }
        .endpoint(&server, settings)?,
        None => {
            let server = plain.base.as_str().trim_end_matches("/v2").to_owned();
            Place {
                file,
                key: "server".to_owned(),
            }
            .endpoint(&server, settings)?
        }
    };
    let mut hosts: Vec<_> = host.into_iter().collect();
    // The order in the file is the order of attempts.
    hosts.sort_by_key(|(url, _)| url.span().start);
    let mut endpoints = Vec::with_capacity(hosts.len() + 1);
    for (url, raw) in hosts {
        let url = url.into_inner();
        let place = Place {
            file,
            key: format!("host.{url:?}"),
        };
        endpoints.push(place.endpoint(&url, raw)?);
    }
    endpoints.push(origin);
    for endpoint in &mut endpoints {
        // A configured server may be somebody else, too: only the registry's own name gets its credentials.
        let same = endpoint.base.host_str() == plain.base.host_str()
            && endpoint.base.port_or_known_default() == plain.base.port_or_known_default();
        let hub = reference.registry() == DOCKER_HUB && endpoint.base.host_str() == Some(DOCKER_HUB);
        endpoint.role = if same || hub { Role::Origin } else { Role::Mirror };
    }
    Ok(endpoints)
}

/// A table of a hosts file, for its errors.
struct Place<'a> {
    file: &'a Path,
    key: String,
}

impl Place<'_> {
    fn wrong(&self, key: &str, reason: impl Into<String>) -> HostsError {
        let key = match key {
            "" => self.key.clone(),
            // The server's settings stand at the top of the file.
            key if self.key == "server" => key.to_owned(),
            key => format!("{}.{key}", self.key),
        };
        HostsError::Value {
            file: self.file.to_owned(),
            key,
            reason: reason.into(),
        }
    }

    fn endpoint(&self, url: &str, raw: RawHost) -> Result<Endpoint, HostsError> {
        let RawHost {
            capabilities,
            ca,
            client,
            skip_verify,
            header,
            override_path,
        } = raw;
        let (resolves, pulls) = self.capabilities(capabilities)?;
        let authorities = ca.map(OneOrMany::into_vec).unwrap_or_default();
        Ok(Endpoint {
            base: self.base(url, override_path.unwrap_or(false))?,
            role: Role::Mirror,
            resolves,
            pulls,
            headers: self.headers(header.unwrap_or_default())?,
            trust: Trust {
                authorities: authorities.iter().map(|path| self.beside(path)).collect(),
                client: self.client(client)?,
                verify: if skip_verify == Some(true) {
                    Verify::Nothing
                } else {
                    Verify::Certificate
                },
            },
        })
    }

    fn base(&self, text: &str, path_is_whole: bool) -> Result<Url, HostsError> {
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let mut url = Url::parse(&whole).map_err(|error| self.wrong("", format!("{text:?} is no URL: {error}")))?;
        let plain =
            url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain || url.host_str().is_none() {
            return Err(self.wrong(
                "",
                "must be http://host[:port][/path] or https://…, without user, query or fragment",
            ));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        // containerd's rule: `/v2` is put before the path unless the path is declared to be the whole.
        url.set_path(&match (path_is_whole, path.as_str()) {
            (true, path) => path.to_owned(),
            (false, path) if path.starts_with("/v2/") || path == "/v2" => path.to_owned(),
            (false, path) => format!("/v2{path}"),
        });
        Ok(url)
    }

    fn capabilities(&self, given: Option<Vec<String>>) -> Result<(bool, bool), HostsError> {
        let Some(given) = given else {
            return Ok((true, true));
        };
        for capability in &given {
            if !matches!(capability.as_str(), "pull" | "resolve" | "push") {
                let reason = format!("{capability:?} is not one of \"pull\", \"resolve\", \"push\"");
                return Err(self.wrong("capabilities", reason));
            }
        }
        let has = |name: &str| given.iter().any(|capability| capability == name);
        Ok((has("resolve"), has("pull")))
    }

    fn headers(&self, given: BTreeMap<String, OneOrMany>) -> Result<HeaderMap, HostsError> {
        let mut headers = HeaderMap::new();
        for (name, values) in given {
            // Values may be secrets: only names appear in errors.
            let key = format!("header.{name:?}");
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| self.wrong(&key, "is no header name"))?;
            for value in values.into_vec() {
                let mut value =
                    HeaderValue::from_str(&value).map_err(|_| self.wrong(&key, "has control characters"))?;
                value.set_sensitive(true);
                headers.append(parsed.clone(), value);
            }
        }
        Ok(headers)
    }

    fn client(&self, given: Option<RawClient>) -> Result<Vec<PathBuf>, HostsError> {
        let files = match given {
            None => Vec::new(),
            Some(RawClient::Both(file)) => vec![file],
            Some(RawClient::Files(files)) if files.len() == 1 => files,
            Some(RawClient::Pairs(mut pairs)) if pairs.len() == 1 && pairs[0].len() == 2 => pairs.remove(0),
            Some(RawClient::Files(_) | RawClient::Pairs(_)) => {
                let reason = "must be one PEM file with certificate and key, or one [[\"certificate\", \"key\"]]";
                return Err(self.wrong("client", reason));
            }
        };
        Ok(files.iter().map(|path| self.beside(path)).collect())
    }

    /// Relative paths are relative to the hosts file.
    fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).join(path)
    }
}

#[cfg(test)]
mod tests;
