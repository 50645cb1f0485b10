//! One registry, or mirror, as one pull talks to it: OCI distribution over HTTP, within limits.
//!
//! Everything that arrives is hostile until its digest is checked; this room bounds sizes, times, redirects and where
//! credentials go, and leaves digests to its callers.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};

use crate::domain::image::Digest;

use super::auth::Login;
use super::hosts::{Endpoint, Role};

pub(super) mod challenge;
pub(super) mod client;
pub(super) mod error;
mod token;

use client::Clients;
use error::RegistryError;

/// Most bytes of a manifest, an index or a configuration (yardstick R1).
pub(super) const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;
/// Most bytes read of an error's body (yardstick R14).
const MAX_ERROR_BODY: u64 = 8 * 1024;
/// A connection on which nothing arrives for this long is given up (yardstick R11).
const STALL: Duration = Duration::from_secs(60);

/// What manifests may look like.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                              application/vnd.docker.distribution.manifest.list.v2+json, \
                              application/vnd.docker.distribution.manifest.v2+json";

/// One endpoint for one repository during one pull; remembers how it logged in.
#[derive(Debug)]
pub(super) struct Session {
    endpoint: Endpoint,
    /// The registry as users name it, for mirrors that serve several.
    namespace: String,
    repository: String,
    login: Login,
    clients: Clients,
    authorization: std::sync::Mutex<Option<HeaderValue>>,
}

/// A document as it came.
#[derive(Debug)]
pub(super) struct Document {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// `Content-Type` without parameters, lower case; empty if there was none.
    pub(super) content_type: String,
    /// `Docker-Content-Digest`, if the registry sent one.
    pub(super) claimed: Option<String>,
}

/// Whom a session is for.
#[derive(Debug)]
pub(super) struct Target {
    /// The registry as users name it.
    pub(super) registry: String,
    /// The repository.
    pub(super) repository: String,
    /// Credentials; used only where the endpoint is the registry itself.
    pub(super) login: Login,
}

impl Session {
    /// Prepares to talk to `endpoint`; nothing is sent yet.
    ///
    /// # Errors
    /// The endpoint's certificates can't be used.
    pub(super) fn new(endpoint: Endpoint, target: &Target, clients: &Clients) -> Result<Self, RegistryError> {
        let login = match endpoint.role {
            Role::Origin => target.login.clone(),
            Role::Mirror => Login::Anonymous,
        };
        let preset = match &login {
            Login::Bearer { token } => Some(token::bearer(token, &endpoint.base)?),
            Login::Anonymous | Login::Password { .. } | Login::Refresh { .. } => None,
        };
        Ok(Self {
            clients: clients.trusting(&endpoint.trust)?,
            endpoint,
            namespace: target.registry.clone(),
            repository: target.repository.clone(),
            login,
            authorization: std::sync::Mutex::new(preset),
        })
    }

    /// Whether tags may be resolved here.
    pub(super) fn resolves(&self) -> bool {
        self.endpoint.resolves
    }

    /// Whether content may be fetched here.
    pub(super) fn pulls(&self) -> bool {
        self.endpoint.pulls
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> String {
        authority(&self.endpoint.base)
    }

    /// A manifest or index by tag or digest, whole.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn manifest(&self, selector: &str) -> Result<Document, RegistryError> {
        let what = format!("{}:{selector}", self.repository);
        let response = self
            .request(&["manifests", selector], Some(MANIFEST_TYPES), None)
            .await?;
        self.document(response, &what).await
    }

