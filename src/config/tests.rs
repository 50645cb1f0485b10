use super::*;

fn mistakes(text: &str) -> Vec<(Option<usize>, String)> {
    parse(text)
        .unwrap_err()
        .into_iter()
        .map(|mistake| (mistake.line, mistake.key))
        .collect()
}

#[test]
fn the_default_file_is_what_no_file_means() {
    let (written, mistakes) = raw::read(&raw::default_file());
    assert_eq!(mistakes, []);
    let (unwritten, _) = raw::read("");
    let values = |values: raw::Values| {
        values
            .into_iter()
            .map(|(key, written)| (key, written.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(written), values(unwritten));
    let config = parse("").unwrap();
    assert_eq!(config.socket, Path::new("/run/copepod/copepod.sock"));
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "root = 5\nsurprise = true\n[network]\nmode = \"magic\"\n[network.builtin]\nsubnet = \"10.0.0.1/16\"\n\
                bridge = \"a-name-that-is-too-long\"\n[log]\nformat = \"xml\"\nlevel = \"[\"\n[cri]\nsocket = \"relative\"\n";
    let found = mistakes(text);
    let expected = [
        (Some(1), "root"),
        (Some(2), "surprise"),
        (Some(4), "network.mode"),
        (Some(6), "network.builtin.subnet"),
        (Some(7), "network.builtin.bridge"),
        (Some(9), "log.format"),
        (Some(10), "log.level"),
        (Some(12), "cri.socket"),
    ];
    assert_eq!(found, expected.map(|(line, key)| (line, key.to_owned())));
}

#[test]
fn a_count_has_an_end() {
    assert!(parse("[image]\nmax_concurrent_layers = 1024").is_ok());
    for bad in ["0", "1025", "9223372036854775807", "-1"] {
        let found = mistakes(&format!("[image]\nmax_concurrent_layers = {bad}"));
        assert_eq!(found, [(Some(2), "image.max_concurrent_layers".to_owned())], "{bad}");
    }
}

#[test]
fn an_unknown_key_is_answered_with_the_known_ones() {
    let error = ConfigError::Wrong {
        path: "/etc/c.toml".into(),
        mistakes: parse("[network.cni]\nbin_dir = 1").unwrap_err(),
    };
    let text = error.to_string();
    assert!(
        text.contains("/etc/c.toml:2: network.cni.bin_dir: no such key; allowed here: conf_dir, bin_dirs"),
        "{text}"
    );
}

#[test]
fn bad_syntax_names_its_line() {
    assert_eq!(mistakes("root = \"/a\"\nstate = = \n")[0].0, Some(2));
}

#[test]
fn two_roots_are_two_instances() {
    let instance = |root: &str| parse(&format!("root = {root:?}")).unwrap().runtime.instance;
    assert_ne!(instance("/a"), instance("/b"));
    assert_eq!(instance("/a"), instance("/a"));
    for written in ["/a/", "//a", "/./a"] {
        assert_eq!(instance(written), instance("/a"), "{written}");
    }
}

#[test]
fn a_root_by_way_of_a_link_is_the_same_instance_before_and_after_it_exists() {
    let top = tempfile::tempdir().unwrap();
    std::fs::create_dir(top.path().join("disk")).unwrap();
    std::os::unix::fs::symlink("disk", top.path().join("link")).unwrap();
    let instance = |below: &str| {
        let root = top.path().join(below);
        parse(&format!("root = {root:?}")).unwrap().runtime.instance
    };
    let before = instance("link/root");
    assert_eq!(before, instance("disk/root"));
    std::fs::create_dir(top.path().join("disk/root")).unwrap();
    assert_eq!(before, instance("link/root"));
    assert_eq!(before, instance("disk/root/"));
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Path::new("/nonexistent/config.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("read the configuration /nonexistent/config.toml"),
        "{error}"
    );
}

#[test]
fn fallbacks_are_checked_by_name_and_all_means_each() {
    let forced = |text: &str| parse(text).map(|config| config.runtime.force_fallbacks);
    let every: Vec<String> = runtime::FALLBACKS.iter().copied().map(str::to_owned).collect();
    assert_eq!(forced("[runtime]\nforce_fallbacks = [\"all\"]").unwrap(), every);
    for name in &every {
        let text = format!("[runtime]\nforce_fallbacks = [{name:?}]");
        assert_eq!(forced(&text).unwrap(), std::slice::from_ref(name));
    }
    let mistakes = forced("[runtime]\nforce_fallbacks = [\"all\", \"clone9\"]").unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].line, Some(2));
    for name in every.iter().map(String::as_str).chain(["all", "clone9"]) {
        assert!(mistakes[0].problem.contains(name), "{}", mistakes[0].problem);
    }
}

/// The default file cannot be made from the list; this keeps the two together.
#[test]
fn the_default_file_names_every_fallback() {
    for name in runtime::FALLBACKS {
        assert!(raw::default_file().contains(name));
    }
}
