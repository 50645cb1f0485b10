//! Real containers, built by a process with one thread: each test runs itself again, alone, as the shim would.

mod hostile;
mod speed;
pub(crate) mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::{Sandbox, alone};

#[test]
fn a_program_runs_as_the_first_process_with_its_streams_and_status() {
    alone(
        "a_program_runs_as_the_first_process_with_its_streams_and_status",
        || {
            let outcome = Sandbox::new().run("echo pid $$; hostname; echo bad >&2; exit 7");
            assert_eq!(outcome.stdout, "pid 1\nbox\n");
            assert_eq!(outcome.stderr, "bad\n");
            assert_eq!(outcome.status, 7);
        },
    );
}

#[test]
fn user_groups_umask_and_capabilities_are_exactly_the_specs() {
    alone("user_groups_umask_and_capabilities_are_exactly_the_specs", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 9], "umask": 63});
        sandbox.capabilities(&["CAP_CHOWN", "CAP_NET_RAW"]);
        let outcome = sandbox.run("id -u; id -g; id -G; umask; grep ^Cap /proc/self/status");
        // cve_2016_8867: nothing in force for a user that is not root.
        let none = "0000000000000000";
        let expected = format!(
            "1000\n1001\n1001 7 9\n0077\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t0000000000002001\nCapAmb:\t{none}\n"
        );
        assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    });
}

#[test]
fn root_keeps_the_specs_capabilities_and_ambient_ones_survive_for_others() {
    alone(
        "root_keeps_the_specs_capabilities_and_ambient_ones_survive_for_others",
        || {
            let mut sandbox = Sandbox::new();
            sandbox.capabilities(&["CAP_CHOWN", "CAP_KILL"]);
            let caps = sandbox
                .run("grep ^Cap /proc/self/status | cut -f2 | tr '\\n' ' '")
                .stdout;
            assert_eq!(
                caps,
                "0000000000000000 0000000000000021 0000000000000021 0000000000000021 0000000000000000 "
            );
            sandbox.spec["process"]["user"] = json!({"uid": 5, "gid": 5});
            let set = json!(["CAP_KILL"]);
            for name in ["inheritable", "ambient"] {
                sandbox.spec["process"]["capabilities"][name] = set.clone();
            }
            let caps = sandbox
                .run("grep ^Cap /proc/self/status | cut -f2 | tr '\\n' ' '")
                .stdout;
            assert_eq!(
                caps,
                "0000000000000020 0000000000000020 0000000000000020 0000000000000021 0000000000000020 "
            );
        },
    );
}

#[test]
fn the_default_devices_links_and_filesystems_are_there() {
    alone("the_default_devices_links_and_filesystems_are_there", || {
        let script = "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %t:%T %a' $n; done; \
                      for l in fd stdin stdout stderr ptmx; do readlink $l; done; cut -d' ' -f2,3,4 /proc/mounts | cut -d, -f1; ls /proc/self/fd";
        let outcome = Sandbox::new().run(script);
        let expected = "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n\
                        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n\
                        / overlay rw\n/proc proc rw\n/dev tmpfs rw\n/dev/pts devpts rw\n/dev/shm tmpfs rw\n\
                        /dev/mqueue mqueue rw\n/sys sysfs ro\n0\n1\n2\n3\n";
        assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
    });
}

/// The mount table, one entry a line.
fn mounts() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().map(str::to_owned).collect()
}

#[test]
fn the_host_never_sees_the_rootfs() {
    alone("the_host_never_sees_the_rootfs", || {
        let before = mounts();
        let mut running = Sandbox::new().start("sleep 5");
        // Others' mounts may go meanwhile: their mount points are removed on the host.
        assert!(mounts().is_subset(&before));
        running.kill();
    });
}

