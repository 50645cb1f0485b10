//! Why a registry did not give what was asked for: host, thing, reason, remedy, and never a secret.

use std::path::PathBuf;

use reqwest::Response;

use super::{MAX_ERROR_BODY, read_bounded};

/// A registry, mirror or token endpoint did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection: no such host, refused, TLS, timeout.
    #[error("reach registry {host}: check its name, the network and hosts.toml")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// It took too long to answer.
    #[error("registry {host} did not answer within {seconds} s; try again later or name a mirror in hosts.toml")]
    NoAnswer {
        /// Host and port.
        host: String,
        /// The limit.
        seconds: u64,
    },
    /// The connection broke in the middle of a body.
    #[error("registry {host} broke off in the middle of its answer; try again")]
    Broken {
        /// Host and port.
        host: String,
        /// How.
        source: reqwest::Error,
    },
    /// Nothing came any more.
    #[error("registry {host} sent nothing for {seconds} s; try again later or name a mirror in hosts.toml")]
    Stalled {
        /// Host and port.
        host: String,
        /// The limit.
        seconds: u64,
    },
    /// 404.
    #[error("registry {host} has no {what}{said}; check the image's name and tag")]
    NotFound {
        /// Host and port.
        host: String,
        /// Repository and what of it.
        what: String,
        /// The registry's own words, cleaned, in parentheses; or nothing.
        said: String,
    },
    /// 401 or 403.
    #[error("registry {host} denies {what}{said}; {remedy}")]
    Denied {
        /// Host and port.
        host: String,
        /// Repository and what of it.
        what: String,
        /// The registry's own words.
        said: String,
        /// What to do.
        remedy: &'static str,
    },
    /// 429.
    #[error("registry {host} takes no more requests now{said}; try again later, or log in for a higher limit")]
    Busy {
        /// Host and port.
        host: String,
        /// The registry's own words.
        said: String,
    },
    /// Any other status.
    #[error("registry {host} answers {status} for {what}{said}; ask who runs it")]
    Status {
        /// Host and port.
        host: String,
        /// Repository and what of it.
        what: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words.
        said: String,
    },
    /// A body beyond its limit.
    #[error("registry {host} sends more than {limit} bytes for {what}, which is refused")]
    TooBig {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A redirect that must not be followed.
    #[error("registry {host} redirects to {target}, which is refused: {reason}")]
    Redirect {
        /// Host and port.
        host: String,
        /// Where to, without query.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// It does not speak the protocol.
    #[error("registry {host} does not behave like a registry: {reason}; check hosts.toml and what runs there")]
    Protocol {
        /// Host and port.
        host: String,
        /// What it did.
        reason: String,
    },
    /// It wants a token from a place that must not get credentials.
    #[error("registry {host} sends logins to {realm}, which is refused: {reason}")]
    Realm {
        /// Host and port.
        host: String,
        /// The token endpoint, without query.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// A PEM file of hosts.toml can't be read.
    #[error("read {}, which hosts.toml names", file.display())]
    TrustFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A PEM file of hosts.toml has no usable certificate or key.
    #[error("use {}, which hosts.toml names, as PEM", file.display())]
    TrustPem {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: reqwest::Error,
    },
    /// No HTTP client can be made.
    #[error("set up the TLS client from the system's certificate authorities")]
    Client {
        /// Why not.
        source: reqwest::Error,
    },
}

/// A registry's explanation of an error, shortened to one clean line in parentheses, or nothing.
pub(super) async fn said(response: Response) -> String {
    let bytes = read_bounded(response, MAX_ERROR_BODY, "", "").await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words = message_of(&text).unwrap_or_default();
    let line = clean(&words);
    if line.is_empty() { line } else { format!(" ({line})") }
}

/// The first message of an OCI error document. Other bodies (HTML of some proxy) help nobody.
fn message_of(text: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let first = document.get("errors")?.get(0)?;
    let word = |key: &str| first.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    Some(format!("{} {}", word("code"), word("message")))
}

/// Printable characters only, single spaces, at most 200 characters, nothing that looks like a token.
pub(super) fn clean(text: &str) -> String {
    const LONGEST: usize = 200;
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .filter(|c| *c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric())
        .collect();
    // Words of this length are tokens, signatures or base64; digests are known by their prefix.
    let words = printable.split(' ').filter(|word| !word.is_empty()).map(|word| {
        if word.len() > 80 || (word.contains('=') && word.len() > 24) {
            "[redacted]"
        } else {
            word
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_a_registry_s_words_are_cleaned_and_shortened() {
        let hostile = format!(
            "{{\"errors\":[{{\"code\":\"DENIED\",\"message\":\"no\\n\\u001b[31mway {} X-Sig=AAAABBBBCCCCDDDDEEEEFFFF {}\"}}]}}",
            "s".repeat(300),
            "word ".repeat(300)
        );
        let line = clean(&message_of(&hostile).unwrap());
        assert!(
            line.starts_with("DENIED no [31mway [redacted] [redacted] word"),
            "{line}"
        );
        assert!(line.chars().count() <= 200);
        assert_eq!(message_of("<html>"), None);
    }
}
