use super::*;

#[test]
fn q1_hostile_ids_are_refused_and_harmless_ones_are_merely_unknown() {
    let long = "a".repeat(10_000);
    for text in [
        "",
        "..",
        ".",
        "a/b",
        "../etc",
        "a\0",
        "a\n",
        "ä",
        "a b",
        "%2e%2e",
        long.as_str(),
    ] {
        invalid_field(id::required("container_id", text.into()), "container_id");
    }
    for text in [
        "a",
        &"f".repeat(64),
        "1c3d5e1a-0b1c-4a5e-8c39-0a1b2c3d4e5f",
        "not-hex",
        "sha256:abc",
    ] {
        assert_eq!(id::required("container_id", text.into()).unwrap(), text);
    }
    assert_eq!(id::optional("filter.id", String::new()).unwrap(), None);
    invalid_field(id::optional("filter.id", "../x".into()), "filter.id");
}

#[test]
fn r17_image_names() {
    let long = "x".repeat(10_000);
    let named = |image: &str| {
        image::named(Some(wire::ImageSpec {
            image: image.into(),
            ..Default::default()
        }))
    };
    for bad in [
        "",
        "a/../b",
        "../x",
        "a b",
        "$(id)",
        "a;b",
        "a\nb",
        "bücher",
        "a\0",
        "a`b`",
        long.as_str(),
    ] {
        invalid_field(named(bad), "image.image");
    }
    let digest = format!("busybox@sha256:{}", "a".repeat(64));
    for good in [
        "busybox",
        "localhost:5000/a/b:tag",
        "[::1]:5000/x",
        digest.as_str(),
        "sha256:abc",
        "A/b",
    ] {
        assert_eq!(named(good).unwrap(), good);
    }
    let list = |image: Option<wire::ImageSpec>| {
        image::list(wire::ListImagesRequest {
            filter: Some(wire::ImageFilter { image }),
        })
    };
    assert_eq!(list(None).unwrap(), None);
    assert_eq!(
        list(Some(Default::default())).unwrap(),
        None,
        "crictl sends an empty name"
    );
}

#[test]
fn credentials_never_show_in_refusals() {
    let pull = |auth| {
        let image = Some(wire::ImageSpec {
            image: "x".into(),
            ..Default::default()
        });
        image::pull(wire::PullImageRequest {
            image,
            auth: Some(auth),
            sandbox_config: None,
        })
    };
    let bad = wire::AuthConfig {
        password: "hunter2\r\nX-Header: 1".into(),
        ..Default::default()
    };
    let failure = pull(bad).unwrap_err();
    assert!(
        failure.chain().contains("auth.password") && !failure.chain().contains("hunter2"),
        "{}",
        failure.chain()
    );
    assert!(
        pull(wire::AuthConfig::default()).unwrap().auth.is_none(),
        "empty is anonymous"
    );
    let padded = pull(wire::AuthConfig {
        auth: "dTpw\0\0".into(),
        ..Default::default()
    })
    .unwrap();
    assert_eq!(padded.auth.unwrap().auth, "dTpw");
}

#[test]
fn times_of_exec_and_stop() {
    use crate::ops::request::StopMode;
    use std::time::Duration;
    let sync = |cmd: &[&str], timeout| {
        let cmd = cmd.iter().map(|word| (*word).to_owned()).collect();
        exec::sync(wire::ExecSyncRequest {
            container_id: "a".into(),
            cmd,
            timeout,
        })
    };
    invalid_field(sync(&[], 1), "cmd");
    invalid_field(sync(&[""], 1), "cmd");
    invalid_field(sync(&["a\0"], 1), "cmd");
    invalid_field(sync(&["id"], -1), "timeout");
    assert_eq!(sync(&["id"], 0).unwrap().timeout, None);
    assert_eq!(sync(&["id"], 7).unwrap().timeout, Some(Duration::from_secs(7)));
    let stop = |timeout| {
        exec::stop(wire::StopContainerRequest {
            container_id: "a".into(),
            timeout,
        })
        .unwrap()
        .1
    };
    assert_eq!(
        (stop(0), stop(-5), stop(3)),
        (StopMode::Now, StopMode::Now, StopMode::After(Duration::from_secs(3)))
    );
}

#[test]
fn filters_let_everything_pass_when_empty() {
    assert_eq!(filter::pods(None).unwrap(), Default::default());
    assert_eq!(
        filter::containers(Some(Default::default())).unwrap(),
        Default::default()
    );
    assert_eq!(filter::stats(None).unwrap(), Default::default());
    let state = Some(wire::PodSandboxStateValue { state: 0 });
    let ready = filter::pods(Some(wire::PodSandboxFilter {
        state,
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(ready.state, Some(PodState::Ready), "zero is not absence");
    let state = Some(wire::ContainerStateValue { state: 3 });
    let unknown = filter::containers(Some(wire::ContainerFilter {
        state,
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(unknown.state, Some(StateKind::Unknown));
}
