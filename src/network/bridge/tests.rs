//! As root, in the host's network namespace, with a bridge and a subnet of the tests' own.

use std::process::Command;

use super::*;

fn ip(args: &str) -> String {
    let out = Command::new("ip").args(args.split_whitespace()).output().unwrap();
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

fn attach_to(netns: &str) -> Attach {
    Attach {
        pod: PodId::generate(),
        name: "p".into(),
        namespace: "n".into(),
        uid: "u".into(),
        netns: format!("/var/run/netns/{netns}").into(),
        ports: vec![],
        annotations: Default::default(),
    }
}

#[test]
fn a_pod_reaches_the_bridge_and_leaves_nothing() {
    let netns = format!("cptest{}", std::process::id());
    ip(&format!("netns add {netns}"));
    let bridge = Bridge::open("cptest-br0".to_owned(), "0badcafe".to_owned(), "10.213.7.0/24", &[]).unwrap();
    bridge.ready().unwrap();
    let attach = attach_to(&netns);
    let given = bridge.attach(&attach).unwrap();
    assert_eq!(given.ips[0].to_string(), "10.213.7.2");
    let inside = ip(&format!("-n {netns} -4 addr show eth0"));
    assert!(
        inside.contains("10.213.7.2/24") && inside.contains("state UP"),
        "{inside}"
    );
    assert!(ip(&format!("-n {netns} route")).contains("default via 10.213.7.1"));
    let detach = Detach {
        pod: attach.pod.clone(),
        name: String::new(),
        namespace: String::new(),
        uid: String::new(),
        netns: None,
        attachment: Some(given),
        ports: vec![],
        annotations: attach.annotations.clone(),
    };
    bridge.detach(&detach).unwrap();
    bridge.detach(&detach).unwrap();
    ip(&format!("netns del {netns}"));
    bridge.close_if_unused().unwrap();
    assert!(!ip("link").contains("cptest-br0"));
    assert!(!ip("link").contains(&veth_name(&attach.pod)));
}

#[test]
fn a_device_of_somebody_else_is_neither_used_nor_removed() {
    let name = format!("cptf{}", std::process::id() % 1_000_000);
    let open = |instance: &str| Bridge::open(name.clone(), instance.to_owned(), "10.213.8.0/24", &[]).unwrap();
    for kind in ["bridge", "veth"] {
        ip(&format!("link add {name} type {kind}"));
        let bridge = open("0badbeef");
        let why = bridge.ready().unwrap_err();
        assert!(
            why.message.contains(kind) && why.message.contains("network.builtin.bridge"),
            "{why:?}"
        );
        bridge.close_if_unused().unwrap();
        ip(&format!("link del {name}"));
        // With the name free it is ours after all.
        bridge.bridge_index().unwrap();
        bridge.ready().unwrap();
        let other = open("0badf00d");
        assert!(other.ready().unwrap_err().message.contains("copepod 0badbeef"));
        other.close_if_unused().unwrap();
        assert!(ip(&format!("link show {name}")).contains("alias copepod 0badbeef"));
        // The daemon that it belongs to takes it again after a restart.
        open("0badbeef").ready().unwrap();
        bridge.close_if_unused().unwrap();
        assert!(!ip("link").contains(&name));
    }
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let mut attach = attach_to("none");
    attach.annotations.insert(BANDWIDTH[0].to_owned(), "1M".to_owned());
    assert!(
        refuse_unsupported(&attach)
            .unwrap_err()
            .to_string()
            .contains("kubernetes.io/ingress-bandwidth")
    );
}
