use std::collections::BTreeMap;

use super::*;
use crate::base::clock::Timestamp;
use crate::domain::container::{ContainerMetadata, ContainerSpec, Exit, ExitReason, ImageRequest, Signal};
use crate::domain::filter::StateKind;
use crate::domain::pod::{NamespaceMode, Namespaces, Pins, PodMetadata, PodSpec};
use crate::domain::resources::Resources;
use crate::domain::security::{
    CapabilityChanges, GroupsPolicy, Identity, PodSecurity, Privilege, Profile, RequestedUser, ResolvedUser, Security,
};

fn identity() -> Identity {
    Identity {
        user: RequestedUser::Image,
        group: None,
        supplemental_groups: vec![],
        groups_policy: GroupsPolicy::Merge,
    }
}

fn namespaces() -> Namespaces {
    Namespaces {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
    }
}

fn labels(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(UID_LABEL.to_owned(), uid.to_owned())])
}

/// A pod with its own network, IPC and per-container PID namespaces.
pub(crate) fn pod(id: &str, uid: &str) -> Pod {
    Pod {
        id: id.parse().unwrap(),
        spec: PodSpec {
            metadata: PodMetadata {
                name: "web".into(),
                namespace: "default".into(),
                uid: uid.into(),
                attempt: 0,
            },
            hostname: String::new(),
            log_directory: None,
            dns: None,
            ports: vec![],
            labels: labels(uid),
            annotations: BTreeMap::new(),
            cgroup_parent: String::new(),
            sysctls: BTreeMap::new(),
            namespaces: namespaces(),
            security: PodSecurity {
                privilege: Privilege::Ordinary,
                identity: identity(),
                readonly_rootfs: false,
                seccomp: Profile::Unconfined,
                apparmor: None,
                selinux: None,
            },
            overhead: Resources::default(),
            resources: Resources::default(),
            runtime_handler: String::new(),
        },
        created_at: Timestamp(1),
        state: PodState::Ready,
        pins: Pins::default(),
        attachment: None,
        network_owed: false,
        effective_hostname: String::new(),
        boot_id: String::new(),
    }
}

/// A container of that pod.
pub(crate) fn container(id: &str, pod: &str, uid: &str) -> Container {
    let digest = format!("sha256:{}", "0".repeat(64));
    Container {
        id: id.parse().unwrap(),
        pod: pod.parse().unwrap(),
        spec: ContainerSpec {
            metadata: ContainerMetadata {
                name: "main".into(),
                attempt: 0,
            },
            image: ImageRequest {
                image: digest.clone(),
                user_specified: String::new(),
                annotations: BTreeMap::new(),
                runtime_handler: String::new(),
            },
            command: vec![],
            args: vec![],
            working_dir: String::new(),
            envs: vec![],
            mounts: vec![],
            devices: vec![],
            labels: labels(uid),
            annotations: BTreeMap::new(),
            log_path: None,
            stdin: false,
            stdin_once: false,
            tty: false,
            stop_signal: None,
            resources: Resources::default(),
            namespaces: namespaces(),
            security: Security {
                privilege: Privilege::Ordinary,
                capabilities: CapabilityChanges::default(),
                readonly_rootfs: false,
                no_new_privs: false,
                masked_paths: vec![],
                readonly_paths: vec![],
                seccomp: Profile::Unconfined,
                apparmor: None,
                selinux: None,
            },
            identity: identity(),
        },
        created_at: Timestamp(1),
        state: ContainerState::Created,
        image_id: digest.parse().unwrap(),
        image_name: digest.clone(),
        image_ref: digest,
        layers: vec![],
        user: ResolvedUser {
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/".into(),
        },
        stop_signal: Signal::TERM,
        cgroup: "/c".into(),
        log_path: None,
        boot_id: String::new(),
    }
}

/// A whole id that begins like this.
pub(crate) fn id(start: &str) -> String {
    format!("{start}{}", "0".repeat(64 - start.len()))
}

