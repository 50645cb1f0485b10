use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::limits::Note;
use super::super::resources::{Cpu, HugepageLimit, Memory, Pids, Resources};
use super::{CgroupError, apply, enable_controllers, weight};

/// A directory with files such as cgroupfs would show.
fn fake(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, content) in files {
        fs::write(dir.join(name), content).unwrap();
    }
}

const FILES: [(&str, &str); 11] = [
    ("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n"),
    ("cpu.weight", ""),
    ("cpu.max", ""),
    ("cpuset.cpus", ""),
    ("memory.max", ""),
    ("memory.low", ""),
    ("memory.swap.max", "max\n"),
    ("memory.oom.group", ""),
    ("pids.max", ""),
    ("hugetlb.2MB.max", ""),
    ("hugetlb.2MB.rsvd.max", ""),
];

fn applied(resources: &Resources) -> (BTreeMap<String, String>, Vec<Note>) {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &FILES);
    let notes = apply(dir.path(), resources).unwrap();
    let mut written = BTreeMap::new();
    for (name, before) in FILES {
        let now = fs::read_to_string(dir.path().join(name)).unwrap();
        if now != before {
            written.insert(name.to_owned(), now);
        }
    }
    (written, notes.into_iter().collect())
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter()
        .map(|(file, value)| ((*file).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn every_limit_lands_in_its_file() {
    let resources: Resources = serde_json::from_str(
        r#"{
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": ""},
            "memory": {"limit": 1000, "swap": 1500, "reservation": 400},
            "pids": {"limit": 77},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "unified": {"memory.oom.group": "1", "memory.low": "500"}
        }"#,
    )
    .unwrap();
    let (written, notes) = applied(&resources);
    let wanted = pairs(&[
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("memory.max", "1000"),
        ("memory.swap.max", "500"),
        ("memory.low", "500"),
        ("memory.oom.group", "1"),
        ("pids.max", "77"),
        ("hugetlb.2MB.max", "0"),
        ("hugetlb.2MB.rsvd.max", "0"),
    ]);
    assert_eq!(written, wanted);
    assert_eq!(notes, []);
}

#[test]
fn unlimited_and_unset_are_two_things() {
    let cpu = Cpu {
        quota: Some(-1),
        ..Cpu::default()
    };
    let memory = Memory {
        limit: Some(-1),
        ..Memory::default()
    };
    let unlimited = Resources {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: Some(Pids { limit: -1 }),
        ..Resources::default()
    };
    let wanted = pairs(&[("cpu.max", "max"), ("memory.max", "max"), ("pids.max", "max")]);
    let (mut written, _) = applied(&unlimited);
    written.remove("memory.swap.max");
    assert_eq!(written, wanted);
    let memory = Memory {
        limit: Some(0),
        ..Memory::default()
    };
    let unset = Resources {
        memory: Some(memory),
        pids: Some(Pids { limit: 0 }),
        ..Resources::default()
    };
    assert_eq!(applied(&unset), (BTreeMap::new(), Vec::new()));
}

#[test]
fn a_memory_limit_alone_allows_no_swap() {
    let memory = Memory {
        limit: Some(4096),
        ..Memory::default()
    };
    let (written, notes) = applied(&Resources {
        memory: Some(memory),
        ..Resources::default()
    });
    assert_eq!(written, pairs(&[("memory.max", "4096"), ("memory.swap.max", "0")]));
    assert_eq!(notes, []);
}

#[test]
fn without_swap_accounting_the_limit_holds_and_a_note_is_left() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &[("cgroup.controllers", "memory"), ("memory.max", "")]);
    let memory = Memory {
        limit: Some(4096),
        ..Memory::default()
    };
    let notes = apply(
        dir.path(),
        &Resources {
            memory: Some(memory),
            ..Resources::default()
        },
    )
    .unwrap();
    assert_eq!(notes.into_iter().collect::<Vec<_>>(), [Note::SwapUnlimited]);
    assert_eq!(fs::read_to_string(dir.path().join("memory.max")).unwrap(), "4096");
}

#[test]
fn a_missing_controller_is_named_but_for_huge_pages() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &[("cgroup.controllers", "memory")]);
    let pids = Resources {
        pids: Some(Pids { limit: 5 }),
        ..Resources::default()
    };
    let error = apply(dir.path(), &pids).unwrap_err();
    assert!(
        matches!(error, CgroupError::NoController { controller: "pids", .. }),
        "{error}"
    );
    let huge = HugepageLimit {
        page_size: "1GB".into(),
        limit: 0,
    };
    let notes = apply(
        dir.path(),
        &Resources {
            hugepage_limits: vec![huge],
            ..Resources::default()
        },
    )
    .unwrap();
    assert_eq!(notes.into_iter().collect::<Vec<_>>(), [Note::HugepagesUnlimited]);
}

#[test]
fn unified_takes_controllers_files_only() {
    for file in [
        "cgroup.procs",
        "cgroup.kill",
        "../x.y",
        "memory",
        "memory.",
        ".high",
        "a/b.c",
        "memory.high\n",
        "",
    ] {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), &FILES);
        let unified = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
        let error = apply(
            dir.path(),
            &Resources {
                unified,
                ..Resources::default()
            },
        )
        .unwrap_err();
        assert!(
            matches!(
                error,
                CgroupError::Value {
                    what: "linux.resources.unified",
                    ..
                }
            ),
            "{file:?}: {error}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), &FILES);
    let unified = BTreeMap::from([("io.bfq.weight".to_owned(), "1".to_owned())]);
    let error = apply(
        dir.path(),
        &Resources {
            unified,
            ..Resources::default()
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("io.bfq.weight"), "{error}");
}

#[test]
fn controllers_are_enabled_above_the_leaf_and_not_in_it() {
    let root = tempfile::tempdir().unwrap();
    let leaf = root.path().join("pods/one");
    for dir in [root.path(), &root.path().join("pods"), &leaf] {
        fake(
            dir,
            &[
                ("cgroup.controllers", "cpu memory rdma\n"),
                ("cgroup.subtree_control", "cpu\n"),
            ],
        );
    }
    enable_controllers(root.path(), &leaf).unwrap();
    let control = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap();
    // The fake keeps the last write; cpu was there already and rdma is nothing that a container needs.
    assert_eq!(
        [control(root.path()), control(&root.path().join("pods")), control(&leaf)],
        ["+memory", "+memory", "cpu\n"]
    );
}

#[test]
fn shares_become_weight_as_kubelet_does_it() {
    let table = [
        (0, 1),
        (2, 1),
        (28, 1),
        (29, 2),
        (1024, 39),
        (2048, 79),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ];
    for (shares, wanted) in table {
        assert_eq!(weight(shares), wanted, "{shares}");
    }
}