#[test]
fn masked_paths_are_hidden_and_read_only_ones_refuse_writes() {
    alone("masked_paths_are_hidden_and_read_only_ones_refuse_writes", || {
        let mut sandbox = Sandbox::new();
        sandbox.file("etc/secret", "s3cret");
        sandbox.file("opt/dir/file", "hidden");
        sandbox.file("srv/kept", "x");
        sandbox.spec["linux"]["maskedPaths"] = json!([
            "/etc/secret",
            "/proc/version",
            "/proc/cpuinfo",
            "/opt/dir",
            "/sys/firmware",
            "/no/such/path"
        ]);
        sandbox.spec["linux"]["readonlyPaths"] = json!(["/srv", "/proc/sys", "/no/such/path"]);
        let script = "cat /etc/secret | wc -c; ls -A /opt/dir | wc -l; touch /opt/dir/x 2>&1; stat -c %t:%T /proc/version; \
                      echo y > /srv/kept; echo 1 > /proc/sys/kernel/core_pattern; touch /tmp/ok && echo writable";
        let outcome = sandbox.run(script);
        let expected = "0\n0\ntouch: /opt/dir/x: Read-only file system\n1:3\nwritable\n";
        assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
        assert_eq!(
            outcome.stderr.matches("Read-only file system").count(),
            2,
            "{}",
            outcome.stderr
        );
    });
}

#[test]
fn a_read_only_rootfs_still_gets_its_mount_points() {
    alone("a_read_only_rootfs_still_gets_its_mount_points", || {
        let mut sandbox = Sandbox::new();
        let volume = sandbox.volume("data");
        std::fs::write(volume.join("file"), "from the host").unwrap();
        sandbox.spec["root"]["readonly"] = json!(true);
        sandbox
            .mount(json!({"destination": "/made/here", "type": "bind", "source": volume, "options": ["rbind", "ro"]}));
        let script = "cat /made/here/file; echo; touch /made/here/x; touch /x; touch /dev/shm/ok && echo shm";
        let outcome = sandbox.run(script);
        assert_eq!(outcome.stdout, "from the host\nshm\n", "{}", outcome.stderr);
        assert_eq!(
            outcome.stderr.matches("Read-only file system").count(),
            2,
            "{}",
            outcome.stderr
        );
    });
}

#[test]
fn propagation_reaches_the_container_only_when_asked_for() {
    alone("propagation_reaches_the_container_only_when_asked_for", || {
        let mut sandbox = Sandbox::new();
        let volume = sandbox.shared_volume("shared");
        for name in ["rprivate", "rslave", "rshared"] {
            let destination = format!("/{name}");
            sandbox.mount(
                json!({"destination": destination, "type": "bind", "source": volume, "options": ["rbind", name]}),
            );
        }
        let script = "mkdir /rshared/up; mount -t tmpfs none /rshared/up; read line; \
                      for p in rprivate rslave rshared; do ls /$p/down | wc -l; done";
        sandbox.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        let mut running = sandbox.start(script);
        running.until(|| volume.join("up").exists() && support::is_mount_point(&volume.join("up")));
        std::fs::create_dir(volume.join("down")).unwrap();
        support::mount_tmpfs(&volume.join("down"));
        std::fs::write(volume.join("down/file"), "x").unwrap();
        running.write("go\n");
        assert_eq!(running.wait().stdout, "0\n1\n1\n");
    });
}

#[test]
fn working_directories_are_made_and_homes_are_found() {
    alone("working_directories_are_made_and_homes_are_found", || {
        let mut sandbox = Sandbox::new();
        sandbox.file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n",
        );
        sandbox.spec["process"]["cwd"] = json!("/not/there/yet");
        sandbox.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let outcome = sandbox.run("pwd; echo $HOME");
        assert_eq!(outcome.stdout, "/not/there/yet\n/home/me\n", "{}", outcome.stderr);
    });
}

