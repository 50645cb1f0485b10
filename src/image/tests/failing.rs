//! Registries that refuse, lie, break off or lead astray.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::base::error::chain;
use crate::image::verify::digest_of;

/// Pulls what `script` serves, expects it to fail so, and nothing to be left.
async fn fails(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static, kind: PullErrorKind, part: &str) {
    let server = Server::start(script).await;
    let home = home();
    let error = home.pull(&format!("{}/team/app:1", server.address)).await.unwrap_err();
    let text = chain(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(part), "{text}");
    assert!(text.contains("team/app") || text.contains(&server.address), "{text}");
    for _ in 0..100 {
        if home.left().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", home.left().await);
}

/// As `fake`, but for paths with `part` in them.
fn but(fake: Fake, part: &'static str, other: Answer) -> impl Fn(&Asked) -> Answer + Send + Sync {
    move |asked| {
        if asked.path.contains(part) {
            other.clone()
        } else {
            fake.answer(asked)
        }
    }
}

fn layer_digest(fake: &Fake) -> String {
    let found = fake.blobs.iter().find(|(_, bytes)| bytes.starts_with(b"\x1f\x8b"));
    found.unwrap().0.clone()
}

#[tokio::test]
async fn no_such_host_or_nobody_there() {
    let home = home();
    for reference in ["nowhere.invalid/team/app:1", "127.0.0.1:1/team/app:1"] {
        let error = home.pull(reference).await.unwrap_err();
        assert_eq!(error.kind(), PullErrorKind::RegistryUnavailable, "{}", chain(&error));
        assert!(chain(&error).contains("reach registry"), "{}", chain(&error));
    }
    let error = home.pull("a/../b").await.unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Invalid);
    assert!(home.left().await.is_empty());
}

