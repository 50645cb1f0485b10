//! The image service: each call decodes, runs its verb, encodes.

use copepod_proto::cri as wire;
use tonic::Request;
use wire::image_service_server::ImageService;

use super::layer::{Call, Reply};
use super::{decode, encode};
use crate::ops::Ops;

/// Answers image calls.
#[derive(Debug)]
pub(super) struct Images {
    ops: Ops,
}

impl Images {
    pub(super) fn new(ops: Ops) -> Self {
        Self { ops }
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(&self, request: Request<wire::ListImagesRequest>) -> Reply<wire::ListImagesResponse> {
        let body = async {
            let name = decode::image::list(request.into_inner())?;
            let images = self.ops.images(name.as_deref()).await?;
            Ok(wire::ListImagesResponse {
                images: images.iter().map(|image| encode::image::image(image)).collect(),
            })
        };
        Call::new("ListImages").answer(body).await
    }

    async fn image_status(&self, request: Request<wire::ImageStatusRequest>) -> Reply<wire::ImageStatusResponse> {
        let wire::ImageStatusRequest { image, verbose } = request.into_inner();
        let call = Call::image("ImageStatus", image.as_ref());
        let body = async {
            let found = self.ops.image(&decode::image::named(image)?).await?;
            Ok(wire::ImageStatusResponse {
                info: found
                    .as_deref()
                    .filter(|_| verbose)
                    .map(encode::info::image)
                    .unwrap_or_default(),
                image: found.as_deref().map(encode::image::image),
            })
        };
        call.answer(body).await
    }

    async fn pull_image(&self, request: Request<wire::PullImageRequest>) -> Reply<wire::PullImageResponse> {
        let request = request.into_inner();
        let call = Call::image("PullImage", request.image.as_ref());
        let body = async {
            let id = self.ops.pull_image(decode::image::pull(request)?).await?;
            Ok(wire::PullImageResponse {
                image_ref: id.to_string(),
            })
        };
        call.answer(body).await
    }

    async fn remove_image(&self, request: Request<wire::RemoveImageRequest>) -> Reply<wire::RemoveImageResponse> {
        let wire::RemoveImageRequest { image } = request.into_inner();
        let call = Call::image("RemoveImage", image.as_ref());
        let body = async {
            self.ops.remove_image(&decode::image::named(image)?).await?;
            Ok(wire::RemoveImageResponse {})
        };
        call.answer(body).await
    }

    async fn image_fs_info(&self, request: Request<wire::ImageFsInfoRequest>) -> Reply<wire::ImageFsInfoResponse> {
        let wire::ImageFsInfoRequest {} = request.into_inner();
        let body = async { Ok(encode::image::fs_info(&self.ops.image_fs_info().await?)) };
        Call::new("ImageFsInfo").answer(body).await
    }

    type StreamImagesStream = super::runtime_service::Never<wire::StreamImagesResponse>;

    async fn stream_images(&self, _: Request<wire::StreamImagesRequest>) -> Reply<Self::StreamImagesStream> {
        Call::new("StreamImages").not_built()
    }
}
