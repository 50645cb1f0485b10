//! Floor 4: the CRI on a unix socket. Wire types live here and nowhere above or below: a request becomes domain values
//! in `decode`, a verb of `ops` does the work, `encode` makes the reply, and `layer` tells and logs what failed.

mod deadline;
mod decode;
mod encode;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod image_service;
mod layer;
mod runtime_service;
mod signal;
mod status;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::time::Duration;

use copepod_proto::cri::image_service_server::ImageServiceServer;
use copepod_proto::cri::runtime_service_server::RuntimeServiceServer;
use futures_util::Stream;
use tokio::net::{UnixListener, UnixStream};
use tonic::service::Routes;
use tonic::transport::Server;

use crate::ops::Ops;
use deadline::Deadlines;
use image_service::Images;
use runtime_service::Pods;

/// Largest request. Clients send no more, and a hostile one stays bounded (contract §1).
const MAX_REQUEST: usize = 16 << 20;

/// Largest reply. Clients take 16 MiB; a list that has grown past that must fail at them, with their words.
const MAX_REPLY: usize = 32 << 20;

/// How long calls under way may take to end after a stop was asked for. A hook may run for ever; systemd waits 90 s.
const DRAIN: Duration = Duration::from_secs(10);

/// Pause after a failed accept: out of descriptors, there is nothing to do but to wait for some (CVE-2024-47609).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket cannot be served (any more).
#[derive(Debug, thiserror::Error)]
#[error("serve the container runtime interface")]
pub struct ServeError(#[source] tonic::transport::Error);

/// Serves both services on `listener` until `shutdown` completes; then takes no new calls and gives those under way
/// a bounded time to end. Containers are not touched.
///
/// # Errors
/// The server could not be set up.
pub async fn serve(ops: Ops, listener: UnixListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let runtime = RuntimeServiceServer::new(Pods::new(ops.clone()))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_REPLY);
    let images = ImageServiceServer::new(Images::new(ops))
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_REPLY);
    let routes = Routes::new(runtime).add_service(images);
    run(routes, listener, shutdown, DRAIN).await
}

async fn run(
    routes: Routes,
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
    drain: Duration,
) -> Result<(), ServeError> {
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop = async move {
        shutdown.await;
        drop(stopping);
    };
    let server = Server::builder()
        .layer(tower::layer::layer_fn(Deadlines::new))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections(listener), stop);
    let overdue = async {
        stopped.await.ok();
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = server => ended.map_err(ServeError),
        () = overdue => {
            tracing::warn!(op = "shutdown", "calls are still under way; going without them");
            Ok(())
        }
    }
}

/// Connections as they come. An accept that fails is no reason to stop serving.
fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    futures_util::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                Err(error) => {
                    tracing::warn!(op = "accept", %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
