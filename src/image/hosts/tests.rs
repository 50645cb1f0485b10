use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn with(dir: &str, text: &str) -> Self {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join(dir)).unwrap();
        fs::write(tree.path().join(dir).join("hosts.toml"), text).unwrap();
        Self(tree)
    }

    fn ask(&self, image: &str) -> Result<Vec<Endpoint>, HostsError> {
        endpoints(self.0.path(), &image.parse().unwrap())
    }
}

fn bases(endpoints: &[Endpoint]) -> Vec<(&str, Role)> {
    endpoints.iter().map(|e| (e.base.as_str(), e.role)).collect()
}

#[test]
fn without_a_file_https_and_http_only_on_this_machine() {
    let nowhere = Path::new("/nonexistent");
    for (image, base) in [
        ("q.io/x", "https://q.io/v2"),
        ("x", "https://registry-1.docker.io/v2"),
        ("10.0.0.1:5000/x", "https://10.0.0.1:5000/v2"),
        ("localhost:5000/x", "http://localhost:5000/v2"),
        ("127.0.0.1:5000/x", "http://127.0.0.1:5000/v2"),
        ("[::1]:5000/x", "http://[::1]:5000/v2"),
        ("localhost.evil.io/x", "https://localhost.evil.io/v2"),
    ] {
        let found = endpoints(nowhere, &image.parse().unwrap()).unwrap();
        assert_eq!(bases(&found), [(base, Role::Origin)], "{image}");
    }
    let odd = "256.256.256.256/x".parse().unwrap();
    assert!(matches!(endpoints(nowhere, &odd), Err(HostsError::Registry { .. })));
}

#[test]
fn hosts_are_asked_in_the_order_of_the_file_and_the_server_last() {
    let tree = Tree::with(
        "docker.io",
        r#"
server = "https://registry-1.docker.io"
[host."https://z.example"]
capabilities = ["pull"]
[host."http://a.example:5000/cache"]
[host."https://m.example/v2/proj"]
override_path = true
[host."https://m.example/v2/proj".header]
x-key = ["one", "two"]
"#,
    );
    let found = tree.ask("busybox").unwrap();
    assert_eq!(
        bases(&found),
        [
            ("https://z.example/v2", Role::Mirror),
            ("http://a.example:5000/v2/cache", Role::Mirror),
            ("https://m.example/v2/proj", Role::Mirror),
            ("https://registry-1.docker.io/v2", Role::Origin),
        ]
    );
    assert!(!found[0].resolves && found[0].pulls && found[1].resolves);
    assert_eq!(found[2].headers.get_all("x-key").iter().count(), 2);
    assert!(
        !format!("{:?}", found[2]).contains("two"),
        "header values may be secrets"
    );
}

#[test]
fn the_port_s_other_spelling_and_the_default_directory_count() {
    let under = Tree::with("q.io_5000_", "server = \"http://q.io:5000\"\n");
    assert_eq!(
        bases(&under.ask("q.io:5000/x").unwrap()),
        [("http://q.io:5000/v2", Role::Origin)]
    );
    let default = Tree::with("_default", "[host.\"http://m.example\"]\n");
    let expected = [("http://m.example/v2", Role::Mirror), ("https://q.io/v2", Role::Origin)];
    assert_eq!(bases(&default.ask("q.io/x").unwrap()), expected);
}

#[test]
fn a_server_that_is_somebody_else_gets_no_credentials() {
    let tree = Tree::with("registry.k8s.io", "server = \"http://127.0.0.1:5000\"\n");
    let found = tree.ask("registry.k8s.io/pause:1").unwrap();
    assert_eq!(bases(&found), [("http://127.0.0.1:5000/v2", Role::Mirror)]);
}

#[test]
fn trust_settings_are_relative_to_the_file() {
    let tree = Tree::with(
        "q.io",
        "ca = \"ca.crt\"\nclient = [[\"/c.crt\", \"c.key\"]]\nskip_verify = true\n",
    );
    let trust = tree.ask("q.io/x").unwrap().remove(0).trust;
    let dir = tree.0.path().join("q.io");
    assert_eq!(
        trust,
        Trust {
            authorities: vec![dir.join("ca.crt")],
            client: vec!["/c.crt".into(), dir.join("c.key")],
            verify: Verify::Nothing,
        }
    );
}

#[test]
fn what_is_not_understood_is_named_with_file_and_key() {
    for (text, part) in [
        ("sever = \"x\"", "sever"),
        ("server = 5", "invalid type"),
        ("[host.\"https://m\"]\ndial_timeout = \"1s\"", "dial_timeout"),
        (
            "[host.\"https://m\"]\ncapabilities = [\"fly\"]",
            "host.\"https://m\".capabilities: \"fly\"",
        ),
        ("capabilities = [\"fly\"]", ": capabilities: \"fly\""),
        ("server = \"ftp://q.io\"", "server: must be http"),
        ("server = \"https://u:p@q.io\"", "server: must be http"),
        ("[host.\"https://q.io?x\"]", "must be http"),
        ("client = [\"a\", \"b\"]", "client: must be one PEM"),
        ("[header]\n\"a b\" = \"x\"", "header.\"a b\": is no header name"),
        ("[header]\na = \"x\\ny\"", "header.\"a\": has control"),
        ("server = ", "server"),
    ] {
        let error = Tree::with("q.io", text).ask("q.io/x").unwrap_err();
        let chain = crate::base::error::chain(&error);
        assert!(chain.contains("hosts.toml") && chain.contains(part), "{text}: {chain}");
    }
}
