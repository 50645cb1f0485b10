use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    app:x:1000:1000::/home/app:/bin/sh\n\
    1000:x:0:0::/:\n\
    2147483648:x:0:0::/:\n\
    4294967296:x:0:0::/:\n\
    +1:x:0:0::/:\n-1:x:0:0::/:\n0x0:x:0:0::/:\n1e3:x:0:0::/:\n\
    wrapped:x:4294967296:0::/:\n\
    3proxy:x:13:13::nohome:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\napp:x:1000:\nextra:x:50000:other,app\nbad:x:99999999999:app\nlast:x:7:app";

const FILES: Files<'_> = Files {
    passwd: Some(PASSWD),
    group: Some(GROUP),
};

fn ask(user: RequestedUser) -> Identity {
    Identity {
        user,
        group: None,
        supplemental_groups: vec![],
        groups_policy: GroupsPolicy::Merge,
    }
}

fn image(user: &str) -> Result<ResolvedUser, UserError> {
    resolve(&ask(RequestedUser::Image), user, FILES)
}

#[test]
fn the_image_decides_when_nobody_else_does() {
    for (user, uid, gid, home) in [
        ("", 0, 0, "/root"),
        ("root", 0, 0, "/root"),
        ("0", 0, 0, "/root"),
        ("app", 1000, 1000, "/home/app"),
        ("app:extra", 1000, 50000, "/home/app"),
        ("app:5", 1000, 5, "/home/app"),
        ("4242", 4242, 0, "/"),
        ("4242:4343", 4242, 4343, "/"),
        ("2147483647", 2_147_483_647, 0, "/"),
        ("01", 1, 0, "/"),
        ("3proxy", 13, 13, "/"),
    ] {
        let found = image(user).unwrap();
        assert_eq!((found.uid, found.gid, found.home.as_str()), (uid, gid, home), "{user}");
        assert!(found.groups.contains(&gid), "{user}");
    }
}

#[test]
fn cve_2016_3697_a_number_is_never_a_name() {
    assert_eq!(image("1000").unwrap().uid, 1000);
    let by_name = resolve(&ask(RequestedUser::Name("1000".into())), "", FILES).unwrap();
    assert_eq!(by_name.uid, 1000);
}

#[test]
fn cve_2024_40635_cve_2026_46680_cve_2026_30892_no_odd_user_becomes_root() {
    for user in [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "+1",
        "0x0",
        "1e3",
        "1:",
        ":1",
        ":",
        "1:1:1",
        " 1",
        "1 ",
        "a:b:c",
        "wrapped",
        "nobody",
        "app:none",
        "a/b",
        "a\0b",
        "root\n",
        "\u{a0}0",
        "--",
        "0_0",
    ] {
        assert!(image(user).is_err(), "{user:?} gave {:?}", image(user));
    }
    assert!(image(&"a".repeat(100_000)).is_err());
    assert!(resolve(&ask(RequestedUser::Uid(u32::MAX)), "", FILES).is_err());
}

#[test]
fn contract_6_1_merge_and_strict_groups() {
    let mut identity = ask(RequestedUser::Uid(1000));
    identity.supplemental_groups = vec![1234];
    assert_eq!(resolve(&identity, "", FILES).unwrap().groups, [7, 1000, 1234, 50000]);
    identity.groups_policy = GroupsPolicy::Strict;
    assert_eq!(resolve(&identity, "", FILES).unwrap().groups, [1000, 1234]);
}

#[test]
fn a_group_needs_a_user() {
    let mut identity = ask(RequestedUser::Image);
    identity.group = Some(5);
    assert_eq!(resolve(&identity, "app", FILES), Err(UserError::GroupOnly));
    identity.user = RequestedUser::Uid(1000);
    assert_eq!(resolve(&identity, "", FILES).unwrap().gid, 5);
}

#[test]
fn a_name_must_exist_but_a_uid_need_not() {
    let none = Files::default();
    assert_eq!(resolve(&ask(RequestedUser::Uid(7)), "", none).unwrap().gid, 0);
    assert!(resolve(&ask(RequestedUser::Name("app".into())), "", none).is_err());
    assert_eq!(resolve(&ask(RequestedUser::Image), "root", none).unwrap().uid, 0);
}

#[test]
fn cve_2026_47262_a_full_file_of_garbage_is_read_once() {
    let garbage = vec![b':'; FILE_LIMIT];
    let files = Files {
        passwd: Some(&garbage),
        group: Some(&garbage),
    };
    assert_eq!(resolve(&ask(RequestedUser::Image), "9", files).unwrap().uid, 9);
}
