use super::*;

fn at(registry: &str) -> Reference {
    format!("{registry}/team/app:1").parse().unwrap()
}

fn password(username: &str, password: &str) -> Login {
    Login::Password {
        username: username.into(),
        password: password.into(),
    }
}

#[test]
fn forms_are_taken_in_the_contract_s_order() {
    let all = Credentials {
        username: "u".into(),
        password: "p".into(),
        auth: STANDARD.encode("a:b"),
        identity_token: "id".into(),
        registry_token: "bearer".into(),
        server_address: String::new(),
    };
    let registry = at("q.io");
    let mut left = all;
    assert_eq!(login(Some(&left), &registry), Ok(password("u", "p")));
    left.username.clear();
    assert_eq!(login(Some(&left), &registry), Ok(Login::Refresh { token: "id".into() }));
    left.identity_token.clear();
    assert_eq!(login(Some(&left), &registry), Ok(password("a", "b")));
    left.auth.clear();
    assert_eq!(
        login(Some(&left), &registry),
        Ok(Login::Bearer { token: "bearer".into() })
    );
    left.registry_token.clear();
    assert_eq!(login(Some(&left), &registry), Ok(Login::Anonymous));
    assert_eq!(login(None, &registry), Ok(Login::Anonymous));
}

#[test]
fn credentials_of_another_server_are_ignored() {
    let of = |server: &str| Credentials {
        username: "u".into(),
        server_address: server.into(),
        ..Credentials::default()
    };
    for (server, registry) in [
        ("q.io", "q.io"),
        ("https://q.io", "q.io"),
        ("https://q.io/v2/", "Q.io"),
        ("https://q.io:443", "q.io"),
        ("http://q.io:80/", "q.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("localhost:5000", "localhost:5000"),
    ] {
        assert_eq!(
            login(Some(&of(server)), &at(registry)),
            Ok(password("u", "")),
            "{server}"
        );
    }
    for (server, registry) in [
        ("q.io", "evil.io"),
        ("q.io:5000", "q.io:5001"),
        ("q.io", "q.io.evil.io"),
        ("https://q.io/evil.io", "evil.io"),
    ] {
        assert_eq!(
            login(Some(&of(server)), &at(registry)),
            Ok(Login::Anonymous),
            "{server}"
        );
    }
}

#[test]
fn auth_is_decoded_or_refused_without_quoting_it() {
    let with = |auth: String| Credentials {
        auth,
        ..Credentials::default()
    };
    let padded = with(STANDARD.encode("u:p:q\0\0"));
    assert_eq!(login(Some(&padded), &at("q.io")), Ok(password("u", "p:q")));
    assert_eq!(
        login(Some(&with("%%%".into())), &at("q.io")),
        Err(CredentialsError::NotBase64)
    );
    let no_colon = with(STANDARD.encode("hushhush"));
    let error = login(Some(&no_colon), &at("q.io")).unwrap_err();
    assert_eq!(error, CredentialsError::NotUserPassword);
    assert!(!error.to_string().contains("hushhush"));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let credentials = Credentials {
        username: "hush".into(),
        password: "hush".into(),
        auth: "hush".into(),
        server_address: "q.io".into(),
        identity_token: "hush".into(),
        registry_token: "hush".into(),
    };
    assert!(!format!("{credentials:?}").contains("hush"));
    assert!(!format!("{:?}", password("hush", "hush")).contains("hush"));
}
