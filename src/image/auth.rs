//! Which credentials go to which registry: the CRI's forms in their order (contract §9.2).
//!
//! Credentials go to the host they are for and nowhere else: not to mirrors, not along redirects.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reference::{DOCKER_HUB, Reference};
use crate::domain::image::Credentials;

/// How to introduce oneself to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Not at all.
    Anonymous,
    /// User and password, as basic auth or to get a token.
    Password {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth refresh token, to get a token with.
    Refresh {
        /// The token.
        token: String,
    },
    /// A bearer token, sent as it is.
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(redacted)",
            Self::Refresh { .. } => "Refresh(redacted)",
            Self::Bearer { .. } => "Bearer(redacted)",
        })
    }
}

/// The credentials of a request can't be used. Never quotes them.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// `auth` is not base64.
    #[error("the credentials for this image have an auth field that is not base64; make the pull secret again")]
    NotBase64,
    /// `auth` is base64 of something else.
    #[error("the credentials for this image have an auth field that is not user:password; make the pull secret again")]
    NotUserPassword,
}

/// What to log in with at the registry of `reference`.
///
/// # Errors
/// `auth` is what has to be used and can't be read.
pub(super) fn login(credentials: Option<&Credentials>, reference: &Reference) -> Result<Login, CredentialsError> {
    let Some(credentials) = credentials else {
        return Ok(Login::Anonymous);
    };
    let Credentials {
        username,
        password,
        auth,
        server_address,
        identity_token,
        registry_token,
    } = credentials;
    if !server_address.is_empty() && server_name(server_address) != server_name(reference.registry()) {
        return Ok(Login::Anonymous);
    }
    if !username.is_empty() {
        return Ok(Login::Password {
            username: username.clone(),
            password: password.clone(),
        });
    }
    if !identity_token.is_empty() {
        return Ok(Login::Refresh {
            token: identity_token.clone(),
        });
    }
    if !auth.is_empty() {
        return decode(auth);
    }
    if !registry_token.is_empty() {
        return Ok(Login::Bearer {
            token: registry_token.clone(),
        });
    }
    Ok(Login::Anonymous)
}

fn decode(auth: &str) -> Result<Login, CredentialsError> {
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| CredentialsError::NotBase64)?;
    let text = String::from_utf8(bytes).map_err(|_| CredentialsError::NotUserPassword)?;
    // Some clients pad the decoded text with NULs (contract §9.2).
    let (username, password) = text
        .trim_end_matches('\0')
        .split_once(':')
        .ok_or(CredentialsError::NotUserPassword)?;
    Ok(Login::Password {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// The host (with port, if not the scheme's own) of what may be a URL as docker's configuration has them.
fn server_name(address: &str) -> String {
    let (address, default_port) = match address.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, ":80"),
        Some((_, rest)) => (rest, ":443"),
        None => (address, ":443"),
    };
    let host = address.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests;
