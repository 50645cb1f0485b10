//! Containers that attack the host, through the CRI: named after the published vulnerabilities whose class they are
//! of. What needs a hostile image is in the shim's own tests (`child/tests/hostile.rs`); here the attacker has what
//! any pod may ask for: volumes, a working directory, namespaces, capabilities.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use copepod_proto::cri;
use rustix::process::Pid;

use crate::harness::{Daemon, busybox, run};
use crate::request;

/// Puts a pod or a container into the namespaces.
fn namespaces(pod: &mut cri::PodSandboxConfig, spec: &mut cri::ContainerConfig, options: &cri::NamespaceOption) {
    let security = pod.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(options.clone());
    confinement(spec).namespace_options = Some(options.clone());
}

fn confinement(spec: &mut cri::ContainerConfig) -> &mut cri::LinuxContainerSecurityContext {
    spec.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn capabilities(spec: &mut cri::ContainerConfig, names: &[&str]) {
    confinement(spec).capabilities = Some(cri::Capability {
        add_capabilities: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    });
}

fn volume(host: &Path, inside: &str) -> cri::Mount {
    cri::Mount {
        host_path: host.to_str().unwrap().to_owned(),
        container_path: inside.to_owned(),
        ..Default::default()
    }
}

/// The file that every shim runs from.
fn binary_of(shim: Pid) -> Vec<u8> {
    fs::read(format!("/proc/{}/exe", shim.as_raw_nonzero())).unwrap()
}

/// A script that tries to write the program of every shim of this daemon, and of what that forks, for as long as it
/// lives, and says what it could. Other daemons on the machine are not its business.
fn write_programs(daemon: &Daemon) -> String {
    let top = daemon.top().to_str().unwrap();
    format!(
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] && continue; \
         grep -q 'containerd-shim-copepod.*{top}' $p/cmdline 2>/dev/null || continue; echo tried; \
         exe=$(readlink $p/exe) && echo seen $p $exe; ( : >> $p/exe ) 2>/dev/null && echo WRITTEN $p; done; done"
    )
}

#[test]
fn cve_2019_5736_a_shims_binary_cannot_be_written_from_the_hosts_pid_namespace() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let node = cri::NamespaceOption {
            pid: cri::NamespaceMode::Node.into(),
            ..Default::default()
        };
        for added in [&[][..], &["SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"][..]] {
            let mut config = request::pod(daemon.top());
            let mut spec = request::container("attacker", &write_programs(&daemon));
            namespaces(&mut config, &mut spec, &node);
            capabilities(&mut spec, added);
            let (pod, attacker) = client.running(&config, spec).await;
            let mut victim = request::container("victim", "exec sleep 1000");
            confinement(&mut victim).namespace_options = Some(node.clone());
            let victim = client.create(&pod, &config, victim).await.unwrap();
            client.start(&victim).await.unwrap();
            let shim = daemon.shims_of(&victim)[0];
            let before = binary_of(shim);
            for _ in 0..100 {
                client.output(&victim, "true").await;
            }
            // Not for want of trying: it names what it tries.
            let exe = format!("/proc/{}/exe", shim.as_raw_nonzero());
            let direct = client
                .exec(&attacker, &format!("head -c 4 {exe}; : >> {exe}"))
                .await
                .unwrap();
            let said = String::from_utf8_lossy(&direct.stderr).into_owned();
            assert_ne!(direct.exit_code, 0);
            if added.is_empty() {
                assert!(said.contains("Permission denied"), "{said}");
            } else {
                assert!(direct.stdout.starts_with(b"\x7fELF"), "{said}");
                assert!(
                    said.contains("Read-only file system") || said.contains("Text file busy"),
                    "{said}"
                );
            }
            let log = fs::read_to_string(client.status(&attacker).await.unwrap().log_path).unwrap();
            assert!(log.contains("tried"));
            assert_eq!(log.contains("seen"), !added.is_empty(), "{log}");
            assert!(!log.contains("WRITTEN"), "{log}");
            assert_eq!(binary_of(shim), before);
            client.remove_pod(&pod).await.unwrap();
        }
    });
    daemon.finish();
}

/// A script that tries to write every program of the runtime that it sees in its own namespace.
const EXECUTORS: &str = "while :; do for exe in /proc/[0-9]*/exe; do case $(readlink $exe) in \
    *containerd-shim*) echo seen $exe; ( : >> $exe ) 2>/dev/null && echo WRITTEN $exe;; esac; done; done";

