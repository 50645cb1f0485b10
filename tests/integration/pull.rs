//! Images from a real registry: forms, aliases, removal, and a pull that fails in every way a user meets.

use std::fs;

use copepod_proto::cri;

use crate::harness::{Client, Daemon, busybox, image, run};
use crate::request;

async fn status(client: &mut Client, image: &str) -> Option<cri::Image> {
    let image = Some(cri::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    });
    let request = cri::ImageStatusRequest { image, verbose: false };
    client.image.image_status(request).await.unwrap().into_inner().image
}

async fn list(client: &mut Client) -> Vec<cri::Image> {
    client
        .image
        .list_images(cri::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images
}

async fn remove(client: &mut Client, image: &str) {
    let image = Some(cri::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    });
    client
        .image
        .remove_image(cri::RemoveImageRequest { image })
        .await
        .unwrap();
}

async fn refused(client: &mut Client, image: &str, auth: Option<cri::AuthConfig>) -> tonic::Status {
    let image = Some(cri::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    });
    let request = cri::PullImageRequest {
        image,
        auth,
        ..Default::default()
    };
    client.image.pull_image(request).await.unwrap_err()
}

#[test]
fn every_form_of_image_is_pulled_and_runs() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let names = [
            "zstd:1",
            "uncompressed:1",
            "docker-manifest:1",
            "oci-manifest:1",
            "web:1",
            "whiteouts:1",
        ];
        for name in names.map(|name| image(&format!("copepod/{name}"))) {
            let id = client.pull(&name).await;
            let image = status(&mut client, &name).await.unwrap();
            assert_eq!(image.id, id);
            assert!(image.size > 0 && image.repo_tags.contains(&name), "{image:?}");
            let by_digest = image.repo_digests.first().unwrap().clone();
            for alias in [id.as_str(), id.trim_start_matches("sha256:"), &id[7..30], &by_digest] {
                assert_eq!(status(&mut client, alias).await.as_ref(), Some(&image), "{alias}");
            }
        }
        let config = request::pod(daemon.top());
        let mut spec = request::container("c", "exec sleep 1000");
        spec.image.as_mut().unwrap().image = image("copepod/whiteouts:1");
        let (_, container) = client.running(&config, spec).await;
        let seen = client.output(&container, "ls -A /w /w/opaque").await;
        assert!(
            !seen.contains("gone-file") && !seen.contains("gone-dir") && !seen.contains("hidden"),
            "{seen}"
        );
    });
    daemon.finish();
}

#[test]
fn removal_is_immediate_and_running_containers_keep_their_layers() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let id = client.pull(&busybox()).await;
        assert_eq!(client.pull(&busybox()).await, id);
        let (pod, container) = client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
        remove(&mut client, &busybox()).await;
        assert_eq!(status(&mut client, &busybox()).await, None);
        assert!(list(&mut client).await.is_empty());
        remove(&mut client, &busybox()).await;
        assert_eq!(client.output(&container, "echo still here").await, "still here");
        let status = client.status(&container).await.unwrap();
        assert!(!status.image_ref.is_empty() && status.image_id == id);
        client.remove_pod(&pod).await.unwrap();
        crate::harness::wait_until("the layers to go", || {
            fs::read_dir(daemon.top().join("root/layers")).unwrap().count() == 0
        });
        let info = client
            .image
            .image_fs_info(cri::ImageFsInfoRequest::default())
            .await
            .unwrap()
            .into_inner();
        let info = &info.image_filesystems[0];
        assert!(fs::exists(&info.fs_id.as_ref().unwrap().mountpoint).unwrap() && info.timestamp > 0);
        assert!(info.used_bytes.is_some() && info.inodes_used.is_some());
    });
    daemon.finish();
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_with_the_remedy() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        let registry = crate::harness::setting("COPEPOD_TEST_REGISTRY");
        let cases = [
            ("127.0.0.1:1/a/b:1".to_owned(), "127.0.0.1:1"),
            (image("no/such/repository:1"), "no/such/repository"),
            (image("copepod/web:no-such-tag"), "no-such-tag"),
            (image("copepod/arm64-only:1"), "platform"),
            (format!("{registry}/copepod/web@sha256:{}", "0".repeat(64)), "000000"),
            ("UPPER/../case:1".to_owned(), "UPPER"),
            ("x".repeat(10_000), "reference"),
            (format!("{registry}/a/b:{}", "t".repeat(500)), "reference"),
        ];
        for (name, word) in cases {
            let status = refused(&mut client, &name, None).await;
            let message = status.message();
            assert!(message.contains(word), "{name:.60}: {message}");
            assert!(message.len() < 2_000, "{} bytes of message", message.len());
        }
        let bad = cri::AuthConfig {
            auth: "%%% not base64".to_owned(),
            ..Default::default()
        };
        let status = refused(&mut client, &image("copepod/web:1"), Some(bad)).await;
        assert!(
            status.message().contains("base64") && !status.message().contains("%%%"),
            "{status}"
        );
        assert!(list(&mut client).await.is_empty());
        assert_eq!(fs::read_dir(daemon.top().join("root/ingest")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(daemon.top().join("root/layers")).unwrap().count(), 0);
    });
    daemon.finish();
}

#[test]
fn mirrors_are_tried_in_order_and_read_at_every_pull() {
    let certs = tempfile::tempdir().unwrap();
    let host = certs.path().join("mirrored.example");
    fs::create_dir(&host).unwrap();
    let registry = crate::harness::setting("COPEPOD_TEST_REGISTRY");
    let write = |hosts: &str| {
        fs::write(
            host.join("hosts.toml"),
            format!("server = \"http://127.0.0.1:1\"\n{hosts}"),
        )
        .unwrap();
    };
    write("");
    let mut daemon = Daemon::start();
    let config = daemon.top().join("config.toml");
    let dir = crate::harness::setting("COPEPOD_TEST_CERTS");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace(&dir, certs.path().to_str().unwrap());
    fs::write(&config, text).unwrap();
    daemon.terminate();
    daemon.spawn();
    run(async {
        let mut client = daemon.client().await;
        let name = "mirrored.example/copepod/web:1";
        assert!(refused(&mut client, name, None).await.message().contains("127.0.0.1:1"));
        write(&format!(
            "[host.\"http://127.0.0.1:2\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             [host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ));
        client.pull(name).await;
        assert_eq!(status(&mut client, name).await.unwrap().repo_tags, [name]);
        fs::write(host.join("hosts.toml"), "surprise = 1\n").unwrap();
        let message = refused(&mut client, name, None).await.message().to_owned();
        assert!(
            message.contains("hosts.toml") && message.contains("surprise"),
            "{message}"
        );
    });
    daemon.finish();
}
