//! What the verbs promise beyond their answers: nothing is half done after a kill, nothing asked for is dropped in
//! silence, nothing of others is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use copepod_proto::cri;
use redb::{Database, TableDefinition};

use crate::harness::{Daemon, busybox, run, wait_until};
use crate::request;

/// A CNI plugin whose DEL waits as long as the file `block` is beside it; `calls` tells what was begun and done.
const SLOW_DEL: &str = r#"#!/bin/sh
top=${0%/*}
echo "$CNI_COMMAND begins" >> $top/calls
if [ "$CNI_COMMAND" = DEL ]; then
    i=0
    while [ -e $top/block ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done
fi
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.199.78.2/24"}]}'
echo "$CNI_COMMAND done" >> $top/calls
exit 0
"#;

struct Plugin(tempfile::TempDir);

impl Plugin {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let list = r#"{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"slow"}]}"#;
        fs::write(top.path().join("10.conflist"), list).unwrap();
        fs::write(top.path().join("slow"), SLOW_DEL).unwrap();
        fs::set_permissions(top.path().join("slow"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(top)
    }

    fn daemon(&self) -> Daemon {
        let more = format!(
            "[network.cni]\nconf_dir = {dir:?}\nbin_dirs = [{dir:?}]",
            dir = self.0.path()
        );
        let mut daemon = Daemon::start_with(&more);
        let config = daemon.top().join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("mode = \"builtin\"", "mode = \"cni\"")).unwrap();
        daemon.terminate();
        daemon.spawn();
        daemon
    }

    fn block(&self) {
        fs::write(self.0.path().join("block"), "").unwrap();
    }

    fn unblock(&self) {
        fs::remove_file(self.0.path().join("block")).unwrap();
    }

    fn calls(&self, which: &str) -> usize {
        let calls = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == which).count()
    }
}

#[test]
fn a_stop_cut_by_sigkill_is_not_ready_afterwards_and_is_finished() {
    let plugin = Plugin::new();
    let mut daemon = plugin.daemon();
    run(async {
        let mut client = daemon.client().await;
        let pod = client.run_pod(&request::pod(daemon.top())).await.unwrap();
        plugin.block();
        let stop = tokio::spawn({
            let (mut client, pod) = (client.clone(), pod.clone());
            async move { client.stop_pod(&pod).await }
        });
        while plugin.calls("DEL begins") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon.kill();
        assert!(stop.await.unwrap().is_err());
        daemon.spawn();
        let mut client = daemon.client().await;
        let status = client.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
        // Nobody asks again, and still the namespace and the address go.
        plugin.unblock();
        wait_until("the next start to finish the stop", || {
            !daemon.traces().mention("netns")
        });
        assert!(plugin.calls("DEL done") >= 1 && plugin.calls("DEL begins") >= 2);
        let status = client.pod_status(&pod).await.unwrap();
        assert_eq!(status.state(), cri::PodSandboxState::SandboxNotready);
    });
    daemon.finish();
}

#[test]
fn an_exec_ends_with_the_daemon_that_ran_it() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let (_, container) = client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
        // One without a time-out, one with a long one; a descendant each.
        let seconds = format!("7{}", std::process::id());
        let mut waiting = Vec::new();
        for timeout in [0, 3600] {
            let (mut client, container) = (client.clone(), container.clone());
            let script = format!("sleep {seconds} & exec sleep {seconds}");
            waiting.push(tokio::spawn(async move {
                client.exec_within(&container, &script, timeout).await
            }));
        }
        while sleeping(&seconds) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon.kill();
        for exec in waiting {
            assert!(exec.await.unwrap().is_err());
        }
        wait_until("the commands to end", || sleeping(&seconds) == 0);
        daemon.spawn();
        let mut client = daemon.client().await;
        let status = client.status(&container).await.unwrap();
        assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
        assert_eq!(client.output(&container, "echo alive").await, "alive");
    });
    daemon.finish();
}

/// Processes that sleep for so many seconds.
fn sleeping(seconds: &str) -> usize {
    let wanted = format!("sleep\0{seconds}\0");
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()))
        .count()
}

#[test]
fn a_refused_create_makes_nothing_on_the_host() {
    let daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let config = request::pod(daemon.top());
        let pod = client.run_pod(&config).await.unwrap();
        let source = daemon.top().join("volumes/data");
        let with = |swap: i64, capability: &str| {
            let mut spec = request::container("c", "exec sleep 1000");
            spec.mounts.push(cri::Mount {
                container_path: "/data".to_owned(),
                host_path: source.to_str().unwrap().to_owned(),
                ..Default::default()
            });
            let linux = spec.linux.as_mut().unwrap();
            linux.resources = Some(cri::LinuxContainerResources {
                memory_swap_limit_in_bytes: swap,
                ..Default::default()
            });
            let security = linux.security_context.as_mut().unwrap();
            security.capabilities = Some(cri::Capability {
                add_capabilities: vec![capability.to_owned()],
                ..Default::default()
            });
            spec
        };
        let unknown = client.create(&pod, &config, with(0, "NO_SUCH")).await.unwrap_err();
        assert!(unknown.message().contains("NO_SUCH"), "{unknown}");
        assert!(!source.exists(), "a refused request left {}", source.display());
        let swap = client.create(&pod, &config, with(1 << 30, "CHOWN")).await.unwrap_err();
        assert!(swap.message().contains("memory_swap_limit_in_bytes"), "{swap}");
        client.create(&pod, &config, with(0, "CHOWN")).await.unwrap();
        assert!(source.is_dir());
    });
    daemon.finish();
}

#[test]
fn an_unreadable_record_keeps_every_layer() {
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        daemon.kill();
        {
            let store = Database::open(daemon.top().join("root/copepod.redb")).unwrap();
            let transaction = store.begin_write().unwrap();
            {
                let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("containers");
                let mut table = transaction.open_table(table).unwrap();
                table
                    .insert("c".repeat(64).as_str(), b"not a record".as_slice())
                    .unwrap();
            }
            transaction.commit().unwrap();
        }
        daemon.spawn();
        let layers = || fs::read_dir(daemon.top().join("root/layers")).unwrap().count();
        let before = layers();
        assert!(before > 0);
        let mut client = daemon.client().await;
        let image = Some(cri::ImageSpec {
            image: busybox(),
            ..Default::default()
        });
        client
            .image
            .remove_image(cri::RemoveImageRequest { image })
            .await
            .unwrap();
        let listed = client
            .image
            .list_images(cri::ListImagesRequest::default())
            .await
            .unwrap();
        assert!(listed.into_inner().images.is_empty());
        assert_eq!(layers(), before, "what the unreadable record may need is kept");
    });
    daemon.finish();
}

/// What another runtime on the same host has; removed when dropped.
struct Foreign {
    netns: String,
    cgroup: PathBuf,
    process: Child,
    bundle: tempfile::TempDir,
}

impl Foreign {
    fn new() -> Self {
        let name = format!("cni-test-{}", std::process::id());
        assert!(
            Command::new("ip")
                .args(["netns", "add", &name])
                .status()
                .unwrap()
                .success()
        );
        let hierarchy = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .into_iter()
            .find(|dir| Path::new(dir).join("cgroup.procs").exists());
        let cgroup = Path::new(hierarchy.unwrap()).join(format!("k8s.io-{}", std::process::id()));
        let leaf = cgroup.join("a".repeat(64));
        fs::create_dir_all(&leaf).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(leaf.join("cgroup.procs"), process.id().to_string()).unwrap();
        let bundle = tempfile::tempdir().unwrap();
        let dir = bundle
            .path()
            .join("io.containerd.runtime.v2.task/k8s.io")
            .join("b".repeat(64));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), "{}").unwrap();
        Self {
            netns: name,
            cgroup: leaf,
            process,
            bundle,
        }
    }

    fn check(&mut self) {
        assert!(
            Path::new("/var/run/netns").join(&self.netns).exists(),
            "a foreign netns is gone"
        );
        assert!(self.process.try_wait().unwrap().is_none(), "a foreign process is dead");
        let procs = fs::read_to_string(self.cgroup.join("cgroup.procs")).unwrap();
        assert_eq!(procs.trim(), self.process.id().to_string());
        let bundles = self.bundle.path().join("io.containerd.runtime.v2.task/k8s.io");
        assert!(
            bundles.join("b".repeat(64)).join("config.json").exists(),
            "a foreign bundle is gone"
        );
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
        let begun = Instant::now();
        while fs::remove_dir(&self.cgroup).is_err() && begun.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _removed = fs::remove_dir(self.cgroup.parent().unwrap());
        let _removed = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

#[test]
fn recovery_and_removal_leave_what_other_runtimes_have() {
    let mut foreign = Foreign::new();
    let mut daemon = Daemon::start();
    run(async {
        let mut client = daemon.client().await;
        client.pull(&busybox()).await;
        let (pod, _) = client
            .running(&request::pod(daemon.top()), request::container("c", "exec sleep 1000"))
            .await;
        foreign.check();
        daemon.kill();
        // An orphan of ours, so that there is something to sweep.
        let orphan = daemon.top().join("state/p").join("d".repeat(64));
        fs::create_dir(&orphan).unwrap();
        daemon.spawn();
        assert!(!orphan.exists(), "the sweep ran");
        foreign.check();
        daemon.client().await.remove_pod(&pod).await.unwrap();
        foreign.check();
    });
    daemon.finish();
    foreign.check();
}
