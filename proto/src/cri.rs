//! The Kubernetes container runtime interface, version 1 (package `runtime.v1`), generated from `proto/cri`.
//!
//! Maps are ordered. Servers live in [`runtime_service_server`] and [`image_service_server`], clients beside them.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated: comments come from the .proto files, where a field that says it all has none"
)]

use std::fmt;

tonic::include_proto!("runtime.v1");

/// Credentials are the one message that must never be printed: only what is not secret shows, and for the secrets
/// whether they are set.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            username,
            password,
            auth,
            server_address,
            identity_token,
            registry_token,
        } = self;
        f.debug_struct("AuthConfig")
            .field("username", username)
            .field("password", &redacted(password))
            .field("auth", &redacted(auth))
            .field("server_address", server_address)
            .field("identity_token", &redacted(identity_token))
            .field("registry_token", &redacted(registry_token))
            .finish()
    }
}

fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "[redacted]" }
}
