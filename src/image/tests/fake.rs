//! An image in pieces that tests bend before a [`super::server::Server`] serves them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::archive::gzip;
use super::server::{Answer, Asked, answer};
use crate::image::verify::digest_of;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What a registry has: bodies by digest or tag, below one repository `team/app`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Fake {
    /// An image of these tars, gzip, with the tag `1`.
    pub(crate) fn image(tars: &[Vec<u8>]) -> Self {
        let mut fake = Self::default();
        let layers: Vec<Value> = tars.iter().map(|tar| fake.layer(gzip(tar), "tar+gzip")).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest_of(tar).to_string()).collect();
        fake.finish(&layers, &diff_ids);
        fake
    }

    pub(crate) fn layer(&mut self, blob: Vec<u8>, kind: &str) -> Value {
        let media_type = format!("application/vnd.oci.image.layer.v1.{kind}");
        self.blob(blob, &media_type)
    }

    pub(crate) fn blob(&mut self, blob: Vec<u8>, media_type: &str) -> Value {
        let digest = digest_of(&blob).to_string();
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": blob.len()});
        self.blobs.insert(digest, blob);
        descriptor
    }

    pub(crate) fn finish(&mut self, layers: &[Value], diff_ids: &[String]) -> Value {
        let config = json!({
            "architecture": arch(), "os": "linux",
            "config": {"User": "7:8", "Env": ["A=b", "HOME"], "Cmd": ["/bin/sh"], "Volumes": {"/v": {}}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let config = self.blob(config, "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest("1", MANIFEST, manifest.to_string())
    }

    /// Adds it by tag and by digest; returns its descriptor.
    pub(crate) fn manifest(&mut self, tag: &str, media_type: &str, text: String) -> Value {
        let bytes = text.into_bytes();
        let digest = digest_of(&bytes).to_string();
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.manifests
            .insert(tag.to_owned(), (media_type.to_owned(), bytes.clone()));
        self.manifests.insert(digest, (media_type.to_owned(), bytes));
        descriptor
    }

    pub(crate) fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.split('?').next().unwrap_or_default();
        if let Some(selector) = path.strip_prefix("/v2/team/app/manifests/")
            && let Some((media_type, bytes)) = self.manifests.get(selector)
        {
            return answer(200, bytes.clone()).with("content-type", media_type);
        }
        if let Some(digest) = path.strip_prefix("/v2/team/app/blobs/")
            && let Some(bytes) = self.blobs.get(digest)
        {
            return answer(200, bytes.clone());
        }
        answer(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        )
    }
}
