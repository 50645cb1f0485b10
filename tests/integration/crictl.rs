//! The whole way with crictl, verb by verb, as an operator types them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Daemon, busybox};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_verb_of_a_containers_life() {
    let daemon = Daemon::start();
    let (pod_file, container_file) = (daemon.top().join("pod.json"), daemon.top().join("ctr.json"));
    let pod = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "attempt": 1},
        "hostname": "web-host",
        "log_directory": daemon.top().join("logs"),
        "linux": {
            "cgroup_parent": crate::traces::cgroup_parent(daemon.top()),
            "security_context": {"namespace_options": {"pid": 1}},
        },
    });
    let container = json!({
        "metadata": {"name": "main"},
        "image": {"image": busybox()},
        "command": ["sh", "-c", "echo hello from $HOSTNAME; exec sleep 1000"],
        "log_path": "main.log",
        "linux": {},
    });
    fs::write(&pod_file, pod.to_string()).unwrap();
    fs::write(&container_file, container.to_string()).unwrap();
    let (pod_file, container_file) = (pod_file.to_str().unwrap(), container_file.to_str().unwrap());

    assert!(daemon.crictl(&["version"]).contains("copepod"));
    let info = parsed(&daemon.crictl(&["info"]));
    let conditions = info["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions.len() >= 2 && conditions.iter().all(|condition| condition["status"] == json!(true)),
        "{info}"
    );

    let reference = busybox();
    daemon.crictl(&["pull", &reference]);
    assert!(daemon.crictl(&["images"]).contains("e2e-test-images/busybox"));
    let image = parsed(&daemon.crictl(&["inspecti", &reference]));
    assert!(image["status"]["id"].as_str().unwrap().starts_with("sha256:"));

    let pod = daemon.crictl(&["runp", pod_file]);
    assert_eq!(pod.len(), 64);
    assert!(daemon.crictl(&["pods", "--quiet", "--no-trunc"]).contains(&pod));
    let status = parsed(&daemon.crictl(&["inspectp", &pod]));
    assert_eq!(status["status"]["state"], "SANDBOX_READY");
    assert!(
        status["status"]["network"]["ip"].as_str().unwrap().starts_with("10."),
        "{status}"
    );

    let container = daemon.crictl(&["create", &pod, container_file, pod_file]);
    daemon.crictl(&["start", &container]);
    assert!(daemon.crictl(&["ps", "--quiet", "--no-trunc"]).contains(&container));
    let status = parsed(&daemon.crictl(&["inspect", &container]));
    assert_eq!(status["status"]["state"], "CONTAINER_RUNNING");
    assert!(status["info"]["pid"].as_i64().unwrap() > 0);
    assert!(status["info"]["runtimeSpec"]["mounts"].is_array());
    assert_eq!(daemon.crictl(&["exec", "-s", &container, "hostname"]), "web-host");
    crate::harness::wait_until("the first log line", || {
        daemon.crictl(&["logs", &container]).contains("hello from web-host")
    });
    assert!(daemon.crictl(&["stats", "-o", "json"]).contains(&container));

    daemon.crictl(&["stop", "--timeout", "0", &container]);
    let status = parsed(&daemon.crictl(&["inspect", &container]));
    assert_eq!(status["status"]["exitCode"], 137);
    daemon.crictl(&["rm", &container]);
    daemon.crictl(&["stopp", &pod]);
    assert_eq!(
        parsed(&daemon.crictl(&["inspectp", &pod]))["status"]["state"],
        "SANDBOX_NOTREADY"
    );
    daemon.crictl(&["rmp", &pod]);
    daemon.crictl(&["rmi", &reference]);
    assert_eq!(daemon.crictl(&["images", "--quiet"]), "");
    daemon.finish();
}
