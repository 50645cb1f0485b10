//! What every call has around it: a failure is logged here, once, and becomes a status; a panic fails the one call it
//! happened in. Handlers below log nothing and know no statuses.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tonic::{Response, Status};

use super::{decode, status};
use crate::domain::error::{Failure, Kind};

/// What a handler answers.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// A call, as the log names it.
#[derive(Debug)]
pub(super) struct Call {
    op: &'static str,
    pod: Option<String>,
    container: Option<String>,
    image: Option<String>,
}

impl Call {
    /// A call about nothing in particular.
    pub(super) fn new(op: &'static str) -> Self {
        Self {
            op,
            pod: None,
            container: None,
            image: None,
        }
    }

    /// A call about a pod.
    pub(super) fn pod(op: &'static str, id: &str) -> Self {
        Self {
            pod: Some(decode::quoted(id)),
            ..Self::new(op)
        }
    }

    /// A call about a container.
    pub(super) fn container(op: &'static str, id: &str) -> Self {
        Self {
            container: Some(decode::quoted(id)),
            ..Self::new(op)
        }
    }

    /// A call about an image.
    pub(super) fn image(op: &'static str, image: Option<&copepod_proto::cri::ImageSpec>) -> Self {
        let name = image.map(|spec| decode::quoted(&spec.image));
        Self {
            image: name,
            ..Self::new(op)
        }
    }

    /// Runs a handler's body.
    pub(super) async fn answer<T>(self, body: impl Future<Output = Result<T, Failure>>) -> Reply<T> {
        let failure = match AssertUnwindSafe(body).catch_unwind().await {
            Ok(Ok(reply)) => return Ok(Response::new(reply)),
            Ok(Err(failure)) => failure,
            // What it was is on standard error with its place; clients are told that it was not their fault.
            Err(_) => Failure::new(
                Kind::Internal,
                format!("{} failed by a fault of the runtime; see its log", self.op),
            ),
        };
        self.log(&failure);
        Err(status::of(&failure))
    }

    /// Answers a call that is not built, by its name.
    pub(super) fn not_built<T>(self) -> Reply<T> {
        let failure = Failure::new(Kind::Unimplemented, format!("{} is not supported yet", self.op));
        self.log(&failure);
        Err(status::of(&failure))
    }

    /// Clients try some calls to see whether they exist, and ask for objects that they know may be gone: that is
    /// no operator's concern.
    fn log(&self, failure: &Failure) {
        let Self {
            op,
            pod,
            container,
            image,
        } = self;
        let (pod, container, image) = (pod.as_deref(), container.as_deref(), image.as_deref());
        let (kind, error) = (failure.kind(), failure.chain());
        match kind {
            Kind::Unimplemented | Kind::NotFound | Kind::Cancelled => {
                tracing::debug!(op, pod, container, image, ?kind, error, "call failed");
            }
            Kind::Internal => tracing::error!(op, pod, container, image, ?kind, error, "call failed"),
            Kind::InvalidArgument
            | Kind::AlreadyExists
            | Kind::FailedPrecondition
            | Kind::DeadlineExceeded
            | Kind::ResourceExhausted
            | Kind::Unavailable
            | Kind::Unknown => tracing::warn!(op, pod, container, image, ?kind, error, "call failed"),
        }
    }
}
