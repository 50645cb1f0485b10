//! Logins, mirrors, and pulls that meet: what goes to whom, and what is fetched once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn credentials() -> Credentials {
    Credentials {
        username: "user".into(),
        password: "hush".into(),
        ..Credentials::default()
    }
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode("user:hush"))
}

fn sent(asked: &Asked) -> Option<&str> {
    asked.headers.get("authorization").map(String::as_str)
}

#[tokio::test]
async fn basic_auth_is_sent_when_it_is_asked_for() {
    let fake = Fake::image(&two_layers());
    let server = Server::start(move |asked| match sent(asked) {
        Some(authorization) if authorization == basic() => fake.answer(asked),
        _ => answer(401, "").with("www-authenticate", "Basic realm=\"r\""),
    })
    .await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    home.puller
        .pull(&reference, Some(credentials()), &Known::default())
        .await
        .unwrap();
    let wrong = Credentials {
        password: "wrong".into(),
        ..credentials()
    };
    let error = home
        .puller
        .pull(&reference, Some(wrong), &Known::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Unauthorized);
    let other = Credentials {
        server_address: "other.example".into(),
        ..credentials()
    };
    let before = server.asked().len();
    let error = home
        .puller
        .pull(&reference, Some(other), &Known::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), PullErrorKind::Unauthorized);
    assert!(server.asked()[before..].iter().all(|asked| sent(asked).is_none()));
}

#[tokio::test]
async fn a_bearer_token_is_fetched_with_the_credentials_and_renewed_when_it_expires() {
    let fake = Fake::image(&two_layers());
    let valid = Arc::new(Mutex::new(0));
    let script = {
        let valid = Arc::clone(&valid);
        move |asked: &Asked| {
            let mut valid = valid.lock().unwrap();
            let host = &asked.headers["host"];
            if asked.path.starts_with("/token?") {
                assert_eq!(
                    asked.path,
                    "/token?x=1&service=the+service&scope=repository%3Ateam%2Fapp%3Apull"
                );
                assert_eq!(sent(asked), Some(basic().as_str()));
                *valid += 1;
                return answer(200, format!("{{\"access_token\":\"t{valid}\",\"expires_in\":-1}}"));
            }
            if sent(asked) == Some(format!("Bearer t{valid}").as_str()) && *valid > 0 {
                // Every token is good for one manifest only.
                if asked.path.contains("/manifests/") {
                    let answer = fake.answer(asked);
                    *valid += 100;
                    return answer;
                }
                return fake.answer(asked);
            }
            let challenge = format!(
                r#"Bearer realm="http://{host}/token?x=1",service="the service",scope="repository:team/app:pull""#
            );
            answer(401, "").with("www-authenticate", challenge)
        }
    };
    let server = Server::start(script).await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    home.puller
        .pull(&reference, Some(credentials()), &Known::default())
        .await
        .unwrap();
    let tokens = server
        .asked()
        .iter()
        .filter(|asked| asked.path.starts_with("/token"))
        .count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn identity_tokens_are_exchanged_and_registry_tokens_sent_as_they_are() {
    let fake = Fake::image(&two_layers());
    let server = Server::start(move |asked| {
        if asked.path == "/token" {
            assert_eq!(asked.method, "POST");
            for part in [
                "grant_type=refresh_token",
                "refresh_token=id+token",
                "scope=repository%3Ateam%2Fapp%3Apull",
            ] {
                assert!(asked.body.contains(part), "{}", asked.body);
            }
            return answer(200, "{\"token\":\"good\"}");
        }
        match sent(asked) {
            Some("Bearer good") => fake.answer(asked),
            _ => {
                let host = &asked.headers["host"];
                answer(401, "").with("www-authenticate", format!("Bearer realm=\"http://{host}/token\""))
            }
        }
    })
    .await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    let identity = Credentials {
        identity_token: "id token".into(),
        ..Credentials::default()
    };
    home.puller
        .pull(&reference, Some(identity), &Known::default())
        .await
        .unwrap();
    let registry = Credentials {
        registry_token: "good".into(),
        ..Credentials::default()
    };
    let before = server.asked().len();
    home.puller
        .pull(&reference, Some(registry), &Known::default())
        .await
        .unwrap();
    assert!(
        server.asked()[before..]
            .iter()
            .all(|asked| sent(asked) == Some("Bearer good"))
    );
}

#[tokio::test]
async fn r10_token_endpoints_that_misbehave() {
    for body in [
        "{}",
        "{\"token\":\"\"}",
        "{\"token\":\"a\\r\\nX: y\"}",
        "junk",
        &"x".repeat(300_000),
    ] {
        let body = body.to_owned();
        let server = Server::start(move |asked| match asked.path.starts_with("/token") {
            true => answer(200, body.clone()),
            false => {
                let host = &asked.headers["host"];
                answer(401, "").with("www-authenticate", format!("Bearer realm=\"http://{host}/token\""))
            }
        })
        .await;
        let error = home()
            .pull(&format!("{}/team/app:1", server.address))
            .await
            .unwrap_err();
        assert!(matches!(error, PullError::Registry { .. }), "{error:?}");
        assert!(server.asked().len() <= 2);
    }
}

#[tokio::test]
async fn r8_credentials_do_not_follow_redirects() {
    let fake = Fake::image(&two_layers());
    let elsewhere = {
        let fake = fake.clone();
        Server::start(move |asked| fake.answer(asked)).await
    };
    let target = elsewhere.address.clone();
    let server = Server::start(move |asked| match sent(asked) {
        None => answer(401, "").with("www-authenticate", "Basic realm=\"r\""),
        Some(_) if asked.path.contains("/blobs/") => {
            answer(307, "").with("location", format!("http://{target}{}", asked.path))
        }
        Some(_) => fake.answer(asked),
    })
    .await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    home.puller
        .pull(&reference, Some(credentials()), &Known::default())
        .await
        .unwrap();
    let followed = elsewhere.asked();
    assert_eq!(followed.len(), 3);
    assert!(followed.iter().all(|asked| sent(asked).is_none()));
}

#[tokio::test]
async fn mirrors_are_asked_first_without_credentials_and_the_registry_in_the_end() {
    let fake = Fake::image(&two_layers());
    let origin = serving(fake.clone()).await;
    // A mirror that has the manifest, and nothing else undamaged.
    let mut damaged = fake.clone();
    for bytes in damaged.blobs.values_mut() {
        bytes.truncate(10);
    }
    let mirror = serving(damaged).await;
    let home = home();
    let dir = home.dir.path().join("certs.d").join(&origin.address);
    fs::create_dir_all(&dir).unwrap();
    let hosts = format!("[host.\"http://{}\"]\n[host.\"http://127.0.0.1:1\"]\n", mirror.address);
    fs::write(dir.join("hosts.toml"), hosts).unwrap();
    let reference = format!("{}/team/app:1", origin.address);
    // What the mirror has wrong is taken from the registry.
    let pulled = home
        .puller
        .pull(&reference, Some(credentials()), &Known::default())
        .await
        .unwrap();
    assert_eq!(pulled.layers.len(), home.left().await.len());
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| sent(asked).is_none() && asked.path.contains("?ns=127.0.0.1%3A"))
    );
    fs::write(dir.join("hosts.toml"), "[host.\"http://127.0.0.1:1\"]\n").unwrap();
    home.pull(&reference).await.unwrap();
    fs::write(dir.join("hosts.toml"), "capabilities = [\"pull\"]\n").unwrap();
    let error = home.pull(&reference).await.unwrap_err();
    assert!(matches!(
        error,
        PullError::NoHost {
            capability: "resolve",
            ..
        }
    ));
    fs::write(dir.join("hosts.toml"), "nonsense = 1\n").unwrap();
    assert_eq!(
        home.pull(&reference).await.unwrap_err().kind(),
        PullErrorKind::Configuration
    );
}

