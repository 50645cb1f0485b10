//! A step of a verb with a name that people see and a deadline, so that no request hangs without saying where.

use std::future::Future;
use std::time::Duration;

use crate::domain::error::{Failure, Kind};

/// Runs `step`, which fails when it is not done in time.
///
/// # Errors
/// The step's own, or `DeadlineExceeded` naming the stage.
pub(crate) async fn stage<T, F>(name: &'static str, deadline: Duration, step: F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let began = std::time::Instant::now();
    let outcome = match tokio::time::timeout(deadline, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(
            Kind::DeadlineExceeded,
            format!("stage {name:?} was not done within {} s", deadline.as_secs()),
        )),
    };
    tracing::debug!(stage = name, micros = began.elapsed().as_micros(), ok = outcome.is_ok());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hanging_stage_is_named() {
        let hang = std::future::pending::<Result<(), Failure>>();
        let failure = stage("network", Duration::from_millis(1), hang).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::DeadlineExceeded);
        assert!(failure.to_string().contains("\"network\""));
    }
}
