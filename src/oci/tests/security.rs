use std::collections::BTreeSet;

use super::*;

#[test]
fn an_init_is_confined_whatever_profile_the_node_has() {
    let mut pod = pod();
    pod.spec.security.seccomp = Profile::Localhost("/profiles/x.json".into());
    let spec = build_pod_init(&pod, "/c", &host()).unwrap();
    assert!(spec.linux().as_ref().unwrap().seccomp().is_some());
}

fn caps(case: &Case, set: &str) -> BTreeSet<String> {
    let spec = serde_json::to_value(case.build().unwrap()).unwrap();
    let set = spec
        .pointer(&format!("/process/capabilities/{set}"))
        .unwrap()
        .as_array()
        .unwrap()
        .clone();
    set.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn cve_2022_24769_inheritable_and_ambient_are_empty_unless_asked_for() {
    let mut case = Case::new();
    assert_eq!(caps(&case, "bounding").len(), 14);
    assert_eq!(caps(&case, "effective"), caps(&case, "permitted"));
    assert!(caps(&case, "inheritable").is_empty() && caps(&case, "ambient").is_empty());
    case.spec.security.capabilities.add = vec!["NET_ADMIN".into()];
    assert!(caps(&case, "inheritable").is_empty());
    case.spec.security.capabilities.add_ambient = vec!["NET_RAW".into()];
    case.spec.security.capabilities.drop = vec!["ALL".into()];
    assert_eq!(caps(&case, "ambient"), BTreeSet::from(["CAP_NET_RAW".to_owned()]));
    assert_eq!(
        caps(&case, "bounding"),
        BTreeSet::from(["CAP_NET_ADMIN".to_owned(), "CAP_NET_RAW".to_owned()])
    );
}

#[test]
fn all_then_single_ones() {
    let mut case = Case::new();
    let changes = &mut case.spec.security.capabilities;
    (changes.add, changes.drop) = (vec!["ALL".into()], vec!["CHOWN".into()]);
    assert_eq!(caps(&case, "bounding").len(), 40);
    case.host.own_caps = 1 << 3 | 1;
    assert_eq!(
        caps(&case, "bounding"),
        BTreeSet::from(["CAP_FOWNER".to_owned()]),
        "never more than our own"
    );
    let changes = &mut case.spec.security.capabilities;
    (changes.add, changes.drop) = (Vec::new(), vec!["ALL".into()]);
    assert!(caps(&case, "bounding").is_empty());
}

#[test]
fn q10_unknown_capabilities_are_refused() {
    for name in ["CAP_X", "", "all", "NET RAW"] {
        for dropped in [true, false] {
            let mut case = Case::new();
            let changes = &mut case.spec.security.capabilities;
            if dropped {
                changes.drop.push(name.into())
            } else {
                changes.add.push(name.into())
            }
            assert!(
                matches!(case.build(), Err(OciError::UnknownCapability { .. })),
                "{name}"
            );
        }
    }
    let mut case = Case::new();
    case.host.last_cap = 37;
    case.spec.security.capabilities.add = vec!["BPF".into()];
    assert!(
        matches!(case.build(), Err(OciError::UnknownCapability { .. })),
        "newer than this kernel"
    );
    case.host.last_cap = 40;
    case.host.own_caps = 1;
    assert!(matches!(case.build(), Err(OciError::CapabilityNotOurs { .. })));
}

#[test]
fn privilege_needs_a_privileged_pod() {
    let mut case = Case::new();
    case.spec.security.privilege = Privilege::Privileged;
    let error = case.build().unwrap_err();
    assert!(matches!(error, OciError::PodNotPrivileged));
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

#[test]
fn apparmor_is_never_promised_in_vain() {
    let kind = |profile: Option<Profile>, privilege, on| {
        let host = Host { apparmor: on, ..host() };
        apparmor(profile.as_ref(), privilege, &host)
            .err()
            .map(|error| error.kind())
    };
    use Privilege::{Ordinary, Privileged};
    let local = || Some(Profile::Localhost("x".into()));
    assert_eq!(kind(None, Ordinary, false), None);
    assert_eq!(kind(Some(Profile::Unconfined), Ordinary, true), None);
    assert_eq!(kind(Some(Profile::RuntimeDefault), Privileged, false), None);
    assert_eq!(
        kind(Some(Profile::RuntimeDefault), Ordinary, false),
        Some(Kind::InvalidArgument)
    );
    assert_eq!(kind(local(), Privileged, false), Some(Kind::InvalidArgument));
    assert_eq!(kind(local(), Ordinary, true), Some(Kind::Unimplemented));
}

#[test]
fn selinux_labels_are_refused_where_they_would_mean_something() {
    let mut case = Case::new();
    case.spec.security.selinux = Some(":::s0:c1,c2".into());
    assert!(case.build().is_ok(), "SELinux is off: labels mean nothing");
    for host_on in [true, false] {
        let host = Host {
            selinux: host_on,
            ..host()
        };
        let refused = selinux(Some(":::s0:c1,c2"), &host).err();
        assert_eq!(refused.is_some(), host_on);
        assert!(
            refused.is_none_or(|error| error.kind() == Kind::Unimplemented && error.to_string().contains("s0:c1,c2"))
        );
        assert!(selinux(None, &host).is_ok());
    }
}

#[test]
fn cve_2023_2431_a_named_seccomp_profile_is_never_replaced_by_none() {
    let mut case = Case::new();
    case.spec.security.seccomp = Profile::Localhost("/p.json".into());
    assert!(matches!(case.build(), Err(OciError::SeccompNotRead { .. })));
}
