use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn host() -> Platform {
    platform("linux", "amd64", "v1")
}

fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
    Platform {
        os: os.into(),
        architecture: architecture.into(),
        variant: variant.into(),
    }
}

fn digest(n: usize) -> String {
    format!("sha256:{n:064x}")
}

fn entry(n: usize, os: &str, architecture: &str, variant: &str) -> Value {
    let mut platform = json!({"os": os, "architecture": architecture});
    if !variant.is_empty() {
        platform["variant"] = json!(variant);
    }
    json!({"mediaType": OCI_MANIFEST, "digest": digest(n), "size": 5, "platform": platform})
}

fn index_of(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn manifest_of(layers: &[Value]) -> Value {
    let config = json!({"mediaType": OCI_CONFIG, "digest": D, "size": 2});
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

fn read(document: &Value) -> Result<Found, ManifestError> {
    parse(document.to_string().as_bytes(), "", None)
}

fn chosen(entries: &[Value], host: &Platform) -> Result<usize, ManifestError> {
    let Found::Index(index) = read(&index_of(entries))? else {
        panic!("an index was given");
    };
    let link = index.choose(host)?;
    Ok(usize::from_str_radix(link.digest.hex(), 16).unwrap())
}

#[test]
fn the_best_variant_for_this_machine_is_chosen() {
    let attestation = json!({
        "mediaType": OCI_MANIFEST, "digest": digest(9), "size": 5,
        "platform": {"os": "linux", "architecture": "amd64"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    });
    let bare = json!({"mediaType": OCI_MANIFEST, "digest": digest(8), "size": 5});
    let amd = [
        attestation,
        bare.clone(),
        entry(1, "linux", "arm64", ""),
        entry(2, "linux", "amd64", ""),
        entry(3, "linux", "amd64", ""),
    ];
    assert_eq!(chosen(&amd, &host()).unwrap(), 2);
    assert_eq!(chosen(&amd[..2], &host()).unwrap(), 8, "its configuration will tell");
    let arm = [
        entry(1, "linux", "arm", "v5"),
        entry(2, "linux", "arm", "v6"),
        entry(3, "linux", "arm", "v8"),
    ];
    assert_eq!(chosen(&arm, &platform("linux", "arm", "v7")).unwrap(), 2);
    let only_v3 = [entry(1, "linux", "amd64", "v3"), entry(2, "windows", "amd64", "")];
    let error = chosen(&only_v3, &host()).unwrap_err().to_string();
    assert!(
        error.contains("linux/amd64") && error.contains("linux/amd64/v3, windows/amd64"),
        "{error}"
    );
    assert!(
        chosen(&[], &host())
            .unwrap_err()
            .to_string()
            .contains("no image at all")
    );
}

#[test]
fn layers_are_known_by_their_media_type() {
    let kinds = [
        ("application/vnd.oci.image.layer.v1.tar", Compression::None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            Compression::Gzip,
        ),
    ];
    for (media_type, compression) in kinds {
        let layer = json!({"mediaType": media_type, "digest": D, "size": 7});
        let Found::Manifest(manifest) = read(&manifest_of(&[layer])).unwrap() else {
            panic!("a manifest was given");
        };
        let (descriptor, found) = &manifest.layers[0];
        assert_eq!(
            (descriptor.media_type.as_str(), descriptor.size, *found),
            (media_type, 7, compression)
        );
    }
    for media_type in ["application/vnd.oci.image.layer.v1.tar+xz", "text/html", ""] {
        let layer = json!({"mediaType": media_type, "digest": D, "size": 7});
        assert!(matches!(read(&manifest_of(&[layer])), Err(ManifestError::Layer { .. })));
    }
}

#[test]
fn cve_2021_41190_a_document_that_could_be_two_things_is_neither() {
    let mut both = manifest_of(&[]);
    both["manifests"] = json!([]);
    assert!(matches!(read(&both), Err(ManifestError::Ambiguous { .. })));
    let manifest = manifest_of(&[]).to_string();
    let index = index_of(&[]).to_string();
    for (text, content_type, expected) in [
        (&manifest, OCI_INDEX, None),
        (&index, OCI_MANIFEST, None),
        (&manifest, "", Some(OCI_INDEX)),
        (&index, DOCKER_MANIFEST, Some(OCI_INDEX)),
    ] {
        let result = parse(text.as_bytes(), content_type, expected);
        assert!(
            matches!(result, Err(ManifestError::Ambiguous { .. })),
            "{content_type} {expected:?}"
        );
    }
    let untyped = manifest.replace(OCI_MANIFEST, OCI_INDEX);
    assert!(matches!(
        parse(untyped.as_bytes(), "", None),
        Err(ManifestError::Ambiguous { .. })
    ));
}

#[test]
fn r6_other_media_types_are_refused_by_name() {
    let manifest = manifest_of(&[]).to_string();
    let result = parse(manifest.as_bytes(), "text/html", None);
    assert!(matches!(result, Err(ManifestError::MediaType { .. })));
    parse(manifest.as_bytes(), "application/json", None).unwrap();
    parse(manifest.as_bytes(), DOCKER_MANIFEST, None).unwrap();
    let mut untyped: Value = serde_json::from_str(&manifest).unwrap();
    untyped.as_object_mut().unwrap().remove("mediaType");
    parse(untyped.to_string().as_bytes(), OCI_MANIFEST, None).unwrap();
    let neither = parse(untyped.to_string().as_bytes(), "", None);
    assert!(matches!(neither, Err(ManifestError::MediaType { .. })));
    let one = json!({"schemaVersion": 1, "fsLayers": []});
    assert!(matches!(read(&one), Err(ManifestError::SchemaOne)));
    let mut artifact = manifest_of(&[]);
    artifact["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    assert!(matches!(read(&artifact), Err(ManifestError::Artifact { .. })));
}

#[test]
fn r2_json_bombs_and_junk_are_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = index_of(&vec![entry(1, "linux", "amd64", ""); 4097]).to_string();
    let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": D, "size": 7});
    let layers = manifest_of(&vec![layer; 513]).to_string();
    let manifest = manifest_of(&[]).to_string();
    let twice = manifest.replacen('{', "{\"schemaVersion\":2,", 1);
    let bom = format!("\u{feff}{manifest}");
    let negative = manifest.replace("\"size\":2", "\"size\":-1");
    let infinite = manifest.replace("\"size\":2", "\"size\":1e400");
    let climbing = manifest.replace(D, "sha256:../../etc/passwd");
    for text in [
        &deep, &many, &layers, &twice, &bom, &negative, &infinite, &climbing, "", "{}", "[]", "null", "NaN",
    ] {
        assert!(
            parse(text.as_bytes(), "", None).is_err(),
            "{}",
            &text[..text.len().min(80)]
        );
    }
    assert!(parse(b"{\"a\":\"\xff\"}", "", None).is_err());
    let quoted = manifest.replacen('{', &format!("{{\"x\":\"{}\",", "[".repeat(200)), 1);
    parse(quoted.as_bytes(), "", None).unwrap();
}

fn config_of(more: &Value) -> Vec<u8> {
    let mut whole = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [D]}});
    for (key, value) in more.as_object().unwrap() {
        whole[key] = value.clone();
    }
    whole.to_string().into_bytes()
}

