//! Clients that go away: a verb is completed or undone as a whole, and its name is free or taken, never stuck.

use std::time::Duration;

use copepod_proto::cri;
use tonic::Code;

use crate::harness::{Daemon, busybox, run};
use crate::request;

/// How far apart the cancellations of a create are: finer than its shortest step.
const STEP: Duration = Duration::from_micros(150);
/// Cancellations of RunPodSandbox, spread over what one takes here and half as much again.
const MOMENTS: u32 = 120;

#[test]
fn run_pod_cancelled_at_every_moment_completes_or_leaves_nothing() {
    let daemon = Daemon::start();
    run(async {
        let span = span_of_run_pod(&daemon).await;
        let (mut cut, mut completed) = (0_u32, 0_u32);
        for moment in 0..MOMENTS {
            let config = request::pod(daemon.top());
            let mut client = daemon.client().await;
            let after = span * 3 / 2 * moment / MOMENTS;
            let early = tokio::time::timeout(after, client.run_pod(&config)).await;
            match &early {
                Ok(_) => completed += 1,
                Err(_) => cut += 1,
            }
            assert!(moment > 2 || early.is_err(), "a pod runs within {after:?}: cut nothing");
            // The retry joins the first, finds it complete, or makes it anew.
            let id = match client.run_pod(&config).await {
                Ok(id) => id,
                Err(status) => {
                    assert_eq!(status.code(), Code::AlreadyExists, "after {moment} steps: {status}");
                    let listed = client
                        .runtime
                        .list_pod_sandbox(cri::ListPodSandboxRequest::default())
                        .await
                        .unwrap();
                    listed.into_inner().items[0].id.clone()
                }
            };
            if let Ok(Ok(first)) = early {
                assert_eq!(first, id);
            }
            client.remove_pod(&id).await.unwrap();
        }
        // From the first step to the last: most were cut, and the moments reach to where none is left to cut.
        assert!(
            cut >= MOMENTS / 4 && completed >= 1,
            "{cut} cut, {completed} completed, span {span:?}"
        );
        daemon.assert_nothing_left();
    });
    daemon.finish();
}

/// How long RunPodSandbox takes here and now: the longest of some.
async fn span_of_run_pod(daemon: &Daemon) -> Duration {
    let mut span = Duration::ZERO;
    for _ in 0..5 {
        let mut client = daemon.client().await;
        let config = request::pod(daemon.top());
        let begun = std::time::Instant::now();
        let pod = client.run_pod(&config).await.unwrap();
        span = span.max(begun.elapsed());
        client.remove_pod(&pod).await.unwrap();
    }
    span
}

#[test]
fn create_cancelled_at_every_moment_completes_or_leaves_nothing() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        for moment in 0..60 {
            let spec = request::container(&format!("c{moment}"), "exec sleep 1000");
            let mut cut = daemon.client().await;
            drop(tokio::time::timeout(STEP * moment, cut.create(&pod, &config, spec.clone())).await);
            match client.create(&pod, &config, spec).await {
                Ok(id) => client.remove(&id).await.unwrap(),
                Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "after {moment} steps: {status}"),
            }
        }
        client.remove_pod(&pod).await.unwrap();
        daemon.assert_nothing_left();
    });
    daemon.finish();
}

#[test]
fn a_pull_cut_by_its_deadline_leaves_nothing_half() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        for moment in 0..20 {
            let image = Some(cri::ImageSpec {
                image: busybox(),
                ..Default::default()
            });
            let mut request = tonic::Request::new(cri::PullImageRequest {
                image,
                ..Default::default()
            });
            request.set_timeout(Duration::from_millis(1 + moment * 4));
            if let Err(status) = client.image.pull_image(request).await {
                assert!(
                    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
                    "{status}"
                );
            }
        }
        client.pull(&busybox()).await;
        let listed = client
            .image
            .list_images(cri::ListImagesRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(listed.images.len(), 1);
    });
    daemon.finish();
}
