//! Enforces the house: which room may know which (directions), which outside crate lives where, where `unsafe` and
//! forks may be, how long files may get. The rules are data at the top; `catches_…` tests plant violations and see
//! them found. Rules are tightened here, never loosened to get something through.

#[path = "tidy/repository.rs"]
mod repository;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the daemon and the rooms each may name with `crate::`. A room that is not listed may name all.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("domain", &["base"]),
    ("telemetry", &["base"]),
    ("oci", &["domain", "base"]),
    ("image", &["domain", "base", "telemetry"]),
    ("snapshot", &["domain", "base", "telemetry"]),
    ("network", &["domain", "base", "telemetry"]),
    ("runtime", &["domain", "base", "telemetry"]),
    ("state", &["domain", "base", "telemetry"]),
    (
        "ops",
        &[
            "oci",
            "image",
            "snapshot",
            "network",
            "runtime",
            "state",
            "domain",
            "base",
            "telemetry",
        ],
    ),
    ("cri", &["ops", "domain", "base", "telemetry"]),
    ("stream", &["ops", "domain", "base", "telemetry"]),
    ("config", &["image", "network", "runtime", "telemetry", "base"]),
];

/// The same for the shim: floors 4 start serve delete, 3 ttrpc, 2 ops, 1 child init io cgroup reap oom, 0 task plan, sys.
const SHIM_FLOORS: &[(&str, u8)] = &[
    ("sys", 0),
    ("task", 0),
    ("plan", 0),
    ("seccomp", 0),
    ("child", 1),
    ("init", 1),
    ("io", 1),
    ("cgroup", 1),
    ("reap", 1),
    ("oom", 1),
    ("pin", 1),
    ("pause", 1),
    ("ops", 2),
    ("ttrpc", 3),
    ("start", 4),
    ("serve", 4),
    ("delete", 4),
];

/// Outside crates that may be named only in these rooms of the daemon: wire types stay at the edges.
const HOMES: &[(&str, &[&str])] = &[
    ("tonic", &["cri"]),
    ("tonic_prost", &["cri"]),
    ("prost", &["cri"]),
    ("copepod_proto::cri", &["cri"]),
    ("copepod_proto::shim", &["runtime"]),
    ("copepod_proto::bundle", &["runtime"]),
    ("containerd_shim_protos", &["runtime"]),
    ("ttrpc", &["runtime"]),
    ("protobuf", &["runtime"]),
    ("cgroups_rs", &["runtime"]),
    ("redb", &["state"]),
    ("reqwest", &["image"]),
    ("rustls", &["image"]),
    ("tar", &["image"]),
    ("flate2", &["image"]),
    ("zstd", &["image"]),
    ("oci_spec", &["oci", "image"]),
    ("clap", &["cli", "main"]),
    ("toml", &["config", "image"]),
];

/// What the shim must never contain: it is one thread for life, so that it may fork and go on in Rust.
const SHIM_BANS: &[&str] = &[
    "spawn_blocking",
    "tokio::fs",
    "std::thread",
    "thread::spawn",
    "new_multi_thread",
];

/// Files longer than this hold more than one idea.
const MAX_LINES: usize = 600;

type Tree = BTreeMap<PathBuf, String>;

#[test]
fn rooms_know_only_the_floors_below() {
    assert_clean(&directions(&tree("src")));
    assert_clean(&shim_directions(&tree("shim/src")));
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    assert_clean(&homes(&tree("src")));
}

#[test]
fn unsafe_has_one_door() {
    let all = [tree("src"), tree("proto/src"), tree("shim/src"), tree("tests")];
    for tree in &all {
        assert_clean(&unsafe_outside_sys(tree));
    }
}

#[test]
fn the_shim_is_one_thread_for_life() {
    assert_clean(&shim_bans(&tree("shim/src")));
}

#[test]
fn every_name_has_one_path() {
    assert_clean(&re_exports(&tree("src")));
    assert_clean(&re_exports(&tree("shim/src")));
}

#[test]
fn wire_messages_are_taken_apart_whole() {
    assert_clean(&rests_in_patterns(&tree("src/cri/decode")));
}

#[test]
fn files_hold_one_idea_and_modules_have_names() {
    for root in ["src", "shim/src", "proto/src"] {
        assert_clean(&shapes(&tree(root)));
    }
}

#[test]
fn the_installed_default_configuration_is_the_built_in_one() {
    let installed = fs::read_to_string(top().join("manifests/config.toml")).expect("manifests/config.toml");
    assert_eq!(
        installed,
        copepod::config::raw::default_file(),
        "write it anew: copepod config default"
    );
}