#[test]
fn a_configuration_tells_how_to_run() {
    let bytes = config_of(&json!({"config": {
        "User": "1:2", "Env": ["A=b=c", "HOME", "=x", "B=\0", "E="], "Entrypoint": ["/e"], "Cmd": ["c"],
        "WorkingDir": "/w", "Volumes": {"/v": {}}, "StopSignal": "SIGINT", "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["x"]}, "OnBuild": null, "ArgsEscaped": true,
    }}));
    let Config { image, diff_ids } = config(&bytes, 1, &host()).unwrap();
    assert_eq!(diff_ids[0].as_str(), D);
    assert_eq!(
        (
            image.user.as_str(),
            image.working_dir.as_str(),
            image.stop_signal.as_str()
        ),
        ("1:2", "/w", "SIGINT")
    );
    assert_eq!(
        image.env,
        ["A=b=c", "E="],
        "CVE-2026-57231: names without a value are nobody's"
    );
    assert_eq!(
        (image.entrypoint, image.cmd),
        (vec!["/e".to_owned()], vec!["c".to_owned()])
    );
    assert_eq!(image.volumes.into_iter().collect::<Vec<_>>(), ["/v"]);
    assert_eq!(image.labels["a"], "b");
    let nulls = json!({"config": {"Env": null, "Cmd": null, "Volumes": null, "Labels": null, "Entrypoint": null}});
    assert_eq!(
        config(&config_of(&nulls), 1, &host()).unwrap().image,
        ImageConfig::default()
    );
    let none = config(&config_of(&json!({"config": null, "history": null})), 1, &host()).unwrap();
    assert_eq!(none.image, ImageConfig::default());
}

#[test]
fn r7_a_configuration_for_other_layers_or_machines_is_refused() {
    let plain = config_of(&json!({}));
    assert!(matches!(
        config(&plain, 2, &host()),
        Err(ManifestError::Layers { layers: 2, diff_ids: 1 })
    ));
    for other in [json!({"os": "windows"}), json!({"architecture": "arm64"})] {
        let result = config(&config_of(&other), 1, &host());
        assert!(matches!(result, Err(ManifestError::NoPlatform { .. })));
    }
    let digest = json!({"rootfs": {"type": "layers", "diff_ids": ["sha256:../x"]}});
    assert!(matches!(
        config(&config_of(&digest), 1, &host()),
        Err(ManifestError::Digest { .. })
    ));
    let volumes: serde_json::Map<_, _> = (0..300).map(|n| (format!("/v{n}"), json!({}))).collect();
    let many = config(&config_of(&json!({"config": {"Volumes": volumes}})), 1, &host());
    assert!(matches!(many, Err(ManifestError::TooMany { .. })));
    assert!(config(b"#!/bin/sh", 1, &host()).is_err());
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}|[\\[\\]{}\",:0-9a-z ]{0,200}") {
        drop(parse(text.as_bytes(), "", None).map(|_| ()));
        drop(config(text.as_bytes(), 1, &host()).map(|_| ()));
    }
}
