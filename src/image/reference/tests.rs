use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn short_names_get_docker_s_defaults() {
    for (text, whole) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b/c:t", "localhost:5000/a/b/c:t"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("[::1]/x", "[::1]/x:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("a/b.c__d--e_f", "docker.io/a/b.c__d--e_f:latest"),
        ("Example.COM/x", "Example.COM/x:latest"),
    ] {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole, "{text}");
    }
}

#[test]
fn a_digest_wins_and_leaves_no_tag() {
    let both: Reference = format!("q.io/x:t@{DIGEST}").parse().unwrap();
    assert_eq!((both.selector(), both.tagged()), (DIGEST, None));
    assert_eq!(both.digested(both.digest().unwrap()), format!("q.io/x@{DIGEST}"));
    let digest: Reference = format!("q.io/x@{DIGEST}").parse().unwrap();
    assert_eq!((digest.tag(), digest.to_string()), (None, format!("q.io/x@{DIGEST}")));
    let tag: Reference = "q.io/x:t".parse().unwrap();
    assert_eq!((tag.selector(), tag.tagged().unwrap().as_str()), ("t", "q.io/x:t"));
}

#[test]
fn docker_hub_answers_elsewhere() {
    assert_eq!("x".parse::<Reference>().unwrap().api_host(), "registry-1.docker.io");
    assert_eq!("q.io/x".parse::<Reference>().unwrap().api_host(), "q.io");
}

#[test]
fn r17_hostile_references_are_refused() {
    let long_tag = format!("x:{}", "t".repeat(129));
    let huge = format!("x:{}", "t".repeat(10_000));
    let long_name = format!("q.io/{}", "a".repeat(255));
    for text in [
        "",
        ":",
        ":latest",
        "@",
        "/",
        "a/../b",
        "../x",
        "q.io/../x",
        "q.io/./x",
        "q.io//x",
        "q.io/",
        "/x",
        "q.io/x/",
        "UPPER",
        "q.io/Upper",
        "x@sha256:zz",
        "x@sha256:",
        "x@sha512:aa",
        "x@",
        "x:",
        "x:-t",
        "x:.t",
        "x:a b",
        "x:t:u",
        "x;rm -rf",
        "$(x)",
        "x\n",
        "x\0",
        "ехample/х",
        "q.io:99999/x",
        "q.io:/x",
        "q.io:80a/x",
        "[::1/x",
        "[zz]/x",
        "[::1]x/x",
        "-q.io/x",
        "q..io/x",
        "x__-y",
        "a___b",
        "a.-b",
        "-a",
        "a-",
        "http://q.io/x",
        "user@q.io/x",
        "q.io/x?y",
        "q.io/x#y",
        "q.io/%2e%2e/x",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &long_tag,
        &huge,
        &long_name,
    ] {
        let error = text.parse::<Reference>().expect_err(text);
        assert!(error.to_string().len() < 700, "the error quotes a bounded part");
    }
}

proptest! {
    #[test]
    fn never_panics_and_what_parses_is_stable(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,80}|\\PC{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let whole = reference.to_string();
            prop_assert_eq!(whole.parse::<Reference>(), Ok(reference.clone()));
            prop_assert!(!reference.repository().split('/').any(|part| part == ".." || part.is_empty()));
        }
    }
}