#[test]
fn the_repository_speaks_of_itself_alone() {
    let scratch = format!("/{}/", "work");
    for root in ["src", "shim", "proto", "tests", "hack", "manifests"] {
        for (path, text) in tree_of(&top().join(root), &|path| {
            !path.components().any(|c| c.as_os_str() == "target")
        }) {
            assert!(
                !text.contains(&scratch),
                "{} names a path of some machine",
                path.display()
            );
        }
    }
}

#[test]
fn catches_a_planted_upward_import() {
    let planted = Tree::from([
        ("image/content.rs".into(), "use crate::ops::Ops;\n".to_owned()),
        (
            "domain/pod.rs".into(),
            "fn f() { crate::telemetry::log::install() }\n".to_owned(),
        ),
        (
            "network.rs".into(),
            "use crate::{base::id::PodId, runtime::Task};\n".to_owned(),
        ),
        (
            "cri/encode.rs".into(),
            "use crate::domain::pod::Pod;\nuse crate::ops::Ops;\n".to_owned(),
        ),
        (
            "ops.rs".into(),
            "// crate::cri is only mentioned\nuse crate::state::State;\n".to_owned(),
        ),
    ]);
    let found = directions(&planted);
    let names: Vec<_> = found
        .iter()
        .map(|line| line.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(names, ["domain/pod.rs", "image/content.rs", "network.rs"], "{found:?}");
    let shim = Tree::from([("child/exec.rs".into(), "use crate::ttrpc::Service;\n".to_owned())]);
    assert_eq!(shim_directions(&shim).len(), 1);
}

#[test]
fn catches_a_wire_type_far_from_home() {
    let planted = Tree::from([
        (
            "ops/run_pod.rs".into(),
            "use copepod_proto::cri::PodSandboxConfig;\n".to_owned(),
        ),
        ("state.rs".into(), "use redb::Database;\n".to_owned()),
        (
            "image/unpack.rs".into(),
            "let x = tonic::Status::ok(\"\");\n".to_owned(),
        ),
    ]);
    assert_eq!(homes(&planted).len(), 2);
}

#[test]
fn catches_unsafe_threads_rests_and_long_files() {
    let unsafe_word = format!("{} {{ libc::fork() }}\n", "unsafe");
    let planted = Tree::from([
        ("sys/clone.rs".into(), unsafe_word.clone()),
        ("init.rs".into(), unsafe_word),
    ]);
    assert_eq!(unsafe_outside_sys(&planted).len(), 1);
    let threads = Tree::from([("serve.rs".into(), "std::thread::sleep(x);".to_owned())]);
    assert_eq!(shim_bans(&threads).len(), 1);
    let twice = Tree::from([(
        "image.rs".into(),
        "pub use error::PullError;\npub(crate) use a::B;\nuse c::D;\n".to_owned(),
    )]);
    assert_eq!(re_exports(&twice).len(), 2);
    let rests = Tree::from([(
        "pod.rs".into(),
        "let wire::Mount { host_path, .. } = mount;\nlet r = 0..5;\n".to_owned(),
    )]);
    assert_eq!(rests_in_patterns(&rests).len(), 1);
    let long = Tree::from([
        ("a.rs".into(), "//! x\n".to_owned() + &"\n".repeat(MAX_LINES)),
        ("b/mod.rs".into(), "//! x\n".to_owned()),
        ("utils.rs".into(), "//! x\n".to_owned()),
        ("c.rs".into(), "fn no_heading() {}\n".to_owned()),
    ]);
    assert_eq!(shapes(&long).len(), 4);
}

fn directions(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        let room = room_of(path);
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == room) else {
            continue;
        };
        for (number, named) in crate_names(text) {
            let known = DIRECTIONS.iter().any(|(name, _)| *name == named) || ["app", "cli"].contains(&named.as_str());
            if known && named != room && !allowed.contains(&named.as_str()) {
                found.push(format!("{}:{number}: `{room}` must not know `{named}`", path.display()));
            }
        }
    }
    found
}

fn shim_directions(tree: &Tree) -> Vec<String> {
    let floor = |name: &str| {
        SHIM_FLOORS
            .iter()
            .find(|(room, _)| *room == name)
            .map(|(_, floor)| *floor)
    };
    let mut found = Vec::new();
    for (path, text) in tree {
        let room = room_of(path);
        let Some(own) = floor(&room) else { continue };
        for (number, named) in crate_names(text) {
            if floor(&named).is_some_and(|other| other > own) {
                found.push(format!(
                    "{}:{number}: `{room}` must not know `{named}`, a floor above",
                    path.display()
                ));
            }
        }
    }
    found
}

