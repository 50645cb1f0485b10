use copepod_proto::cri as wire;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use wire::image_service_client::ImageServiceClient;
use wire::image_service_server::ImageService;

use super::layer::{Call, Reply};
use super::runtime_service::Never;
use super::*;
use crate::domain::error::{Failure, Kind};

#[tokio::test]
async fn a_panic_fails_one_call_as_internal() {
    let boom = async {
        let empty: Vec<Result<(), Failure>> = Vec::new();
        empty[usize::from(std::hint::black_box(0_u8))]
            .as_ref()
            .map(|_| ())
            .map_err(|_| Failure::new(Kind::Unknown, "x"))
    };
    let status = Call::new("Boom").answer(boom).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("Boom"));
    assert!(Call::new("Fine").answer(async { Ok(1) }).await.is_ok());
}

#[tokio::test]
async fn calls_that_are_not_built_name_themselves() {
    let status = Call::new("Attach").not_built::<()>().unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "Attach is not supported yet")
    );
}

#[tokio::test]
async fn a_failure_keeps_its_kind_and_its_causes() {
    let failure = Failure::caused(Kind::NotFound, "find container", std::io::Error::other("gone"));
    let status = Call::container("ContainerStatus", "x\ny")
        .answer(async { Err::<(), _>(failure) })
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "find container: gone")
    );
}

/// An image service of which one call takes as long as a test wants.
#[derive(Debug, Default)]
struct Slow {
    takes: Duration,
}

#[tonic::async_trait]
impl ImageService for Slow {
    async fn image_fs_info(&self, _: Request<wire::ImageFsInfoRequest>) -> Reply<wire::ImageFsInfoResponse> {
        tokio::time::sleep(self.takes).await;
        Call::new("ImageFsInfo")
            .answer(async { Ok(wire::ImageFsInfoResponse::default()) })
            .await
    }

    async fn image_status(&self, _: Request<wire::ImageStatusRequest>) -> Reply<wire::ImageStatusResponse> {
        Call::new("ImageStatus")
            .answer(async { Ok(wire::ImageStatusResponse::default()) })
            .await
    }

    async fn list_images(&self, _: Request<wire::ListImagesRequest>) -> Reply<wire::ListImagesResponse> {
        Call::new("ListImages").not_built()
    }

    async fn pull_image(&self, _: Request<wire::PullImageRequest>) -> Reply<wire::PullImageResponse> {
        Call::new("PullImage").not_built()
    }

    async fn remove_image(&self, _: Request<wire::RemoveImageRequest>) -> Reply<wire::RemoveImageResponse> {
        Call::new("RemoveImage").not_built()
    }

    type StreamImagesStream = Never<wire::StreamImagesResponse>;

    async fn stream_images(&self, _: Request<wire::StreamImagesRequest>) -> Reply<Self::StreamImagesStream> {
        Call::new("StreamImages").not_built()
    }
}

/// A served socket.
struct Served {
    stop: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), ServeError>>,
    client: ImageServiceClient<Channel>,
    _dir: tempfile::TempDir,
}

async fn serve(takes: Duration, drain: Duration) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cri.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let service = ImageServiceServer::new(Slow { takes }).max_decoding_message_size(MAX_REQUEST);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async {
        stopped.await.ok();
    };
    let server = tokio::spawn(run(Routes::new(service), listener, shutdown, drain));
    let connect = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://copepod")
        .connect_with_connector(connect)
        .await
        .unwrap();
    let client = ImageServiceClient::new(channel).max_encoding_message_size(usize::MAX);
    Served {
        stop,
        server,
        client,
        _dir: dir,
    }
}

#[tokio::test]
async fn a_call_under_way_is_finished_when_the_server_stops() {
    let mut served = serve(Duration::from_millis(300), Duration::from_secs(5)).await;
    let mut client = served.client.clone();
    let call = tokio::spawn(async move { client.image_fs_info(wire::ImageFsInfoRequest {}).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    assert!(call.await.unwrap().is_ok());
    served.server.await.unwrap().unwrap();
    assert!(
        served
            .client
            .image_status(wire::ImageStatusRequest::default())
            .await
            .is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_call_that_does_not_end_holds_no_stop_up() {
    let served = serve(Duration::from_secs(3600), Duration::from_millis(200)).await;
    let mut client = served.client.clone();
    let call = tokio::spawn(async move { client.image_fs_info(wire::ImageFsInfoRequest {}).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    call.abort();
}

#[tokio::test]
async fn q2_a_message_over_the_cap_fails_and_the_server_lives() {
    let mut served = serve(Duration::ZERO, Duration::from_millis(1)).await;
    let image = wire::ImageSpec {
        image: "x".repeat(MAX_REQUEST + 1),
        ..Default::default()
    };
    let large = wire::ImageStatusRequest {
        image: Some(image),
        verbose: false,
    };
    assert!(served.client.image_status(large).await.is_err());
    assert!(
        served
            .client
            .image_status(wire::ImageStatusRequest::default())
            .await
            .is_ok()
    );
    served.stop.send(()).unwrap();
}