/// The interpreter of such a script is the process that executes it: the runtime itself, inside the container, where
/// another process waits to write it.
#[test]
fn cve_2019_5736_a_program_that_is_its_executor_does_not_open_the_binary() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let evil = daemon.top().join("evil");
        fs::write(&evil, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
        let config = request::pod(daemon.top());
        let mut spec = request::container("attacker", EXECUTORS);
        spec.mounts = vec![volume(&evil, "/evil")];
        capabilities(&mut spec, &["SYS_PTRACE"]);
        let (pod, attacker) = client.running(&config, spec.clone()).await;
        let shim = daemon.shims_of(&attacker)[0];
        let before = binary_of(shim);
        for _ in 0..50 {
            let request = cri::ExecSyncRequest {
                container_id: attacker.clone(),
                cmd: vec!["/evil".to_owned()],
                timeout: 10,
            };
            // Whether it can be executed at all is the kernel's business.
            drop(client.runtime.exec_sync(request).await);
        }
        let entry = cri::ContainerConfig {
            command: vec!["/evil".to_owned()],
            metadata: request::container("entry", "").metadata,
            log_path: "entry.log".to_owned(),
            ..spec
        };
        let entry = client.create(&pod, &config, entry).await.unwrap();
        if client.start(&entry).await.is_ok() {
            assert_ne!(client.ended(&entry).await.exit_code, 0);
        }
        let log = fs::read_to_string(client.status(&attacker).await.unwrap().log_path).unwrap();
        assert!(!log.contains("WRITTEN"), "{log}");
        assert_eq!(binary_of(shim), before);
        assert_eq!(client.output(&attacker, "echo alive").await, "alive");
    });
    daemon.finish();
}

#[test]
fn cve_2024_21626_a_working_directory_is_never_a_descriptor_of_ours() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let links = daemon.top().join("links");
        fs::create_dir(&links).unwrap();
        symlink("/proc/self/fd", links.join("fd")).unwrap();
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        for number in 0..24 {
            for base in ["/proc/self/fd", "/links/fd"] {
                let mut spec = request::container("c", "pwd; ls ../../../../..");
                spec.working_dir = format!("{base}/{number}");
                spec.mounts = vec![volume(&links, "/links")];
                let container = match client.create(&pod, &config, spec).await {
                    Ok(container) => container,
                    Err(_refused) => continue,
                };
                let error = client.start(&container).await.expect_err("it started there");
                assert!(error.message().contains(&format!("{base}/{number}")), "{error}");
                client.remove(&container).await.unwrap();
            }
        }
        let plain = client
            .create(&pod, &config, request::container("c", "exec sleep 1000"))
            .await
            .unwrap();
        client.start(&plain).await.unwrap();
        for _ in 0..20 {
            // Its own three, and the one that ls itself opens.
            let open = client.output(&plain, "exec ls /proc/self/fd").await;
            assert_eq!(open, "0\n1\n2\n3");
        }
        assert_eq!(client.output(&plain, "ls /proc/1/fd").await, "0\n1\n2");
    });
    daemon.finish();
}

/// Every new process of the container is looked at by another one that is root in it.
#[test]
fn cve_2016_9962_an_exec_shows_nothing_of_the_hosts_before_it_is_the_program() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        // Names of everything open in other processes, of their programs, roots and working directories.
        let watch = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || \
            ls -l $p/fd $p/exe $p/root $p/cwd 2>/dev/null | sed -n 's/.* -> //p'; done; done > /tmp/seen";
        let (_, container) = client.running(&config, request::container("c", watch)).await;
        for _ in 0..500 {
            let request = cri::ExecSyncRequest {
                container_id: container.clone(),
                cmd: vec!["true".to_owned()],
                timeout: 10,
            };
            assert_eq!(
                client.runtime.exec_sync(request).await.unwrap().into_inner().exit_code,
                0
            );
        }
        let seen = client
            .output(&container, "sed 's/[0-9][0-9]*/N/g' /tmp/seen | sort | uniq -c")
            .await;
        for line in seen.lines() {
            let (_times, name) = line.trim().split_once(' ').unwrap();
            let own = ["pipe:[N]", "/dev/null", "/", "/tmp/seen", "/proc/N/fd"].contains(&name)
                || name.starts_with("/bin/")
                || name.starts_with("/lib/");
            assert!(own, "a container saw {name}: {seen}");
        }
        assert!(seen.lines().count() > 2, "it did not look: {seen}");
    });
    daemon.finish();
}