/// Two pods, `aa…` of uid u1 and `ab…` of uid u2, with one container each, `ca…` and `cb…`.
fn table() -> Table {
    let table = Table::default();
    for (name, uid) in [("aa", "u1"), ("ab", "u2")] {
        table.insert_pod(Arc::new(PodEntry::new(pod(&id(name), uid), None)));
    }
    for (name, of, uid) in [("ca", "aa", "u1"), ("cb", "ab", "u2")] {
        table.insert_container(Arc::new(ContainerEntry::new(container(&id(name), &id(of), uid), None)));
    }
    table
}

fn exit() -> Exit {
    Exit {
        code: 0,
        reason: ExitReason::Completed,
        message: String::new(),
        started_at: Timestamp(1),
        finished_at: Timestamp(2),
    }
}

#[test]
fn contract_2_1_ids_may_be_shortened_unless_ambiguous() {
    let table = table();
    assert_eq!(table.pod("aa").unwrap().id.as_str(), id("aa"));
    assert_eq!(table.pod(&id("ab")).unwrap().id.as_str(), id("ab"));
    assert_eq!(table.pod("a").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(table.pod("").unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(table.pod("f").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(table.container("aa").unwrap_err().kind(), Kind::NotFound);
    assert!(table.find_pod("f").unwrap().is_none());
}

#[test]
fn contract_2_5_filters() {
    let table = table();
    let count = |filter: &PodFilter| table.pods(filter).len();
    assert_eq!(count(&PodFilter::default()), 2);
    let by_id = |text: &str| PodFilter {
        id: Some(text.to_owned()),
        ..PodFilter::default()
    };
    assert_eq!([count(&by_id("aa")), count(&by_id("a")), count(&by_id("f"))], [1, 0, 0]);
    let by_label = PodFilter {
        labels: labels("u2"),
        ..PodFilter::default()
    };
    assert_eq!(table.pods(&by_label)[0].id.as_str(), id("ab"));
    let of_pod = |text: &str| ContainerFilter {
        pod: Some(text.to_owned()),
        ..ContainerFilter::default()
    };
    assert_eq!(table.containers(&of_pod("ab"))[0].id.as_str(), id("cb"));
    assert!(table.containers(&of_pod("a")).is_empty());
    let both = ContainerFilter {
        id: Some("ca".into()),
        ..of_pod("ab")
    };
    assert!(table.containers(&both).is_empty());
    let running = ContainerFilter {
        state: Some(StateKind::Running),
        labels: labels("u1"),
        ..ContainerFilter::default()
    };
    assert!(table.containers(&running).is_empty());
    let entry = table.container("ca").unwrap();
    entry.transition(|state| state.started(7, Timestamp(3))).unwrap();
    assert_eq!(table.containers(&running).len(), 1);
}

#[test]
fn what_is_removed_is_gone_from_every_index() {
    let table = table();
    table.remove_container(&id("ca").parse().unwrap());
    table.remove_pod(&id("aa").parse().unwrap());
    assert!(table.containers_of(&id("aa").parse().unwrap()).is_empty());
    let maps = table.read();
    assert_eq!((maps.pods_by_uid.len(), maps.containers_by_uid.len()), (1, 1));
    assert_eq!(maps.containers_by_pod.len(), 1);
}

#[tokio::test]
async fn an_exit_before_the_start_reply_is_not_lost() {
    let table = table();
    let entry = table.container("ca").unwrap();
    let waiting = tokio::spawn({
        let entry = Arc::clone(&entry);
        async move { entry.ended().await }
    });
    entry.transition(|state| state.exited(exit())).unwrap();
    waiting.await.unwrap();
    assert!(entry.transition(|state| state.started(7, Timestamp(3))).is_err());
    assert!(matches!(entry.container().state, ContainerState::Exited(_)));
    // A container that has ended already is waited for no longer.
    entry.ended().await;
}

#[test]
fn a_pod_that_is_not_ready_takes_no_containers() {
    let table = table();
    let entry = table.pod("aa").unwrap();
    assert!(entry.ready().is_ok());
    entry.update(|pod| pod.state = PodState::NotReady);
    assert_eq!(entry.ready().unwrap_err().kind(), Kind::FailedPrecondition);
}
