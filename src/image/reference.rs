//! Image references as users write them, made whole: registry, repository, and what of it is meant.
//!
//! The grammar and the defaults (`docker.io`, `library/`, `:latest`) are those that docker made common and the CRI
//! takes for granted (contract §9.1). Parsing is pure and never looks anything up.

use std::fmt;
use std::str::FromStr;

use crate::domain::image::{Digest, InvalidDigest};

/// Longest `registry/repository`, in bytes; the limit every registry knows.
const MAX_NAME: usize = 255;
/// Longest tag, in bytes (OCI distribution).
const MAX_TAG: usize = 128;
/// Longer input is not even looked at.
const MAX_INPUT: usize = 1024;

/// Where users believe Docker Hub is.
pub const DOCKER_HUB: &str = "docker.io";
/// Where its API answers.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// A whole reference: everything defaulted, nothing ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The text is no image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("image reference {text:?} is not valid: {reason}; write it as [registry[:port]/]name[:tag][@sha256:digest]")]
pub struct InvalidReference {
    /// What was given, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// The registry as users name it, with its port if any: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host (and port) that answers for the registry.
    #[must_use]
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER_HUB {
            DOCKER_HUB_API
        } else {
            &self.registry
        }
    }

    /// The path in the registry: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` if neither tag nor digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, only for a reference by tag: what was pulled by digest has no tag (contract §9.1).
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        match (&self.tag, &self.digest) {
            (Some(tag), None) => Some(format!("{}:{tag}", self.name())),
            (_, Some(_)) | (None, None) => None,
        }
    }

    /// `registry/repository@digest` for what this resolved to.
    #[must_use]
    pub fn digested(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    #[must_use]
    pub fn selector(&self) -> &str {
        self.digest
            .as_ref()
            .map(Digest::as_str)
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|reason| InvalidReference {
            text: text.chars().take(100).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_INPUT {
        return Err("it is too long");
    }
    let (rest, digest) = match text.split_once('@') {
        None => (text, None),
        Some((rest, digest)) => {
            let parsed: Result<Digest, InvalidDigest> = digest.parse();
            let digest = parsed.map_err(|_| "its digest is not sha256: and 64 lowercase hexadecimal digits")?;
            (rest, Some(digest))
        }
    };
    let (registry, path) = split_registry(rest);
    // A colon in the path can only start the tag: registry and port are gone.
    let (path, tag) = match path.split_once(':') {
        None => (path, None),
        Some((path, tag)) => (path, Some(check_tag(tag)?)),
    };
    let registry = match registry {
        None | Some("index.docker.io" | DOCKER_HUB_API) => DOCKER_HUB,
        Some(host) => check_host(host)?,
    };
    path.split('/').try_for_each(check_component)?;
    let repository = if registry == DOCKER_HUB && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    // 64 hexadecimal digits alone are an image id everywhere; as a name they could shadow one.
    if rest == path && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("it is an image id, which can't be pulled");
    }
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("registry and repository together are longer than 255 characters");
    }
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag,
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The first component is a registry if it can't be one of a repository: docker's rule.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':', '['])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        Some(_) | None => (None, text),
    }
}

fn check_host(host: &str) -> Result<&str, &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("its registry has an unclosed [")?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "its registry is no IPv6 address between [ and ]")?;
            (None, port)
        }
        None => match host.split_once(':') {
            Some((name, _)) => (Some(name), &host[name.len()..]),
            None => (Some(host), ""),
        },
    };
    if let Some(port) = port.strip_prefix(':') {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || port.parse::<u16>().is_err() {
            return Err("the port of its registry is not a number below 65536");
        }
    } else if !port.is_empty() {
        return Err("its registry has characters after ]");
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name {
        Some(name) if !name.split('.').all(label) => Err("its registry is no host name"),
        Some(_) | None => Ok(host),
    }
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn check_component(component: &str) -> Result<(), &'static str> {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| alphanumeric(*b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return Err("each part of the repository must start and end with a lowercase letter or digit");
    }
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    for separator in separators {
        let known = matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if !known {
            return Err("the repository may only have lowercase letters, digits, and . _ __ - between them");
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<String, &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let well_formed = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if well_formed {
        Ok(tag.to_owned())
    } else {
        Err("a tag is 1 to 128 letters, digits, and _ . - and doesn't start with . or -")
    }
}

#[cfg(test)]
mod tests;
