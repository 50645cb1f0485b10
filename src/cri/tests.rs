use tonic::Code;

use super::layer::Call;
use crate::domain::error::{Failure, Kind};

#[tokio::test]
async fn a_panic_fails_one_call_as_internal() {
    let boom = async {
        let none: Option<()> = None;
        none.unwrap();
        Ok::<(), Failure>(())
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
