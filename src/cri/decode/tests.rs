mod calls;
mod confinement;
mod containers;
mod limits;
mod pods;
mod random;

use std::collections::BTreeMap;

use copepod_proto::cri as wire;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::domain::container::{ContainerSpec, Signal};
use crate::domain::filter::StateKind;
use crate::domain::mount::{Access, Propagation};
use crate::domain::pod::{NamespaceMode, PodSpec, PodState};
use crate::domain::security::{GroupsPolicy, Privilege, Profile, RequestedUser};

/// A pod as a client sends it at the least.
fn pod() -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: "web".into(),
            uid: "0b5f-1".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..Default::default()
    }
}

/// A container as a client sends it at the least.
fn container() -> wire::ContainerConfig {
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: "main".into(),
            attempt: 0,
        }),
        image: Some(wire::ImageSpec {
            image: "busybox".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn run(config: wire::PodSandboxConfig) -> Result<PodSpec, Failure> {
    pod::run(wire::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    })
}

fn create(config: wire::ContainerConfig) -> Result<ContainerSpec, Failure> {
    let request = wire::CreateContainerRequest {
        pod_sandbox_id: "a".repeat(64),
        config: Some(config),
        sandbox_config: Some(pod()),
    };
    container::create(request).map(|request| request.spec)
}

/// Changes one thing of a pod.
fn pod_with(change: impl FnOnce(&mut wire::PodSandboxConfig)) -> Result<PodSpec, Failure> {
    let mut config = pod();
    change(&mut config);
    run(config)
}

/// Changes one thing of a pod's Linux part.
fn linux_pod_with(change: impl FnOnce(&mut wire::LinuxPodSandboxConfig)) -> Result<PodSpec, Failure> {
    pod_with(|config| change(config.linux.get_or_insert_default()))
}

/// Changes one thing of a pod's security.
fn secure_pod_with(change: impl FnOnce(&mut wire::LinuxSandboxSecurityContext)) -> Result<PodSpec, Failure> {
    linux_pod_with(|linux| change(linux.security_context.get_or_insert_default()))
}

/// Changes one thing of a container.
fn container_with(change: impl FnOnce(&mut wire::ContainerConfig)) -> Result<ContainerSpec, Failure> {
    let mut config = container();
    change(&mut config);
    create(config)
}

/// Changes one thing of a container's security.
fn secure_with(change: impl FnOnce(&mut wire::LinuxContainerSecurityContext)) -> Result<ContainerSpec, Failure> {
    container_with(|config| {
        change(
            config
                .linux
                .get_or_insert_default()
                .security_context
                .get_or_insert_default(),
        );
    })
}

/// Changes one limit.
fn limited_with(change: impl FnOnce(&mut wire::LinuxContainerResources)) -> Result<ContainerSpec, Failure> {
    container_with(|config| change(config.linux.get_or_insert_default().resources.get_or_insert_default()))
}

/// A refusal: of this kind, naming this field, saying what to do, and short whatever was sent.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, kind: Kind, field: &str) {
    let failure = result.unwrap_err();
    let text = failure.chain();
    assert_eq!(failure.kind(), kind, "{text}");
    assert!(text.contains(field), "{field} is not named: {text}");
    assert!(text.contains(';') && text.len() < 400, "no remedy, or too long: {text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[track_caller]
fn invalid_field<T: std::fmt::Debug>(result: Result<T, Failure>, field: &str) {
    refused(result, Kind::InvalidArgument, field);
}

#[test]
fn the_least_pod_is_an_ordinary_one() {
    let spec = run(pod()).unwrap();
    assert_eq!((spec.metadata.name.as_str(), spec.metadata.attempt), ("web", 2));
    assert_eq!(spec.namespaces.pid, NamespaceMode::Pod, "the zero value");
    assert_eq!(spec.security.privilege, Privilege::Ordinary);
    assert_eq!(spec.security.seccomp, Profile::Unconfined);
    assert_eq!(
        (spec.dns, spec.log_directory, spec.cgroup_parent.as_str()),
        (None, None, "")
    );
}

#[test]
fn the_least_container_is_an_ordinary_one() {
    let spec = create(container()).unwrap();
    assert_eq!(spec.identity.user, RequestedUser::Image);
    assert_eq!(spec.identity.groups_policy, GroupsPolicy::Merge);
    assert_eq!(
        (spec.security.seccomp, spec.security.apparmor),
        (Profile::Unconfined, None)
    );
    assert_eq!((spec.log_path, spec.stop_signal), (None, None));
}

#[test]
fn q2_missing_messages_are_named() {
    let run = |config| {
        pod::run(wire::RunPodSandboxRequest {
            config,
            runtime_handler: String::new(),
        })
    };
    invalid_field(run(None), "config");
    invalid_field(pod_with(|config| config.metadata = None), "config.metadata");
    invalid_field(container_with(|config| config.metadata = None), "config.metadata");
    invalid_field(container_with(|config| config.image = None), "config.image");
    invalid_field(
        container_with(|config| config.image = Some(Default::default())),
        "config.image.image",
    );
    let request = |config, sandbox_config| {
        let pod_sandbox_id = "a".to_owned();
        container::create(wire::CreateContainerRequest {
            pod_sandbox_id,
            config,
            sandbox_config,
        })
    };
    invalid_field(request(None, Some(pod())), "config");
    invalid_field(request(Some(container()), None), "sandbox_config");
    invalid_field(image::named(None), "image");
}

#[test]
fn q2_too_much_of_anything_is_refused() {
    let many = |count: usize| {
        (0..count)
            .map(|n| (n.to_string(), String::new()))
            .collect::<BTreeMap<_, _>>()
    };
    invalid_field(pod_with(|config| config.labels = many(100_000)), "config.labels");
    invalid_field(
        container_with(|config| config.annotations = many(100_000)),
        "config.annotations",
    );
    let blob = BTreeMap::from([("blob".to_owned(), "x".repeat(2 << 20))]);
    invalid_field(container_with(|config| config.annotations = blob), "config.annotations");
    invalid_field(
        container_with(|config| config.mounts = vec![Default::default(); 10_001]),
        "config.mounts",
    );
    invalid_field(
        container_with(|config| config.devices = vec![Default::default(); 10_001]),
        "config.devices",
    );
    invalid_field(
        container_with(|config| config.envs = vec![Default::default(); 200_000]),
        "config.envs",
    );
    invalid_field(
        container_with(|config| config.args = vec!["x".repeat(1000); 10_000]),
        "config.args",
    );
    invalid_field(
        secure_with(|context| context.supplemental_groups = vec![1; 100_000]),
        "supplemental_groups",
    );
}

#[test]
fn q2_unknown_enum_values_are_refused() {
    let options = |change: fn(&mut wire::NamespaceOption)| {
        let mut options = wire::NamespaceOption::default();
        change(&mut options);
        secure_pod_with(|context| context.namespace_options = Some(options))
    };
    invalid_field(options(|options| options.network = 9), "namespace_options.network");
    invalid_field(options(|options| options.pid = -1), "namespace_options.pid");
    invalid_field(options(|options| options.ipc = 4), "namespace_options.ipc");
    invalid_field(
        secure_with(|context| context.supplemental_groups_policy = 2),
        "supplemental_groups_policy",
    );
    invalid_field(container_with(|config| config.stop_signal = 66), "stop_signal");
    let state = Some(wire::ContainerStateValue { state: 4 });
    invalid_field(
        filter::containers(Some(wire::ContainerFilter {
            state,
            ..Default::default()
        })),
        "filter.state",
    );
    let state = Some(wire::PodSandboxStateValue { state: 2 });
    invalid_field(
        filter::pods(Some(wire::PodSandboxFilter {
            state,
            ..Default::default()
        })),
        "filter.state",
    );
}
