use std::path::Path;

use serde_json::json;

use super::{Request, pin};
use crate::child::tests::support::alone_in;

fn alone(name: &str, body: impl FnOnce()) {
    alone_in("pin::tests", name, body);
}

fn request(value: serde_json::Value) -> Request {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Empty files to pin on.
fn targets(directory: &Path) -> [String; 3] {
    ["net", "ipc", "uts"].map(|name| {
        let path = directory.join(name);
        std::fs::write(&path, "").unwrap();
        path.to_str().unwrap().to_owned()
    })
}

fn is_namespace(path: &str) -> bool {
    rustix::fs::statfs(path).unwrap().f_type == 0x6e73_6673
}

#[test]
fn namespaces_are_made_set_up_and_pinned() {
    alone("namespaces_are_made_set_up_and_pinned", || {
        let directory = tempfile::tempdir().unwrap();
        let [net, ipc, uts] = targets(directory.path());
        let all = json!({"net": net, "ipc": ipc, "uts": uts, "hostname": "pod-7",
            "sysctls": {"net.ipv4.ip_unprivileged_port_start": "5", "kernel/shm_rmid_forced": "1"}});
        let begin = std::time::Instant::now();
        pin(&request(all)).unwrap();
        println!("pinned in {:?}", begin.elapsed());
        for (path, kind) in [(&net, "net"), (&ipc, "ipc"), (&uts, "uts")] {
            assert!(is_namespace(path), "{path}");
            let own = rustix::fs::stat(format!("/proc/self/ns/{kind}")).unwrap();
            assert_eq!(rustix::fs::stat(path.as_str()).unwrap().st_ino, own.st_ino);
        }
        assert_eq!(read("/proc/sys/kernel/hostname"), "pod-7");
        assert_eq!(read("/proc/sys/net/ipv4/ip_unprivileged_port_start"), "5");
        assert_eq!(read("/proc/sys/kernel/shm_rmid_forced"), "1");
        // lo is up when something can be sent to it.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let up = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
        assert!(up.contains("127.0.0.1"), "{up}");
    });
}

#[test]
fn a_failure_leaves_nothing_pinned() {
    alone("a_failure_leaves_nothing_pinned", || {
        let directory = tempfile::tempdir().unwrap();
        let [net, ipc, _] = targets(directory.path());
        let error = pin(&request(json!({"net": net, "ipc": ipc, "uts": "/no/such/file"}))).unwrap_err();
        assert_eq!(error.to_string(), "pin the Uts namespace on /no/such/file");
        assert!(!is_namespace(&net) && !is_namespace(&ipc));
    });
}

#[test]
fn cve_2022_0811_only_confined_parameters_are_written() {
    alone("cve_2022_0811_only_confined_parameters_are_written", || {
        let directory = tempfile::tempdir().unwrap();
        let [net, ipc, _] = targets(directory.path());
        let pattern = read("/proc/sys/kernel/core_pattern");
        for (key, value) in [
            ("kernel.core_pattern", "|/x"),
            ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=x"),
            ("net.ipv4/../../kernel/core_pattern", "x"),
            ("net/../kernel/core_pattern", "x"),
            ("vm.swappiness", "1"),
        ] {
            let error = pin(&request(json!({"net": net, "ipc": ipc, "sysctls": {key: value}}))).unwrap_err();
            assert!(error.to_string().starts_with("sysctl "), "{error}");
        }
        // Smuggling by + is a value like any other: the kernel refuses it.
        let smuggled = json!({"ipc": ipc, "sysctls": {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/x"}});
        assert!(pin(&request(smuggled)).is_err());
        assert_eq!(read("/proc/sys/kernel/core_pattern"), pattern);
        let error = pin(&request(json!({"ipc": ipc, "sysctls": {"net.ipv4.ip_forward": "1"}}))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sysctl net.ipv4.ip_forward needs a Network namespace of the pod's own"
        );
        assert!(
            serde_json::from_str::<Request>("{\"network\": \"/x\"}").is_err(),
            "unknown keys are refused"
        );
    });
}