fn homes(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        let room = room_of(path);
        for (number, line) in code_lines(text) {
            for (name, rooms) in HOMES {
                if names_path(&line, name) && !rooms.contains(&room.as_str()) {
                    found.push(format!(
                        "{}:{number}: {name} belongs in {rooms:?}, not in `{room}`",
                        path.display()
                    ));
                }
            }
        }
    }
    found
}

fn unsafe_outside_sys(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        if room_of(path) == "sys" {
            continue;
        }
        for (number, line) in code_lines(text) {
            let word = format!("{} ", "unsafe");
            if line.contains(&format!("{word}{{"))
                || line.contains(&format!("{word}fn"))
                || line.contains(&format!("{word}impl"))
            {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

fn shim_bans(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        if is_test(path) {
            continue;
        }
        for (number, line) in code_lines(text) {
            if let Some(ban) = SHIM_BANS.iter().find(|ban| line.contains(**ban)) {
                found.push(format!("{}:{number}: {ban} in the shim", path.display()));
            }
        }
    }
    found
}

fn re_exports(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        for (number, line) in code_lines(text) {
            let trimmed = line.trim_start();
            if trimmed.starts_with("pub use ") || trimmed.starts_with("pub(") && trimmed.contains(") use ") {
                found.push(format!(
                    "{}:{number}: name the module that has it instead",
                    path.display()
                ));
            }
        }
    }
    found
}

fn rests_in_patterns(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        if is_test(path) {
            continue;
        }
        for (number, line) in code_lines(text) {
            let trimmed = line.trim();
            if trimmed == ".." || trimmed.starts_with(".. }") || line.contains(", .. }") || line.contains("{ .. }") {
                found.push(format!("{}:{number}: a rest pattern hides wire fields", path.display()));
            }
        }
    }
    found
}

fn shapes(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{}: {lines} lines, more than {MAX_LINES}", path.display()));
        }
        if ["mod.rs", "utils.rs", "common.rs", "helpers.rs"].contains(&name) {
            found.push(format!("{}: no file of this name", path.display()));
        }
        if !text.starts_with("//!") && !is_test(path) {
            found.push(format!(
                "{}: opens without a `//!` paragraph that says why it exists",
                path.display()
            ));
        }
    }
    found
}

/// Every `crate::name` in code, `crate::{a::…, b::…}` included, with its line.
fn crate_names(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let lines = code_lines(text);
    let flat: Vec<(usize, &str)> = lines.iter().map(|(number, line)| (*number, line.as_str())).collect();
    for (at, (number, line)) in flat.iter().enumerate() {
        for (offset, _) in line.match_indices("crate::") {
            let rest = &line[offset + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                let mut whole = group.to_owned();
                for (_, more) in flat.iter().skip(at + 1).take_while(|_| true) {
                    if whole.contains("};") {
                        break;
                    }
                    whole.push_str(more);
                }
                names.extend(heads(whole.split("};").next().unwrap_or_default()).map(|name| (*number, name)));
            } else {
                names.extend(identifier(rest).map(|name| (*number, name)));
            }
        }
    }
    names
}

/// First names of the entries of a `use` group, those of nested groups left out.
fn heads(group: &str) -> impl Iterator<Item = String> {
    let mut depth = 0;
    let mut entries = Vec::new();
    let mut entry = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(std::mem::take(&mut entry)),
            _ if depth == 0 => entry.push(c),
            _ => {}
        }
    }
    entries.push(entry);
    entries.into_iter().filter_map(|entry| identifier(entry.trim()))
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Whether `line` names the path `name::` with nothing before it that makes it another path.
fn names_path(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            && (after.starts_with("::") || after.starts_with(';'))
    })
}

/// Lines without comments, numbered from 1.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}

fn room_of(path: &Path) -> String {
    let first = path
        .components()
        .next()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests") || path.components().any(|c| c.as_os_str() == "tests")
}

fn assert_clean(found: &[String]) {
    assert!(found.is_empty(), "{} violation(s):\n{}", found.len(), found.join("\n"));
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below `root`, by path relative to it.
fn tree(root: &str) -> Tree {
    tree_of(&top().join(root), &|path| {
        path.extension().is_some_and(|extension| extension == "rs")
    })
}

fn tree_of(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Tree {
    let mut found = Tree::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if wanted(&path)
                && let Ok(text) = fs::read_to_string(&path)
                && let Ok(relative) = path.strip_prefix(root)
            {
                found.insert(relative.to_owned(), text);
            }
        }
    }
    found
}
