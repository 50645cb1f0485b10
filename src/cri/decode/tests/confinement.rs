use super::*;

fn profile_message(profile_type: i32, localhost_ref: &str) -> Option<wire::SecurityProfile> {
    Some(wire::SecurityProfile {
        profile_type,
        localhost_ref: localhost_ref.into(),
    })
}

#[test]
fn q9_cve_2023_2431_profiles_are_found_or_refused() {
    for (kind, reference) in [
        (2, ""),
        (2, "localhost/"),
        (2, "relative"),
        (2, "/a/../b"),
        (2, "localhost/../x"),
        (7, ""),
    ] {
        let result = secure_with(|context| context.seccomp = profile_message(kind, reference));
        invalid_field(result, "security_context.seccomp");
    }
    for (kind, reference) in [(2, ""), (2, "two words"), (2, "a\nb"), (1, "x"), (0, "x")] {
        let result = secure_with(|context| context.apparmor = profile_message(kind, reference));
        invalid_field(result, "security_context.apparmor");
    }
    let seccomp = |message| {
        secure_with(|context| context.seccomp = message)
            .unwrap()
            .security
            .seccomp
    };
    assert_eq!(seccomp(None), Profile::Unconfined, "a missing message");
    assert_eq!(
        seccomp(Some(Default::default())),
        Profile::RuntimeDefault,
        "an empty message"
    );
    assert_eq!(seccomp(profile_message(1, "")), Profile::Unconfined);
    assert_eq!(
        seccomp(profile_message(2, "localhost//p/x.json")),
        Profile::Localhost("/p/x.json".into())
    );
}

#[test]
#[allow(deprecated, reason = "this is about the deprecated fields")]
fn string_profiles_count_only_where_the_structured_one_is_missing() {
    let table = [
        ("", Profile::Unconfined),
        ("unconfined", Profile::Unconfined),
        ("runtime/default", Profile::RuntimeDefault),
        ("docker/default", Profile::RuntimeDefault),
        ("localhost//p.json", Profile::Localhost("/p.json".into())),
    ];
    for (text, expected) in table {
        let spec = secure_with(|context| context.seccomp_profile_path = text.into()).unwrap();
        assert_eq!(spec.security.seccomp, expected, "{text}");
    }
    invalid_field(
        secure_with(|context| context.seccomp_profile_path = "/p.json".into()),
        "seccomp",
    );
    let both = secure_with(|context| {
        context.apparmor_profile = "localhost/old".into();
        context.apparmor = profile_message(2, "localhost/new");
    });
    assert_eq!(both.unwrap().security.apparmor, Some(Profile::Localhost("new".into())));
}

#[test]
fn selinux_levels_are_checked_though_unused() {
    let level = |level: &str| {
        let options = wire::SeLinuxOption {
            level: level.into(),
            ..Default::default()
        };
        secure_with(|context| context.selinux_options = Some(options))
    };
    for good in ["", "s0", "s0-s15", "s0:c1", "s0:c1,c2", "s0-s0:c0.c1023"] {
        assert!(level(good).is_ok(), "{good}");
    }
    for bad in [
        "s0,c4,c5",
        "c1",
        "s",
        "s0:",
        "s0:c",
        "s0:c1;x",
        "s0-s1-s2",
        "s0:c1.c2.c3",
    ] {
        invalid_field(level(bad), "selinux_options.level");
    }
}

#[test]
fn q10_identities() {
    let number = |value| Some(wire::Int64Value { value });
    invalid_field(secure_with(|context| context.run_as_group = number(1)), "run_as_group");
    invalid_field(
        secure_pod_with(|context| context.run_as_group = number(1)),
        "run_as_group",
    );
    let both = secure_with(|context| {
        (context.run_as_user, context.run_as_username) = (number(1), "nobody".into());
    });
    invalid_field(both, "run_as_user");
    for bad in ["1000", "a b", "a:b", "a/b", "a\0", "a\nroot"] {
        invalid_field(
            secure_with(|context| context.run_as_username = bad.into()),
            "run_as_username",
        );
    }
    let spec = secure_with(|context| {
        (context.run_as_username, context.run_as_group) = ("nobody".into(), number(7));
    });
    assert_eq!(spec.unwrap().identity.group, Some(7));
}

