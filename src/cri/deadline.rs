//! Deadlines of callers. The transport ends a call whose `grpc-timeout` has passed as Cancelled; kubelet and critest
//! are promised DeadlineExceeded (contract §2.2), and on a busy node it is the server's word that arrives first. So
//! the call is ended here, just before the transport would.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// Timers tick in milliseconds: two ticks earlier is surely earlier.
const EARLIER: Duration = Duration::from_millis(2);

/// A service whose calls end in time.
#[derive(Debug, Clone)]
pub(super) struct Deadlines<S> {
    inner: S,
}

impl<S> Deadlines<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Deadlines<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = limit(request.headers());
        let path = request.uri().path();
        let op = path.rsplit('/').next().unwrap_or(path).to_owned();
        let reply = self.inner.call(request);
        Box::pin(async move {
            let Some(limit) = limit else { return reply.await };
            if let Ok(reply) = tokio::time::timeout(limit.saturating_sub(EARLIER), reply).await {
                return reply;
            }
            tracing::warn!(
                op,
                kind = "DeadlineExceeded",
                "call failed: the caller's deadline passed"
            );
            let message = format!("{op} took longer than the {limit:?} that the caller gave it");
            Ok(Status::deadline_exceeded(message).into_http())
        })
    }
}

/// The `grpc-timeout` header: at most eight digits and a unit. One that is none is the transport's to refuse.
fn limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_callers_deadline_is_answered_as_deadline_exceeded() {
        use tower::ServiceExt as _;
        let never = tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<Body>, Status>>());
        for limit in ["1m", "20m", "0n"] {
            let request = Request::builder()
                .uri("/runtime.v1.ImageService/PullImage")
                .header("grpc-timeout", limit);
            let reply = Deadlines::new(never).oneshot(request.body(()).unwrap()).await.unwrap();
            assert_eq!(reply.headers()["grpc-status"], "4", "{limit}");
            assert!(
                reply.headers()["grpc-message"]
                    .to_str()
                    .unwrap()
                    .starts_with("PullImage")
            );
        }
        let at_once = tower::service_fn(|_: Request<()>| async { Ok::<_, Status>(Response::new(Body::empty())) });
        let request = Request::builder().header("grpc-timeout", "1m").body(()).unwrap();
        assert!(
            !Deadlines::new(at_once)
                .oneshot(request)
                .await
                .unwrap()
                .headers()
                .contains_key("grpc-status")
        );
    }

    #[test]
    fn reads_the_header_as_the_protocol_defines_it() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            limit(&headers)
        };
        assert_eq!(of("1m"), Some(Duration::from_millis(1)));
        assert_eq!(of("999424u"), Some(Duration::from_micros(999_424)));
        assert_eq!(of("2M"), Some(Duration::from_secs(120)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "123456789S", "-1S", "1x", "1.5S", "ä"] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(limit(&headers), None, "{bad}");
        }
        assert_eq!(limit(&HeaderMap::new()), None);
    }
}
