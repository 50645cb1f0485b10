//! Logging in: a challenge answered with basic auth or with a token from the registry's token endpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::super::auth::Login;
use super::challenge::Challenge;
use super::client::{answered, bare, is_internal};
use super::error::said;
use super::{GET, RegistryError, Session, read_bounded};
use crate::image::hosts::is_loopback;

/// Most bytes of a token endpoint's answer (yardstick R10).
const MAX_TOKEN_ANSWER: u64 = 256 * 1024;
/// Longest scope repeated to a token endpoint.
const MAX_SCOPE: usize = 512;

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The `Authorization` that answers one of `challenges`.
///
/// # Errors
/// None of them can be answered, or the token endpoint refuses.
pub(super) async fn answer(session: &Session, challenges: &[Challenge]) -> Result<HeaderValue, RegistryError> {
    let protocol = |reason: &str| RegistryError::Protocol {
        host: session.host(),
        reason: reason.to_owned(),
    };
    for challenge in challenges {
        match challenge {
            Challenge::Bearer { realm, service, scope } => {
                let realm = allowed_realm(session, realm)?;
                return fetch(session, realm, service.as_deref(), scope.as_deref()).await;
            }
            Challenge::Basic => {
                if let Login::Password { username, password } = &session.login {
                    return basic(username, password).ok_or_else(|| protocol("the credentials can't be sent"));
                }
            }
        }
    }
    if challenges.contains(&Challenge::Basic) {
        return Err(RegistryError::Denied {
            host: session.host(),
            what: session.repository.clone(),
            said: String::new(),
            remedy: session.login_remedy(),
        });
    }
    Err(protocol("it asks for a login without saying how"))
}

/// The token as a header.
///
/// # Errors
/// It can't be one (yardstick R10: line breaks).
pub(super) fn bearer(token: &str, base: &Url) -> Result<HeaderValue, RegistryError> {
    header(format!("Bearer {token}")).ok_or_else(|| RegistryError::Protocol {
        host: super::authority(base),
        reason: "the token for it is not text that can be sent".to_owned(),
    })
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    header(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn header(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// CVE-2019-10214 class: a token endpoint sees credentials, so it must be at least as well protected as the registry,
/// and nothing outside this machine may name one inside.
fn allowed_realm(session: &Session, realm: &str) -> Result<Url, RegistryError> {
    let base = &session.endpoint.base;
    let refuse = |shown: String, reason| RegistryError::Realm {
        host: session.host(),
        realm: shown,
        reason,
    };
    let url = Url::parse(realm).map_err(|_| refuse("an invalid URL".to_owned(), "it is no URL"))?;
    let shown = bare(&url);
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse(shown, "it must be http or https"));
    }
    let same_host = url.host_str() == base.host_str();
    if url.scheme() == "http" && !(base.scheme() == "http" && (same_host || is_loopback(base))) {
        return Err(refuse(shown, "it is plain http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(shown, "it has a user name in it"));
    }
    if is_internal(&url) && !same_host && !is_loopback(base) {
        return Err(refuse(shown, "it leads to this machine or its link"));
    }
    Ok(url)
}

async fn fetch(
    session: &Session,
    realm: Url,
    service: Option<&str>,
    scope: Option<&str>,
) -> Result<HeaderValue, RegistryError> {
    let scope = wanted_scope(session, scope);
    let own = realm.origin() == session.endpoint.base.origin();
    let client = session.clients.client(&realm, own)?;
    let request = match &session.login {
        Login::Refresh { token } => {
            let form = form(&realm, service, &scope, token);
            client
                .request(Method::POST, realm.clone())
                .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form)
        }
        Login::Password { username, password } => client
            .request(GET, asked(&realm, service, &scope))
            .basic_auth(username, Some(password)),
        Login::Anonymous | Login::Bearer { .. } => client.request(GET, asked(&realm, service, &scope)),
    };
    let response = answered(&realm, request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(session, &realm, response).await);
    }
    let host = super::authority(&realm);
    let bytes = read_bounded(response, MAX_TOKEN_ANSWER, &host, "a token").await?;
    let protocol = |reason: &str| RegistryError::Protocol {
        host: host.clone(),
        reason: reason.to_owned(),
    };
    let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| protocol("its token answer is no JSON"))?;
    let token = answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| protocol("its token answer has no token"))?;
    bearer(&token, &realm)
}

async fn refused(session: &Session, realm: &Url, response: Response) -> RegistryError {
    let status = response.status().as_u16();
    let said = said(response).await;
    let host = super::authority(realm);
    let what = session.repository.clone();
    match status {
        400 | 401 | 403 => RegistryError::Denied {
            host,
            what,
            said,
            remedy: session.login_remedy(),
        },
        429 => RegistryError::Busy { host, said },
        status => RegistryError::Status {
            host,
            what,
            status,
            said,
        },
    }
}

/// The scope the registry named if it is a plain one to pull from a repository (a mirror's may have another name
/// there), else our own: a registry must not make us fetch a token for more.
fn wanted_scope(session: &Session, given: Option<&str>) -> String {
    let plain = |scope: &&str| {
        scope.len() <= MAX_SCOPE
            && scope.starts_with("repository:")
            && scope.ends_with(":pull")
            && scope.bytes().all(|b| b.is_ascii_graphic())
    };
    match given.filter(plain) {
        Some(scope) => scope.to_owned(),
        None => format!("repository:{}:pull", session.repository),
    }
}

fn asked(realm: &Url, service: Option<&str>, scope: &str) -> Url {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
    }
    url
}

/// The OAuth form of docker's token endpoints; a URL's query has the same encoding.
fn form(realm: &Url, service: Option<&str>, scope: &str, token: &str) -> String {
    let mut url = asked(realm, service, scope);
    url.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "copepod")
        .append_pair("refresh_token", token);
    url.query().unwrap_or_default().to_owned()
}