#[test]
fn cve_2024_40635_ids_never_wrap() {
    for bad in [-1, i64::MIN, 1 << 31, (1 << 32) - 1, 1 << 32, i64::MAX] {
        let number = Some(wire::Int64Value { value: bad });
        invalid_field(secure_with(|context| context.run_as_user = number), "run_as_user");
        invalid_field(secure_pod_with(|context| context.run_as_user = number), "run_as_user");
        invalid_field(
            secure_with(|context| context.supplemental_groups = vec![bad]),
            "supplemental_groups",
        );
        let group = secure_with(|context| {
            (context.run_as_user, context.run_as_group) = (Some(wire::Int64Value { value: 0 }), number);
        });
        invalid_field(group, "run_as_group");
    }
    let largest = Some(wire::Int64Value { value: (1 << 31) - 1 });
    let spec = secure_with(|context| context.run_as_user = largest).unwrap();
    assert_eq!(spec.identity.user, RequestedUser::Uid((1 << 31) - 1));
}

#[test]
fn q10_capabilities_are_spelt_one_way() {
    let add = |names: &[&str]| {
        let add_capabilities = names.iter().map(|name| (*name).to_owned()).collect();
        let capabilities = Some(wire::Capability {
            add_capabilities,
            ..Default::default()
        });
        secure_with(|context| context.capabilities = capabilities)
    };
    let spec = add(&["net_admin", "CAP_CHOWN", "ALL", "CAP_CAP_X"]).unwrap();
    assert_eq!(
        spec.security.capabilities.add,
        ["NET_ADMIN", "CHOWN", "ALL", "CAP_X"],
        "CAP_X is unknown to any kernel"
    );
    for bad in ["", "CAP_", "NET ADMIN", "A\n", "A,B", &"A".repeat(100)] {
        invalid_field(add(&[bad]), "capabilities");
    }
}

#[test]
fn q10_namespace_modes() {
    let pod = |options| secure_pod_with(|context| context.namespace_options = Some(options));
    let container = |options| secure_with(|context| context.namespace_options = Some(options));
    let target = |target_id: &str| wire::NamespaceOption {
        pid: 3,
        target_id: target_id.into(),
        ..Default::default()
    };
    invalid_field(pod(target("abc")), "namespace_options.pid");
    invalid_field(container(target("")), "namespace_options.pid");
    invalid_field(container(target("../x")), "namespace_options.pid");
    invalid_field(
        pod(wire::NamespaceOption {
            network: 1,
            ..Default::default()
        }),
        "namespace_options.network",
    );
    invalid_field(
        pod(wire::NamespaceOption {
            ipc: 3,
            ..Default::default()
        }),
        "namespace_options.ipc",
    );
    invalid_field(
        pod(wire::NamespaceOption {
            target_id: "a".into(),
            ..Default::default()
        }),
        "target_id",
    );
    let spec = container(target("abc")).unwrap();
    assert_eq!(spec.namespaces.pid, NamespaceMode::Target("abc".into()));
}

#[test]
fn user_namespaces_are_refused_by_name() {
    let user = |mode, ids: usize| {
        let uids = vec![
            wire::IdMapping {
                host_id: 1,
                container_id: 0,
                length: 1
            };
            ids
        ];
        let userns_options = Some(wire::UserNamespace {
            mode,
            gids: uids.clone(),
            uids,
        });
        let options = wire::NamespaceOption {
            userns_options,
            ..Default::default()
        };
        secure_pod_with(|context| context.namespace_options = Some(options))
    };
    assert!(user(2, 0).is_ok(), "kubelet says NODE for every other pod");
    refused(user(0, 1), Kind::Unimplemented, "user namespaces");
    for (mode, ids) in [(1, 1), (3, 1), (2, 1), (9, 0)] {
        invalid_field(user(mode, ids), "userns_options");
    }
}
