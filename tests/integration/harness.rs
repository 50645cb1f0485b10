//! A daemon for one test, clients for it, and the proof at the end that nothing of it is left.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use copepod_proto::cri::image_service_client::ImageServiceClient;
use copepod_proto::cri::runtime_service_client::RuntimeServiceClient;
use rustix::process::Pid;
use tonic::transport::{Channel, Endpoint};

use crate::traces::{Traces, remove_cgroup_parent};

/// How long anything may take that takes milliseconds when all is well.
pub(crate) const SOON: Duration = Duration::from_secs(20);

static NEXT: AtomicU8 = AtomicU8::new(0);

/// A running daemon.
pub(crate) struct Daemon {
    top: tempfile::TempDir,
    child: Option<Child>,
    bridge: String,
    before: Traces,
}

/// The two services of a daemon.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) image: ImageServiceClient<Channel>,
}

/// A value of the environment that `hack/test.sh` sets; tests/README.md lists them.
pub(crate) fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run hack/test.sh integration, or see tests/README.md"))
}

/// An image of the test registry by the name that the certs.d tree sends there.
pub(crate) fn image(name: &str) -> String {
    format!("{}/{name}", setting("COPEPOD_TEST_REGISTRY"))
}

/// What pods run unless a test needs something else.
pub(crate) fn busybox() -> String {
    "registry.k8s.io/e2e-test-images/busybox:1.29-2".to_owned()
}

impl Daemon {
    /// A daemon with the built-in network.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// As [`Daemon::start`], with more lines of configuration (whole tables).
    pub(crate) fn start_with(more: &str) -> Self {
        let top = tempfile::Builder::new().prefix("cp").tempdir_in("/tmp").unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("cpt{}-{number}", std::process::id() % 100_000);
        let subnet = format!("10.{}.{number}.0/24", 200 + std::process::id() % 50);
        let fallbacks = std::env::var("COPEPOD_TEST_FORCE_FALLBACKS").unwrap_or_default();
        let forced = if fallbacks.is_empty() {
            String::new()
        } else {
            format!("force_fallbacks = [{fallbacks:?}]")
        };
        let text = format!(
            "root = {root:?}\nstate = {state:?}\n[cri]\nsocket = {socket:?}\n[log]\nlevel = \"info,copepod=debug\"\n\
             [registry]\nconfig_dir = {certs:?}\n[runtime]\nshim = {shim:?}\n{forced}\n\
             [network]\nmode = \"builtin\"\n[network.builtin]\nsubnet = {subnet:?}\nbridge = {bridge:?}\n{more}\n",
            root = top.path().join("root"),
            state = top.path().join("state"),
            socket = top.path().join("cri.sock"),
            certs = setting("COPEPOD_TEST_CERTS"),
            shim = setting("COPEPOD_SHIM"),
        );
        fs::write(top.path().join("config.toml"), text).unwrap();
        let before = Traces::of(top.path(), &bridge);
        let mut daemon = Self {
            top,
            child: None,
            bridge,
            before,
        };
        daemon.spawn();
        daemon
    }

    /// Starts the daemon's process (again) and waits until it serves.
    pub(crate) fn spawn(&mut self) {
        self.spawn_quietly();
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}", self.log());
            }
            assert!(begun.elapsed() < SOON, "the daemon does not serve: {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the process without waiting.
    pub(crate) fn spawn_quietly(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.top.path().join("log"))
            .unwrap();
        let child = Command::new(setting("COPEPOD_BIN"))
            .args(["serve", "--config"])
            .arg(self.top.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// SIGKILL, at any moment.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; returns how long the end took.
    pub(crate) fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().expect("the daemon runs");
        let begun = Instant::now();
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < SOON,
                "SIGTERM does not end the daemon: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Where everything of this daemon is.
    pub(crate) fn top(&self) -> &Path {
        self.top.path()
    }

    /// The CRI socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.top.path().join("cri.sock")
    }

    /// What the daemon has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.top.path().join("log")).unwrap_or_default()
    }

    /// Connects; a fresh channel each time, so that a restart does not confuse it.
    pub(crate) async fn client(&self) -> Client {
        let endpoint = Endpoint::try_from(format!("unix://{}", self.socket().display())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Client {
            runtime: RuntimeServiceClient::new(channel.clone()),
            image: ImageServiceClient::new(channel),
        }
    }

    /// Runs crictl and returns whatever it did.
    pub(crate) fn crictl_raw(&self, args: &[&str]) -> Output {
        Command::new(setting("CRICTL"))
            .args([
                "--runtime-endpoint",
                &format!("unix://{}", self.socket().display()),
                "--timeout",
                "30s",
            ])
            .args(args)
            .env("HOME", self.top.path())
            .output()
            .unwrap()
    }

    /// Runs crictl, which must succeed; returns its standard output without the last newline.
    pub(crate) fn crictl(&self, args: &[&str]) -> String {
        let out = self.crictl_raw(args);
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success(),
            "crictl {args:?}: {err}\n--- daemon's log\n{}",
            self.log()
        );
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    /// What of this daemon is on the host now.
    pub(crate) fn traces(&self) -> Traces {
        Traces::of(self.top.path(), &self.bridge)
    }

    /// The processes of a container's shim.
    pub(crate) fn shims_of(&self, container: &str) -> Vec<Pid> {
        let found = self.shims_with(container);
        assert!(!found.is_empty(), "no shim of {container}");
        found
    }

    /// The processes of all shims.
    pub(crate) fn shims(&self) -> Vec<Pid> {
        self.shims_with("")
    }

    /// Shims and their log writers name their bundle on the command line.
    fn shims_with(&self, text: &str) -> Vec<Pid> {
        let top = self.top.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            if cmdline.contains(top) && cmdline.contains(text) && cmdline.contains("containerd-shim-copepod") {
                found.extend(Pid::from_raw(pid));
            }
        }
        found
    }

    /// Waits until the host looks as before the daemon's first start, the daemon itself aside.
    pub(crate) fn assert_nothing_left(&self) {
        let begun = Instant::now();
        loop {
            let left = self.traces().since(&self.before);
            if left.is_empty() {
                return;
            }
            // Links go with their namespace, a moment after it; so do processes that were just killed.
            assert!(
                begun.elapsed() < SOON,
                "left behind:\n{}\n--- daemon's log\n{}",
                left.join("\n"),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes all pods, stops the daemon, and proves that nothing is left.
    pub(crate) fn finish(mut self) {
        if self.child.is_none() {
            self.spawn();
        }
        self.crictl(&["rmp", "--all", "--force"]);
        self.assert_nothing_left();
        self.terminate();
        let bridge = Path::new("/sys/class/net").join(&self.bridge);
        assert!(!bridge.exists(), "the bridge is left although no pod is");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(self.top.path().to_str().unwrap()),
            "a mount is left: {table}"
        );
    }
}

impl Drop for Daemon {
    /// After a failed test: ends what it started so that others are not disturbed. Proves nothing.
    fn drop(&mut self) {
        if self.child.is_some() {
            self.crictl_raw(&["rmp", "--all", "--force"]);
        }
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_child(&child);
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let begun = Instant::now();
            while child.try_wait().is_ok_and(|status| status.is_none()) && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _gone = child.kill();
            let _reaped = child.wait();
        }
        remove_cgroup_parent(self.top.path());
        if std::thread::panicking() {
            eprintln!("--- daemon's log\n{}", self.log());
        }
    }
}

/// A future to its end, on a runtime of its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