    /// A small blob, whole.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn small_blob(&self, digest: &Digest) -> Result<Document, RegistryError> {
        let response = self.request(&["blobs", digest.as_str()], None, None).await?;
        self.document(response, digest.as_str()).await
    }

    /// A blob as a stream, from byte `offset` on if the server can (status 206), else from its start (200).
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Blob, RegistryError> {
        let response = self
            .request(&["blobs", digest.as_str()], None, (offset > 0).then_some(offset))
            .await?;
        let starts_at = match response.status() {
            StatusCode::PARTIAL_CONTENT => match content_range_start(response.headers()) {
                Some(start) if start == offset => offset,
                _ => {
                    return Err(RegistryError::Protocol {
                        host: self.host(),
                        reason: "it answered a request for a range with another one".to_owned(),
                    });
                }
            },
            _ => 0,
        };
        Ok(Blob {
            host: self.host(),
            response,
            starts_at,
        })
    }

    async fn document(&self, response: Response, what: &str) -> Result<Document, RegistryError> {
        let text = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let content_type = text("content-type").unwrap_or_default();
        let content_type = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let claimed = text("docker-content-digest");
        Ok(Document {
            bytes: read_bounded(response, MAX_DOCUMENT, &self.host(), what).await?,
            content_type,
            claimed,
        })
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(self.repository.split('/')).extend(path);
        }
        if self.endpoint.role == Role::Mirror {
            // One mirror may stand for several registries; this is how it is told which one (containerd's convention).
            url.query_pairs_mut().append_pair("ns", &self.namespace);
        }
        url
    }

    /// Sends a GET, logging in once if asked to; the answer's status is 200 or 206.
    async fn request(
        &self,
        path: &[&str],
        accept: Option<&str>,
        offset: Option<u64>,
    ) -> Result<Response, RegistryError> {
        let url = self.url(path);
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept.and_then(|types| HeaderValue::from_str(types).ok()) {
            headers.insert(header::ACCEPT, accept);
        }
        // A compressed transfer would not be the bytes that the digest is of.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) = offset.and_then(|at| HeaderValue::from_str(&format!("bytes={at}-")).ok()) {
            headers.insert(header::RANGE, range);
        }
        let used = self.authorization();
        let response = self.get(&url, &headers, used.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.judge(response, path).await;
        }
        // Several layers meet an expired token at once: whoever comes second finds it replaced already.
        if self.authorization() == used {
            self.log_in(response.headers()).await?;
        }
        let response = self.get(&url, &headers, self.authorization()).await?;
        self.judge(response, path).await
    }

    async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut private = self.endpoint.headers.clone();
        if let Some(authorization) = authorization {
            private.insert(header::AUTHORIZATION, authorization);
        }
        self.clients.follow(url, headers, &private).await
    }

    fn authorization(&self) -> Option<HeaderValue> {
        let held = self
            .authorization
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        held.clone()
    }

    async fn log_in(&self, answer: &HeaderMap) -> Result<(), RegistryError> {
        let challenges: Vec<_> = answer
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .take(4)
            .flat_map(challenge::parse)
            .collect();
        let authorization = token::answer(self, &challenges).await?;
        let mut held = self
            .authorization
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *held = Some(authorization);
        Ok(())
    }

    async fn judge(&self, response: Response, path: &[&str]) -> Result<Response, RegistryError> {
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        let host = self.host();
        let what = format!("{} {}", self.repository, path.join("/"));
        let said = error::said(response).await;
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { host, what, said },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                host,
                what,
                said,
                remedy: self.login_remedy(),
            },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::Busy { host, said },
            status => RegistryError::Status {
                host,
                what,
                status: status.as_u16(),
                said,
            },
        })
    }

    fn login_remedy(&self) -> &'static str {
        match (self.endpoint.role, &self.login) {
            (Role::Mirror, _) => "check the mirror's access rules or give it a header in hosts.toml",
            (Role::Origin, Login::Anonymous) => {
                "it may not exist; if it is private, give the pod an imagePullSecret for this registry"
            }
            (Role::Origin, _) => "check that the credentials are right and allowed to pull this repository",
        }
    }
}

/// A blob on its way.
#[derive(Debug)]
pub(super) struct Blob {
    host: String,
    response: Response,
    /// Position in the blob of the first byte that comes.
    pub(super) starts_at: u64,
}

impl Blob {
    /// The next piece; `None` at the end of the body.
    ///
    /// # Errors
    /// The connection broke or stalled.
    pub(super) async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, RegistryError> {
        next_chunk(&mut self.response, &self.host).await
    }
}

async fn next_chunk(response: &mut Response, host: &str) -> Result<Option<bytes::Bytes>, RegistryError> {
    match tokio::time::timeout(STALL, response.chunk()).await {
        Err(_) => Err(RegistryError::Stalled {
            host: host.to_owned(),
            seconds: STALL.as_secs(),
        }),
        Ok(chunk) => chunk.map_err(|source| RegistryError::Broken {
            host: host.to_owned(),
            source: source.without_url(),
        }),
    }
}

async fn read_bounded(mut response: Response, limit: u64, host: &str, what: &str) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut response, host).await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(RegistryError::TooBig {
                host: host.to_owned(),
                what: what.to_owned(),
                limit,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// `host:port` of a URL, the port only where it is not the scheme's.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn content_range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// GET is the only method a pull needs; token endpoints may want POST.
const GET: Method = Method::GET;
