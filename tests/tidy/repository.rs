//! What must hold of the repository beside its rooms: manifests in order, decisions numbered once, maps true to the
//! tree, refusals that name what they refuse, rootfs files reached by descriptor.

use std::collections::BTreeSet;
use std::fs;

use super::{Tree, assert_clean, code_lines, is_test, room_of, top, tree, tree_of};

/// Rooms in which a file lies in a rootfs, and is reached beneath a directory descriptor only.
const BENEATH: &[&str] = &["shim/src/init", "src/image/unpack"];

#[test]
fn dependencies_stand_in_order() {
    for manifest in ["Cargo.toml", "proto/Cargo.toml", "shim/Cargo.toml"] {
        let text = fs::read_to_string(top().join(manifest)).expect(manifest);
        assert_clean(&out_of_order(manifest, &text));
    }
}

#[test]
fn every_decision_has_a_number_of_its_own() {
    let records = tree_of(&top().join("hack/adr"), &|path| {
        path.extension().is_some_and(|extension| extension == "md")
    });
    assert!(records.len() >= 20, "only {} records", records.len());
    assert_clean(&decisions(&records));
}

#[test]
fn the_maps_name_every_room() {
    for (map, rooms) in [("src/README.md", "src"), ("shim/README.md", "shim/src")] {
        let text = fs::read_to_string(top().join(map)).expect(map);
        assert_clean(&missing_from_map(map, &text, &tree(rooms)));
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    assert_clean(&nameless_refusals(&tree("src")));
}

#[test]
fn files_of_a_rootfs_are_reached_by_descriptor() {
    for root in BENEATH {
        let rooms = tree(root);
        assert!(!rooms.is_empty(), "{root} has moved");
        assert_clean(&paths_into_a_rootfs(&rooms));
    }
}

#[test]
fn catches_disorder() {
    let manifest = "[dependencies]\nb = \"1\"\na = \"1\"\n\n[features]\nz = []\ny = []\n";
    assert_eq!(out_of_order("Cargo.toml", manifest).len(), 1);
    let records = Tree::from([
        ("0001-a.md".into(), "# 0001 A\n".to_owned()),
        ("0001-b.md".into(), "# 0002 B\n".to_owned()),
    ]);
    assert_eq!(decisions(&records).len(), 2);
    let rooms = Tree::from([("a.rs".into(), String::new()), ("b/c.rs".into(), String::new())]);
    assert_eq!(missing_from_map("README.md", "| `a.rs` |", &rooms).len(), 1);
    let refusal = "Failure::new(Kind::Unimplemented, \"not supported\")".to_owned();
    assert_eq!(nameless_refusals(&Tree::from([("cri.rs".into(), refusal)])).len(), 1);
    let path = "std::fs::write(root.join(name), b\"\")".to_owned();
    assert_eq!(paths_into_a_rootfs(&Tree::from([("mount.rs".into(), path)])).len(), 1);
}

/// Dependencies that stand behind one of a later name. Other sections have an order of their own.
fn out_of_order(manifest: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
            last.clear();
        } else if inside
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once(['=', '.'])
        {
            let name = name.trim().to_owned();
            // What is ours stands first.
            if last > name && last != "copepod-proto" {
                found.push(format!("{manifest}: {name} stands behind {last}"));
            }
            last = name;
        }
    }
    found
}

/// Records whose number is taken, or is not that of their heading.
fn decisions(records: &Tree) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (path, text) in records {
        let name = path.display().to_string();
        let number = name.split('-').next().unwrap_or_default().to_owned();
        if !text.starts_with(&format!("# {number} ")) {
            found.push(format!("{name}: its heading has another number"));
        }
        if !seen.insert(number) {
            found.push(format!("{name}: the number is taken"));
        }
    }
    found
}

/// Rooms that a code map does not name in code quotes.
fn missing_from_map(map: &str, text: &str, rooms: &Tree) -> Vec<String> {
    let quoted: BTreeSet<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(['/', '{', ',', '}', '.', ' ']))
        .collect();
    let names: BTreeSet<String> = rooms.keys().map(|path| room_of(path)).collect();
    names
        .iter()
        .filter(|name| !quoted.contains(name.as_str()) && *name != "README")
        .map(|name| format!("{map} has no word on `{name}`"))
        .collect()
}

/// Refusals whose text is fixed, so that it cannot hold the name of what was asked for.
fn nameless_refusals(rooms: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rooms.iter().filter(|(path, _)| !is_test(path)) {
        let lines = code_lines(text);
        for (at, (number, line)) in lines.iter().enumerate() {
            let around = lines.iter().skip(at.saturating_sub(1)).take(4);
            let call: String = around.map(|(_, line)| line.as_str()).collect();
            let refuses = line.contains("Kind::Unimplemented,") && call.contains("Failure::new(");
            if refuses && !call.contains("format!(") {
                found.push(format!("{}:{number}: does not name what is not built", path.display()));
            }
        }
    }
    found
}

/// Calls that take a path where only descriptors may lead into a rootfs.
fn paths_into_a_rootfs(rooms: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rooms.iter().filter(|(path, _)| !is_test(path)) {
        for (number, line) in code_lines(text) {
            if line.contains("std::fs") || line.contains("/proc/self/root") {
                found.push(format!(
                    "{}:{number}: a path into a rootfs: {}",
                    path.display(),
                    line.trim()
                ));
            }
        }
    }
    found
}