#[tokio::test]
async fn no_such_repository_tag_or_blob() {
    fails(
        |_| answer(404, ""),
        PullErrorKind::NotFound,
        "check the image's name and tag",
    )
    .await;
    let fake = Fake::image(&two_layers());
    fails(
        but(
            fake,
            "/manifests/1",
            answer(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no tag"}]}"#),
        ),
        PullErrorKind::NotFound,
        "MANIFEST_UNKNOWN no tag",
    )
    .await;
    let mut fake = Fake::image(&two_layers());
    let gone = layer_digest(&fake);
    fake.blobs.remove(&gone);
    fails(
        move |asked| fake.answer(asked),
        PullErrorKind::NotFound,
        "blobs/sha256:",
    )
    .await;
}

#[tokio::test]
async fn statuses_are_told_apart() {
    fails(|_| answer(403, ""), PullErrorKind::Unauthorized, "imagePullSecret").await;
    fails(
        |_| answer(401, ""),
        PullErrorKind::RegistryUnavailable,
        "without saying how",
    )
    .await;
    let basic = || answer(401, "").with("www-authenticate", "Basic realm=\"x\"");
    fails(move |_| basic(), PullErrorKind::Unauthorized, "imagePullSecret").await;
    fails(
        |_| answer(429, ""),
        PullErrorKind::RegistryUnavailable,
        "takes no more requests",
    )
    .await;
    fails(
        |_| answer(500, "<html>secret"),
        PullErrorKind::RegistryUnavailable,
        "answers 500",
    )
    .await;
    fails(|_| answer(200, ""), PullErrorKind::Corrupt, "manifest").await;
}

#[tokio::test]
async fn r4_documents_that_are_not_their_digests() {
    let fake = Fake::image(&two_layers());
    let lied = {
        let (media_type, bytes) = fake.manifests["1"].clone();
        answer(200, bytes)
            .with("content-type", media_type)
            .with("docker-content-digest", digest_of(b"other").as_str())
    };
    fails(
        but(fake.clone(), "/manifests/", lied),
        PullErrorKind::Corrupt,
        "that is not sha256:",
    )
    .await;
    let config = fake
        .blobs
        .iter()
        .find(|(_, bytes)| bytes.starts_with(b"{"))
        .unwrap()
        .0
        .clone();
    let mut forged = fake.clone();
    forged.blobs.insert(config, b"{}".to_vec());
    fails(
        move |asked| forged.answer(asked),
        PullErrorKind::Corrupt,
        "configuration that is not",
    )
    .await;
    let digest = layer_digest(&fake);
    let mut forged = fake.clone();
    let mut bytes = forged.blobs[&digest].clone();
    bytes[20] ^= 1;
    forged.blobs.insert(digest, bytes);
    fails(
        move |asked| forged.answer(asked),
        PullErrorKind::Corrupt,
        "its bytes have digest",
    )
    .await;
}

#[tokio::test]
async fn r5_layers_that_are_too_short_or_too_long() {
    let fake = Fake::image(&two_layers());
    let digest = layer_digest(&fake);
    for (change, part) in [(0_usize, "should have"), (1, "should have")] {
        let mut forged = fake.clone();
        let mut bytes = forged.blobs[&digest].clone();
        if change == 0 {
            bytes.truncate(30)
        } else {
            bytes.push(0)
        }
        forged.blobs.insert(digest.clone(), bytes);
        fails(move |asked| forged.answer(asked), PullErrorKind::Corrupt, part).await;
    }
}

#[tokio::test]
async fn r12_a_truncated_body_is_gone_on_with_and_given_up_in_the_end() {
    let fake = Fake::image(&two_layers());
    let digest = layer_digest(&fake);
    let whole = fake.blobs[&digest].clone();
    let mut cut = answer(200, whole[..40].to_vec());
    cut.length = Some(whole.len() as u64);
    let script = {
        let (fake, digest, cut) = (fake.clone(), digest.clone(), cut.clone());
        move |asked: &Asked| {
            if asked.path.ends_with(&digest) {
                cut.clone()
            } else {
                fake.answer(asked)
            }
        }
    };
    fails(script, PullErrorKind::RegistryUnavailable, "broke off").await;
    // A server with ranges goes on where it broke off; one without starts again.
    for ranges in [true, false] {
        let (fake, digest, cut, whole) = (fake.clone(), digest.clone(), cut.clone(), whole.clone());
        let server = Server::start(move |asked| {
            let range = asked.headers.get("range").map(String::as_str);
            match (asked.path.ends_with(&digest), range) {
                (false, _) => fake.answer(asked),
                (true, None) => cut.clone(),
                (true, Some(range)) => {
                    assert_eq!(range, "bytes=40-");
                    if ranges {
                        let said = format!("bytes 40-{}/{}", whole.len() - 1, whole.len());
                        answer(206, whole[40..].to_vec()).with("content-range", said)
                    } else {
                        answer(200, whole.clone())
                    }
                }
            }
        })
        .await;
        let home = home();
        home.pull(&format!("{}/team/app:1", server.address)).await.unwrap();
    }
}

#[tokio::test]
async fn r6_r7_not_an_image_for_this_machine() {
    let mut fake = Fake::default();
    let windows = json!({"mediaType": fake::MANIFEST, "digest": digest_of(b"x").as_str(), "size": 1, "platform": {"os": "windows", "architecture": "amd64"}});
    fake.manifest(
        "1",
        fake::INDEX,
        json!({"schemaVersion": 2, "mediaType": fake::INDEX, "manifests": [windows]}).to_string(),
    );
    fails(
        move |asked| fake.answer(asked),
        PullErrorKind::NoPlatform,
        "it has windows/amd64",
    )
    .await;
    let mut fake = Fake::default();
    let layer = fake.layer(b"x".to_vec(), "tar+xz");
    fake.finish(&[layer], &[digest_of(b"x").to_string()]);
    fails(move |asked| fake.answer(asked), PullErrorKind::Unsupported, "tar+xz").await;
    let mut fake = Fake::default();
    let tar = two_layers()[0].clone();
    let layer = fake.layer(archive::gzip(&tar), "tar+gzip");
    fake.finish(&[layer], &[digest_of(b"other").to_string()]);
    fails(
        move |asked| fake.answer(asked),
        PullErrorKind::Corrupt,
        "configuration says",
    )
    .await;
}

#[tokio::test]
async fn r1_r3_endless_and_circular_documents() {
    fails(
        |_| answer(200, vec![b' '; 5 << 20]),
        PullErrorKind::Corrupt,
        "more than 4194304 bytes",
    )
    .await;
    let mut fake = Fake::image(&two_layers());
    let (_, bytes) = fake.manifests["1"].clone();
    let mut inner = json!({"mediaType": fake::MANIFEST, "digest": digest_of(&bytes).as_str(), "size": bytes.len()});
    for depth in 1..=5 {
        inner["platform"] = json!({"os": "linux", "architecture": fake::arch()});
        let index = json!({"schemaVersion": 2, "mediaType": fake::INDEX, "manifests": [inner]});
        inner = fake.manifest(&format!("depth{depth}"), fake::INDEX, index.to_string());
    }
    let server = serving(fake).await;
    let home = home();
    let pulled = home.pull(&format!("{}/team/app:depth4", server.address)).await.unwrap();
    assert!(
        pulled
            .index_json
            .is_some_and(|index| pulled.digest.ends_with(digest_of(&index).as_str()))
    );
    let error = home
        .pull(&format!("{}/team/app:depth5", server.address))
        .await
        .unwrap_err();
    assert!(matches!(error, PullError::Nesting { .. }));
}

#[tokio::test]
async fn r8_redirects_that_must_not_be_followed() {
    let to = |target: &'static str| move |_: &Asked| answer(307, "").with("location", target);
    fails(
        to("file:///etc/passwd"),
        PullErrorKind::RegistryUnavailable,
        "only http and https",
    )
    .await;
    fails(
        to("http://user:pass@127.0.0.1/"),
        PullErrorKind::RegistryUnavailable,
        "user name",
    )
    .await;
    fails(
        to("/v2/loop"),
        PullErrorKind::RegistryUnavailable,
        "more than 10 redirects",
    )
    .await;
    fails(
        |_| answer(302, ""),
        PullErrorKind::RegistryUnavailable,
        "no readable Location",
    )
    .await;
}

#[tokio::test]
async fn l_hostile_layers_are_refused_through_the_whole_pull() {
    let tar = Archive::default().file("../x", "").done();
    let fake = Fake::image(&[tar]);
    fails(move |asked| fake.answer(asked), PullErrorKind::Corrupt, "has .. in it").await;
}
