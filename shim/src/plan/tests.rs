//! A spec in, a plan out, compared as text.

use serde_json::{Value, json};

use super::spec::Spec;
use super::sysctl::path as sysctl_path;
use super::{CgroupView, Hierarchy, Host, build};

const FULL: &str = include_str!("tests/full.json");
const FULL_PLAN: &str = include_str!("tests/full.plan");

fn split() -> Host {
    let hierarchy = |name: &str| Hierarchy {
        name: name.to_owned(),
        directory: format!("/sys/fs/cgroup/{name}/pods/abc"),
    };
    Host {
        cgroup: CgroupView::Split(vec![hierarchy("cpu,cpuacct"), hierarchy("memory")]),
    }
}

fn plan(spec: &Value, host: &Host) -> Result<String, String> {
    let spec: Spec = serde_json::from_str(&spec.to_string()).map_err(|error| error.to_string())?;
    build(&spec, host)
        .map(|plan| plan.to_string())
        .map_err(|error| error.to_string())
}

fn full() -> Value {
    serde_json::from_str(FULL).unwrap()
}

#[test]
fn the_plan_of_a_full_spec_is_the_golden_one() {
    let text = plan(&full(), &split()).unwrap();
    if std::env::var_os("COPEPOD_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plan/tests/full.plan"), &text).unwrap();
        return;
    }
    assert_eq!(
        text, FULL_PLAN,
        "if the change is meant, run with COPEPOD_BLESS=1 and review the difference"
    );
}

#[test]
fn a_unified_host_shows_one_cgroup_filesystem() {
    let text = plan(
        &full(),
        &Host {
            cgroup: CgroupView::Unified,
        },
    )
    .unwrap();
    let line = "attach /sys/fs/cgroup cgroup2 attributes 0xe with access time read-only rprivate\n";
    assert!(text.contains(line), "{text}");
}

/// Where in the full spec, what instead, and what the refusal says.
#[allow(clippy::too_many_lines, reason = "a table")]
fn weakening() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "/hooks",
            json!({"prestart": [{"path": "/x"}]}),
            "hooks.prestart is not supported",
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 1, "size": 1}]),
            "linux.uidMappings",
        ),
        ("/linux/mountLabel", json!("system_u"), "linux.mountLabel"),
        ("/linux/personality", json!({"domain": "LINUX32"}), "linux.personality"),
        ("/linux/namespaces/0", json!({"type": "user"}), "a user namespace"),
        ("/linux/namespaces/0", json!({"type": "time"}), "a time namespace"),
        (
            "/linux/namespaces/0",
            json!({"type": "mount", "path": "/x"}),
            "joining a mount namespace",
        ),
        ("/linux/namespaces/3", json!({"type": "uts"}), "names Uts twice"),
        (
            "/process/apparmorProfile",
            json!("docker-default"),
            "process.apparmorProfile",
        ),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel"),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_RT"}),
            "process.ioPriority",
        ),
        ("/process/args", json!([]), "names no program"),
        (
            "/process/cwd",
            json!("relative"),
            "process.cwd \"relative\" is not an absolute path",
        ),
        ("/process/env", json!(["A=\u{0}"]), "process.env contains a NUL byte"),
        (
            "/process/capabilities",
            json!({"bounding": ["CAP_WIZARD"]}),
            "unknown capability \"CAP_WIZARD\"",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]),
            "unknown limit \"RLIMIT_X\"",
        ),
        ("/process/oomScoreAdj", json!(1001), "1001 is outside"),
        ("/mounts/0/destination", json!("/"), "must lie below /"),
        ("/mounts/0/destination", json!("/a/../../b"), "must not contain .."),
        ("/mounts/0/uidMappings", json!([{}]), "uidMappings"),
        (
            "/mounts/0/options",
            json!(["idmap"]),
            "option \"idmap\" is not supported",
        ),
        (
            "/mounts/0/options",
            json!(["remount"]),
            "option \"remount\" is not supported",
        ),
        (
            "/mounts/1/options",
            json!(["rbind", "size=5"]),
            "option \"size\" is not supported",
        ),
        (
            "/linux/sysctl",
            json!({"kernel.core_pattern": "x"}),
            "no namespace confines it",
        ),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1\nx"}), "newline"),
        ("/linux/rootfsPropagation", json!("sideways"), "\"sideways\" is unknown"),
        ("/ociVersion", json!("2.0.0"), "ociVersion 2.0.0"),
        (
            "/annotations",
            json!({"dev.copepod.init": "systemd"}),
            "only \"pause\" is",
        ),
    ]
}

#[test]
fn what_would_weaken_a_container_is_refused_by_name() {
    for (pointer, value, expected) in weakening() {
        let mut spec = full();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match spec.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            object @ (Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                object[key] = value;
            }
        }
        let error = plan(&spec, &split()).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn parameters_of_joined_namespaces_need_the_namespace() {
    let mut spec = full();
    spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    spec["hostname"] = json!("");
    let error = plan(&spec, &split()).unwrap_err();
    assert!(
        error.contains("linux.sysctl net.ipv4.ip_unprivileged_port_start needs a Network namespace"),
        "{error}"
    );
    spec["linux"]["sysctl"] = json!({});
    spec["hostname"] = json!("x");
    assert!(
        plan(&spec, &split())
            .unwrap_err()
            .contains("hostname needs a Uts namespace")
    );
}

#[test]
fn cve_2022_0811_keys_are_paths_that_do_not_climb() {
    assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
    assert_eq!(
        sysctl_path("net/ipv4/conf/eth0.100/forwarding").unwrap(),
        "net/ipv4/conf/eth0.100/forwarding"
    );
    assert_eq!(
        sysctl_path("net.ipv4.conf.eth0/100.forwarding").unwrap(),
        "net/ipv4/conf/eth0.100/forwarding"
    );
    for bad in [
        "",
        "/etc",
        "net//x",
        "net/../kernel/core_pattern",
        "..",
        "a b",
        "k=v",
        "a+b",
        &"x".repeat(256),
    ] {
        assert!(sysctl_path(bad).is_err(), "{bad}");
    }
}
