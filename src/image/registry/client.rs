//! HTTP with redirects followed by hand, because a redirect decides who sees credentials.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Response, Url};

use super::super::hosts::{Trust, Verify, is_loopback, literal_address};
use super::{GET, RegistryError, authority};

/// Most redirects of one request (yardstick R8).
const MAX_REDIRECTS: usize = 10;
/// Time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(30);
/// Time until an answer's headers are there.
const ANSWER: Duration = Duration::from_secs(60);

/// HTTP clients by whom they trust; cheap to clone, connections are shared.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Clients {
    shared: Arc<Shared>,
    /// The client of an endpoint with TLS settings of its own, for that endpoint's origin only.
    special: Option<Client>,
}

#[derive(Debug, Default)]
struct Shared {
    /// With the system's certificate authorities. Made when first needed: loading them costs memory.
    system: OnceLock<Client>,
    /// For this machine: no proxy in between, no authorities to load.
    loopback: OnceLock<Client>,
}

impl Clients {
    /// The same clients, with an own one for the endpoint if its settings ask for it.
    ///
    /// # Errors
    /// A PEM file can't be used.
    pub(super) fn trusting(&self, trust: &Trust) -> Result<Self, RegistryError> {
        let special = if *trust == Trust::default() {
            None
        } else {
            Some(special(trust)?)
        };
        Ok(Self {
            shared: Arc::clone(&self.shared),
            special,
        })
    }

    /// GET `url`, following redirects. `headers` go everywhere, `private` only to the origin of `url`.
    ///
    /// # Errors
    /// No answer, or a redirect that must not be followed.
    pub(super) async fn follow(
        &self,
        url: &Url,
        headers: &HeaderMap,
        private: &HeaderMap,
    ) -> Result<Response, RegistryError> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = same_origin(&at, url);
            let client = self.client(&at, own)?;
            let mut request = client.request(GET, at.clone()).headers(headers.clone());
            if own {
                request = request.headers(private.clone());
            }
            let response = answered(&at, request).await?;
            let status = response.status();
            let redirects = matches!(
                status,
                StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT
            );
            if !redirects {
                return Ok(response);
            }
            at = target(url, &at, response.headers())?;
        }
        Err(RegistryError::Redirect {
            host: authority(url),
            target: bare(&at),
            reason: "more than 10 redirects; there may be a loop",
        })
    }

    /// The client for one request to `url`.
    pub(super) fn client(&self, url: &Url, own: bool) -> Result<Client, RegistryError> {
        match &self.special {
            Some(special) if own => return Ok(special.clone()),
            Some(_) | None => {}
        }
        let (cell, builder) = if is_loopback(url) && url.scheme() == "http" {
            (&self.shared.loopback, builder().no_proxy().tls_certs_only([]))
        } else {
            (&self.shared.system, builder())
        };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = builder.build().map_err(|source| RegistryError::Client { source })?;
        Ok(cell.get_or_init(|| client).clone())
    }
}

/// Sends one request and waits for the answer's headers.
pub(super) async fn answered(url: &Url, request: reqwest::RequestBuilder) -> Result<Response, RegistryError> {
    match tokio::time::timeout(ANSWER, request.send()).await {
        Err(_) => Err(RegistryError::NoAnswer {
            host: authority(url),
            seconds: ANSWER.as_secs(),
        }),
        Ok(answer) => answer.map_err(|source| RegistryError::Unreachable {
            host: authority(url),
            source: source.without_url(),
        }),
    }
}

/// Where a redirect leads, if it may be followed.
fn target(origin: &Url, from: &Url, headers: &HeaderMap) -> Result<Url, RegistryError> {
    let refuse = |target: &str, reason| RegistryError::Redirect {
        host: authority(origin),
        target: target.to_owned(),
        reason,
    };
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| refuse("nowhere", "it has no readable Location"))?;
    let url = from
        .join(location)
        .map_err(|_| refuse("an invalid URL", "its Location is no URL"))?;
    let shown = bare(&url);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(&shown, "only http and https are followed"));
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err(refuse(&shown, "it leaves https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(&shown, "it has a user name in it"));
    }
    if is_internal(&url) && !same_host(origin, &url) && !is_loopback(origin) {
        return Err(refuse(&shown, "it leads to this machine or its link"));
    }
    Ok(url)
}

/// This machine, or link-local (where clouds keep instance credentials): nothing outside may send us there.
pub(super) fn is_internal(url: &Url) -> bool {
    let Some(address) = literal_address(url) else {
        return is_loopback(url);
    };
    match address.to_canonical() {
        std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str()
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && same_host(a, b) && a.port_or_known_default() == b.port_or_known_default()
}

/// A URL without query and user, which may hold secrets, shortened: it is the other side's.
pub(super) fn bare(url: &Url) -> String {
    let whole = format!("{}://{}{}", url.scheme(), authority(url), url.path());
    whole.chars().take(200).collect()
}

fn builder() -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("copepod/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(30))
}

fn special(trust: &Trust) -> Result<Client, RegistryError> {
    let read = |file: &std::path::PathBuf| {
        fs::read(file).map_err(|source| RegistryError::TrustFile {
            file: file.clone(),
            source,
        })
    };
    let mut builder = builder();
    let mut authorities = Vec::new();
    for file in &trust.authorities {
        let found = Certificate::from_pem_bundle(&read(file)?).map_err(|source| RegistryError::TrustPem {
            file: file.clone(),
            source,
        })?;
        authorities.extend(found);
    }
    if !authorities.is_empty() {
        builder = builder.tls_certs_merge(authorities);
    }
    if let Some(first) = trust.client.first() {
        let mut pem = Vec::new();
        for file in &trust.client {
            pem.extend(read(file)?);
            pem.push(b'\n');
        }
        let identity = Identity::from_pem(&pem).map_err(|source| RegistryError::TrustPem {
            file: first.clone(),
            source,
        })?;
        builder = builder.identity(identity);
    }
    if trust.verify == Verify::Nothing {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|source| RegistryError::Client { source })
}