#[test]
fn a_missing_program_is_a_start_error_with_a_name() {
    alone("a_missing_program_is_a_start_error_with_a_name", || {
        let mut sandbox = Sandbox::new();
        for (args, expected) in [
            (
                json!(["nosuch"]),
                "exec nosuch: not found in PATH: No such file or directory",
            ),
            (json!(["/no/such"]), "exec /no/such: No such file or directory"),
            (json!(["/etc"]), "exec /etc: Permission denied"),
        ] {
            sandbox.spec["process"]["args"] = args;
            let error = sandbox.try_start().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    });
}

#[test]
fn limits_signals_and_filters_are_as_the_spec_says() {
    alone("limits_signals_and_filters_are_as_the_spec_says", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        sandbox.spec["process"]["oomScoreAdj"] = json!(500);
        sandbox.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
        let script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; grep -E '^(Sig(Blk|Ign)|Seccomp|NoNewPrivs):' \
                      /proc/self/status | tr '\\n\\t' ' ='; echo; mkdir /x";
        let expected = "100\n200\n500\nSigBlk:=0000000000000000 SigIgn:=0000000000000000 NoNewPrivs:=0 Seccomp:=2 \n";
        let outcome = sandbox.run(script);
        assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
        sandbox.spec["process"]["noNewPrivileges"] = json!(true);
        assert_eq!(
            sandbox.run(script).stdout,
            expected.replace("NoNewPrivs:=0", "NoNewPrivs:=1")
        );
    });
}

#[test]
fn a_terminal_is_the_containers_own() {
    alone("a_terminal_is_the_containers_own", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["process"]["terminal"] = json!(true);
        sandbox.spec["process"]["consoleSize"] = json!({"height": 33, "width": 99});
        let mut running =
            sandbox.start("stty -echo; tty; stty size; test -c /dev/console && echo console; read x; echo got $x");
        let seen = running.talk("hello\n");
        // The echo of our input comes whenever the terminal echoes it.
        let seen: Vec<&str> = seen.lines().map(str::trim).filter(|line| *line != "hello").collect();
        assert_eq!(seen.join("\n") + "\n", "/dev/pts/0\n33 99\nconsole\ngot hello\n");
    });
}

#[test]
fn an_exec_joins_everything_and_brings_nothing() {
    alone("an_exec_joins_everything_and_brings_nothing", || {
        let mut sandbox = Sandbox::new();
        sandbox.capabilities(&["CAP_CHOWN"]);
        let mut running = sandbox.start("sleep 30");
        let script = "echo $$ > /tmp/pid; test $(cat /tmp/pid) -gt 1 && echo inside; hostname; ls /proc/self/fd | tr '\\n' ' '; \
                      grep -E '^Cap(Inh|Eff)' /proc/self/status | cut -f2 | tr '\\n' ' '; pwd; exit 3";
        let outcome = running.exec(&sandbox.process(script)).unwrap();
        // cve_2022_29162: the inheritable set is empty.
        let expected = "inside\nbox\n0 1 2 3 0000000000000000 0000000000000001 /\n";
        assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
        assert_eq!(outcome.status, 3);
        for namespace in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            let link = |path: String| std::fs::read_link(path).unwrap();
            let inside = running
                .exec(&sandbox.process(&format!("readlink /proc/self/ns/{namespace}")))
                .unwrap();
            let first = link(format!("/proc/{}/ns/{namespace}", running.pid()));
            assert_eq!(inside.stdout.trim(), first.to_str().unwrap());
        }
        running.kill();
        let error = running.exec(&sandbox.process("true")).unwrap_err();
        assert_eq!(error, "container not running");
        // The shim's own PID namespace for children is its own again.
        let ours = std::fs::read_link("/proc/self/ns/pid_for_children").unwrap();
        assert_eq!(ours, std::fs::read_link("/proc/self/ns/pid").unwrap());
    });
}

#[test]
fn forced_fallbacks_build_the_same_container() {
    alone("forced_fallbacks_build_the_same_container", || {
        let mut sandbox = Sandbox::new();
        sandbox.fallbacks = &["lowerdir-plus", "clone-into-cgroup"];
        let before = mounts();
        let outcome = sandbox.run("head -1 /proc/mounts | cut -d' ' -f2,3; touch /written && ls /written");
        assert_eq!(outcome.stdout, "/ overlay\n/written\n", "{}", outcome.stderr);
        // Others' mounts may go meanwhile: their mount points are removed on the host.
        assert!(mounts().is_subset(&before));
    });
}

#[test]
fn sysctls_reach_the_containers_own_namespaces_only() {
    alone("sysctls_reach_the_containers_own_namespaces_only", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
        let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        let outcome = sandbox.run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
        assert_eq!(outcome.stdout, "1\n1\n", "{}", outcome.stderr);
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), host);
    });
}