/// A kernel setting that is put back whatever happens: a test that fails must not change the machine.
struct Kept {
    path: &'static str,
    value: String,
}

impl Kept {
    fn new(path: &'static str) -> Self {
        let value = fs::read_to_string(path).unwrap();
        Self { path, value }
    }

    fn assert_untouched(&self, what: &str) {
        assert_eq!(fs::read_to_string(self.path).unwrap(), self.value, "{what}");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _put_back = fs::write(self.path, &self.value);
    }
}

/// A directory whose files all lead to `target`.
fn links(directory: &Path, names: &[&str], target: &str) {
    for name in names {
        let link = directory.join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }
}

/// A volume in place of `/dev` or `/proc` makes every path that a runtime uses there lead to a kernel setting.
#[test]
fn cve_2025_31133_cve_2025_52565_cve_2025_52881_hostile_volumes_redirect_nothing() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let setting = Kept::new("/proc/sys/kernel/core_pattern");
        let [dev, pts, proc] = ["dev", "pts", "proc"].map(|name| daemon.top().join(name));
        links(&dev, &["null", "console", "ptmx", "zero"], setting.path);
        links(&pts, &["0", "ptmx"], setting.path);
        links(&proc, &["self/oom_score_adj", "self/attr/exec", "keys"], setting.path);
        let attacks = [
            (volume(&dev, "/dev"), false),
            (volume(&dev, "/dev"), true),
            (volume(&pts, "/dev/pts"), true),
            (volume(&proc, "/proc"), false),
            (volume(&proc, "/proc/self"), false),
            (volume(&proc, "/x/../proc/sys"), false),
        ];
        for (mount, tty) in attacks {
            let config = request::pod(daemon.top());
            let pod = client.run_pod(&config).await.unwrap();
            let what = format!("{}, terminal {tty}", mount.container_path);
            let mut spec = request::container("c", "exec sleep 1000");
            spec.mounts = vec![mount];
            spec.tty = tty;
            let security = confinement(&mut spec);
            security.masked_paths = vec!["/proc/timer_list".to_owned(), "/proc/keys".to_owned()];
            security.readonly_paths = vec!["/proc/sys".to_owned(), "/proc/sysrq-trigger".to_owned()];
            if let Ok(container) = client.create(&pod, &config, spec).await
                && client.start(&container).await.is_ok()
            {
                let script = "stat -c %t:%T /proc/timer_list /proc/keys; \
                              for file in /dev/null /dev/console /dev/pts/0 /proc/sys/kernel/core_pattern \
                              /proc/sysrq-trigger; do \
                              case $(readlink -f $file) in /proc/*) ( : >> $file ) && echo OPEN $file;; esac; done; true";
                let found = client.exec(&container, script).await.unwrap();
                assert_eq!(
                    String::from_utf8_lossy(&found.stdout),
                    "1:3\n1:3\n",
                    "{what}: {found:?}"
                );
            }
            setting.assert_untouched(&what);
            client.remove_pod(&pod).await.unwrap();
        }
    });
    daemon.finish();
}

#[test]
fn the_pods_limits_are_its_containers_limits() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        // A pod that is not privileged has no privileged container.
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let mut spec = request::container("c", "exec sleep 1000");
        confinement(&mut spec).privileged = true;
        let error = client.create(&pod, &config, spec).await.unwrap_err();
        assert!(error.message().contains("privileged"), "{error}");
        // A container without a wish has its pod's PID namespace, the host's included (contract, section 19).
        let node = cri::NamespaceOption {
            pid: cri::NamespaceMode::Node.into(),
            ..Default::default()
        };
        let mut config = request::pod(daemon.top());
        let mut spec = request::container("c", "exec sleep 1000");
        namespaces(&mut config, &mut spec, &node);
        confinement(&mut spec).namespace_options = Some(cri::NamespaceOption::default());
        let (_, container) = client.running(&config, spec).await;
        let inside = client.output(&container, "readlink /proc/self/ns/pid").await;
        assert_eq!(inside, fs::read_link("/proc/self/ns/pid").unwrap().to_str().unwrap());
        // The host's network and a name of its own: the name would be the host's.
        let mut config = request::pod(daemon.top());
        let network = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            ..request::private_pid()
        };
        namespaces(&mut config, &mut request::container("c", ""), &network);
        config.hostname = "custom".to_owned();
        let error = client.run_pod(&config).await.unwrap_err();
        assert!(
            error.message().contains("custom") && error.message().contains("network"),
            "{error}"
        );
    });
    daemon.finish();
}
