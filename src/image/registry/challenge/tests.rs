use super::*;
use proptest::prelude::*;

fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
    Challenge::Bearer {
        realm: realm.into(),
        service: service.map(Into::into),
        scope: scope.map(Into::into),
    }
}

#[test]
fn reads_what_registries_send() {
    let hub =
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
    let expected = bearer(
        "https://auth.docker.io/token",
        Some("registry.docker.io"),
        Some("repository:a/b:pull,push"),
    );
    assert_eq!(parse(hub), [expected]);
    assert_eq!(parse(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
    assert_eq!(parse("basic"), [Challenge::Basic]);
    assert_eq!(
        parse(r#"Negotiate, Basic realm="x, y", BEARER Realm = "https://a/\"t\"" , service=b"#),
        [Challenge::Basic, bearer(r#"https://a/"t""#, Some("b"), None)]
    );
}

#[test]
fn r9_junk_and_floods_are_bounded() {
    assert_eq!(parse(""), []);
    assert_eq!(parse(r#"Bearer service="no realm""#), []);
    assert_eq!(parse(r#"Bearer realm="unclosed"#), []);
    assert_eq!(parse(&"Basic, ".repeat(10_000)), []);
    assert_eq!(parse(&"Basic, ".repeat(20)).len(), MAX_CHALLENGES);
    assert_eq!(parse(r#"realm="https://orphan""#), []);
}

proptest! {
    #[test]
    fn never_panics(header in "\\PC{0,200}|(Bearer|Basic|realm|=|\"|\\\\|,| ){0,40}") {
        let challenges = parse(&header);
        prop_assert!(challenges.len() <= MAX_CHALLENGES);
    }
}