#[tokio::test]
async fn r18_pulls_that_meet_fetch_a_layer_once_and_a_cancelled_one_hands_it_over() {
    let fake = Fake::image(&two_layers());
    let slow = Arc::new(AtomicBool::new(false));
    let script = {
        let slow = Arc::clone(&slow);
        move |asked: &Asked| {
            let mut answer = fake.answer(asked);
            if slow.load(Ordering::Relaxed) && answer.body.starts_with(b"\x1f\x8b") {
                answer.pause = Some(Duration::from_millis(300));
            }
            answer
        }
    };
    let server = Server::start(script).await;
    let reference = format!("{}/team/app:1", server.address);
    let blobs = |from: usize| {
        let asked = server.asked();
        asked[from..]
            .iter()
            .filter(|asked| asked.path.contains("/blobs/"))
            .count()
    };
    slow.store(true, Ordering::Relaxed);
    let first = home();
    let (a, b) = tokio::join!(first.pull(&reference), first.pull(&reference));
    assert_eq!(a.unwrap().layers, b.unwrap().layers);
    assert_eq!(blobs(0), 2 + 2, "two configurations, two layers");
    assert_eq!(first.left().await.len(), 2);
    // One that goes away leaves the work to the other, and nothing of its own.
    let second = home();
    let cancelled = tokio::time::timeout(Duration::from_millis(100), second.pull(&reference));
    let (cancelled, pulled) = tokio::join!(cancelled, second.pull(&reference));
    assert!(cancelled.is_err());
    assert_eq!(pulled.unwrap().layers.len(), 2);
    for _ in 0..100 {
        if second.left().await.len() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", second.left().await);
}

#[tokio::test]
async fn a_cancelled_pull_leaves_nothing() {
    let fake = Fake::image(&two_layers());
    let server = Server::start(move |asked| {
        let mut answer = fake.answer(asked);
        if answer.body.starts_with(b"\x1f\x8b") {
            answer.pause = Some(Duration::from_secs(60));
        }
        answer
    })
    .await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), home.pull(&reference))
            .await
            .is_err()
    );
    for _ in 0..100 {
        if home.left().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", home.left().await);
}

#[tokio::test]
async fn layers_are_kept_while_anybody_needs_them_and_removed_after() {
    let server = serving(Fake::image(&two_layers())).await;
    let home = home();
    let reference = format!("{}/team/app:1", server.address);
    let pulled = home.pull(&reference).await.unwrap();
    // Not recorded yet, and still not fetched again.
    let before = server.asked().len();
    assert_eq!(home.pull(&reference).await.unwrap().layers, pulled.layers);
    assert_eq!(server.asked().len() - before, 2);
    for layer in &pulled.layers {
        assert_eq!(layer.dir.len(), 8);
        home.puller.remove_layer(&layer.dir).await.unwrap();
        home.puller.remove_layer(&layer.dir).await.unwrap();
    }
    assert!(home.left().await.is_empty());
    // A record whose directory is gone does not count.
    let known = Known(
        pulled
            .layers
            .iter()
            .map(|layer| (layer.diff_id.clone(), layer.clone()))
            .collect(),
    );
    let again = home.puller.pull(&reference, None, &known).await.unwrap();
    assert!(home.puller.layer_path(&again.layers[0]).join("etc/b").exists());
    fs::create_dir(home.dir.path().join("ingest/half")).unwrap();
    home.puller.sweep(&again.layers[..1]).await.unwrap();
    for _ in 0..100 {
        if home.left().await == [again.layers[0].dir.clone()] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", home.left().await);
}
