//! Tasks whose fate does not hang on the caller's.
//!
//! tonic drops a handler's future when its client goes away, at whatever await it stood. A verb that changes the world
//! must not stop there, so it runs in a task of its own and the handler only waits for it (house decision 9).

use std::future::Future;

use tokio::task::JoinError;

/// Runs `verb` to its end even if the returned future is dropped.
///
/// # Errors
/// The task panicked (the daemon lives on) or the runtime is shutting down.
pub async fn detached<T, F>(verb: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    tokio::spawn(verb).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_dropped_caller_does_not_stop_the_verb() {
        let (done, finished) = oneshot::channel();
        let verb = detached(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            done.send(()).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), verb).await.is_err());
        finished.await.unwrap();
    }
}
