//! Drives the real shim binary over its sockets, as the daemon does. Needs root and busybox.

use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use containerd_shim_protos::shim_async::TaskClient;
use copepod_proto::bundle::{self, LogTarget, ShimOptions};
use copepod_proto::shim as own;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use serde_json::{Value, json};
use ttrpc::context::Context;

/// How long any one call may take before a test fails instead of hanging.
const LIMIT: Duration = Duration::from_secs(20);

/// The shim's binary: a release build named by the environment (for measuring), else the one that cargo built.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("COPEPOD_SHIM").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_containerd-shim-copepod-v1")),
        PathBuf::from,
    )
}

/// Whether containers can be built here; says so in red when not.
pub(crate) fn possible() -> bool {
    let root = rustix::process::getuid().is_root();
    let busybox = Path::new("/bin/busybox").exists();
    if !(root && busybox) {
        eprintln!("\x1b[31mSKIPPED: needs root and /bin/busybox (package busybox-static)\x1b[0m");
    }
    root && busybox
}

/// A shim and its bundle in a scratch directory. Dropped, everything of it is gone.
pub(crate) struct Shim {
    pub(crate) id: String,
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) process: Child,
    pub(crate) task: TaskClient,
    pub(crate) own: own::ShimClient,
    pub(crate) init: i32,
}

/// What differs between tests.
pub(crate) struct Setup {
    pub(crate) args: Vec<&'static str>,
    pub(crate) log: Log,
    pub(crate) namespaces: Value,
}

/// Where the log goes.
pub(crate) enum Log {
    File,
    At(PathBuf, PathBuf),
    None,
}

impl Setup {
    pub(crate) fn sh(script: &'static str) -> Self {
        Self {
            args: vec!["/bin/sh", "-c", script],
            log: Log::File,
            namespaces: json!([{"type": "pid"}, {"type": "mount"}]),
        }
    }
}

pub(crate) fn context() -> Context {
    ttrpc::context::with_duration(LIMIT)
}

impl Shim {
    /// Starts a shim for a bundle, without creating the container.
    pub(crate) fn spawn(setup: &Setup) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("shim-test-{}-{count}", std::process::id());
        let scratch = scratch();
        let at = |name: &str| scratch.path().join(name);
        let log = match &setup.log {
            Log::File => Some((at("log"), PathBuf::from("c/0.log"))),
            Log::At(directory, path) => Some((directory.clone(), path.clone())),
            Log::None => None,
        };
        let options = ShimOptions {
            version: bundle::VERSION,
            log: log.map(|(directory, path)| LogTarget {
                directory,
                path,
                max_line_bytes: 16_384,
            }),
            tty: false,
            stdin: false,
            stdin_once: false,
            shim_cgroups: Vec::new(),
            seccomp_cache: None,
            force_fallbacks: Vec::new(),
        };
        bundle::write_options(&at("bundle"), &options).unwrap();
        let config = json!({
            "ociVersion": "1.2.0",
            "process": process(&setup.args),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            ],
            "linux": {"namespaces": setup.namespaces, "cgroupsPath": format!("/copepod-{id}")},
        });
        std::fs::write(at("bundle/config.json"), config.to_string()).unwrap();
        let stderr = std::fs::File::create(at("bundle/shim.log")).unwrap();
        let mut process = Command::new(binary())
            .args(["serve", "--id", &id, "--bundle"])
            .arg(at("bundle"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut word = String::new();
        process.stdout.take().unwrap().read_to_string(&mut word).unwrap();
        assert_eq!(
            word,
            format!("ready {}\n", process.id()),
            "shim.log: {:?}",
            std::fs::read_to_string(at("bundle/shim.log"))
        );
        let client = ttrpc::r#async::Client::new(ttrpc_socket(&at("bundle/task.sock")));
        let (task, own) = (TaskClient::new(client.clone()), own::ShimClient::new(client));
        Self {
            id,
            scratch,
            process,
            task,
            own,
            init: 0,
        }
    }

    /// Starts a shim and creates the container.
    pub(crate) async fn create(setup: Setup) -> Self {
        let mut shim = Self::spawn(&setup);
        shim.init = shim.try_create().await.unwrap();
        shim
    }

    /// Starts a shim, creates the container and starts it.
    pub(crate) async fn run(setup: Setup) -> Self {
        let shim = Self::create(setup).await;
        shim.start().await.unwrap();
        shim
    }

    pub(crate) async fn try_create(&self) -> ttrpc::Result<i32> {
        let at = |name: &str| self.scratch.path().join(name).display().to_string();
        let options = vec![
            format!("lowerdir={}", at("lower")),
            format!("upperdir={}", at("upper")),
            format!("workdir={}", at("work")),
        ];
        let mount = api::Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options,
            ..Default::default()
        };
        let request = api::CreateTaskRequest {
            id: self.id.clone(),
            rootfs: vec![mount],
            ..Default::default()
        };
        self.task
            .create(context(), &request)
            .await
            .map(|made| i32::try_from(made.pid).unwrap())
    }

    pub(crate) async fn start(&self) -> ttrpc::Result<()> {
        self.task
            .start(
                context(),
                &api::StartRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )
            .await
            .map(drop)
    }

    pub(crate) async fn wait(&self) -> u32 {
        let request = api::WaitRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.task.wait(context(), &request).await.unwrap().exit_status
    }

    pub(crate) async fn kill(&self, signal: u32) {
        let request = api::KillRequest {
            id: self.id.clone(),
            signal,
            ..Default::default()
        };
        self.task.kill(context(), &request).await.unwrap();
    }

    pub(crate) async fn state(&self) -> api::StateResponse {
        let request = api::StateRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.task.state(context(), &request).await.unwrap()
    }

    pub(crate) async fn delete(&self) -> ttrpc::Result<api::DeleteResponse> {
        self.task
            .delete(
                context(),
                &api::DeleteRequest {
                    id: self.id.clone(),
                    ..Default::default()
                },
            )
            .await
    }

    pub(crate) async fn shutdown(&mut self) {
        let request = api::ShutdownRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.task.shutdown(context(), &request).await.unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    /// Starts an exec and returns its pid.
    pub(crate) async fn exec(&self, exec_id: &str, args: &[&str]) -> ttrpc::Result<i32> {
        let request = own::ExecRequest {
            exec_id: exec_id.into(),
            process: process(args).to_string().into_bytes(),
            ..Default::default()
        };
        self.own.exec(context(), &request).await.map(|started| started.pid)
    }

    pub(crate) async fn wait_exec(&self, exec_id: &str) -> ttrpc::Result<i32> {
        let request = own::WaitExecRequest {
            exec_id: exec_id.into(),
            ..Default::default()
        };
        self.own
            .wait_exec(context(), &request)
            .await
            .map(|ended| ended.exit_code)
    }

    pub(crate) async fn kill_exec(&self, exec_id: &str) -> ttrpc::Result<()> {
        let request = own::KillExecRequest {
            exec_id: exec_id.into(),
            ..Default::default()
        };
        self.own.kill_exec(context(), &request).await.map(drop)
    }

    /// Fetches an exec's streams from the second socket: the reply's text and the descriptors.
    pub(crate) fn fetch(&self, exec_id: &str) -> (String, Vec<OwnedFd>) {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(self.bundle().join("fd.sock")).unwrap()).unwrap();
        let mut none = SendAncillaryBuffer::default();
        sendmsg(
            &socket,
            &[IoSlice::new(exec_id.as_bytes())],
            &mut none,
            SendFlags::empty(),
        )
        .unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut passed = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 512];
        let got = recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut passed,
            RecvFlags::CMSG_CLOEXEC,
        )
        .unwrap();
        let fds = passed
            .drain()
            .flat_map(|item| match item {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
                RecvAncillaryMessage::ScmCredentials(_) | _ => Vec::new(),
            })
            .collect();
        (String::from_utf8_lossy(&text[..got.bytes]).into_owned(), fds)
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    pub(crate) async fn exec_sync(&self, exec_id: &str, args: &[&str]) -> (i32, String, String) {
        self.exec(exec_id, args).await.unwrap();
        let (word, fds) = self.fetch(exec_id);
        assert_eq!(word, "ok");
        let [out, err] = <[OwnedFd; 2]>::try_from(fds).unwrap().map(read_all);
        (self.wait_exec(exec_id).await.unwrap(), out, err)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.scratch.path().join("bundle")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log/c/0.log")
    }

    /// The log's records as (stream, tag, content).
    pub(crate) fn log(&self) -> Vec<(String, String, String)> {
        records(&std::fs::read_to_string(self.log_path()).unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// The log writer: the shim's child of that name.
    pub(crate) fn writer(&self) -> i32 {
        let found = children(self.pid()).into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "copepod-log")
        });
        found.expect("the shim has a log writer")
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "shim.log: {}",
                std::fs::read_to_string(self.bundle().join("shim.log")).unwrap_or_default()
            );
        }
        let writers = children(self.pid());
        if self.process.try_wait().unwrap().is_none() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        // The verb that cleans up after a dead shim: its cgroup and what is in it.
        Command::new(binary())
            .args(["-id", &self.id, "delete"])
            .current_dir(self.bundle())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        for pid in writers.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // Gone already, most of them.
            let _killed = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A directory with an empty bundle, an empty log directory and a root file system of busybox.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::Builder::new()
        .prefix("copepod-shim-")
        .tempdir_in("/tmp")
        .unwrap();
    let at = |name: &str| scratch.path().join(name);
    for directory in [
        "bundle",
        "log",
        "lower/bin",
        "lower/proc",
        "lower/dev",
        "lower/sys",
        "lower/tmp",
        "upper",
        "work",
    ] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", at("lower/bin/busybox")).unwrap();
    for applet in [
        "sh", "sleep", "cat", "echo", "true", "kill", "head", "dd", "setsid", "seq", "yes", "id",
    ] {
        std::os::unix::fs::symlink("busybox", at("lower/bin").join(applet)).unwrap();
    }
    scratch
}

/// An OCI process as root with nothing special.
pub(crate) fn process(args: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
        "capabilities": {"bounding": [], "effective": [], "permitted": []},
    })
}

pub(crate) fn ttrpc_socket(path: &Path) -> ttrpc::r#async::transport::Socket {
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_nonblocking(true).unwrap();
    ttrpc::r#async::transport::Socket::new(tokio::net::UnixStream::from_std(stream).unwrap())
}

pub(crate) fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn records(log: &str) -> Vec<(String, String, String)> {
    log.lines()
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            let time = fields.next().unwrap();
            assert!(time.len() == 30 && time.ends_with('Z'), "{line}");
            let mut field = || fields.next().expect("four fields").to_owned();
            (field(), field(), field())
        })
        .collect()
}

pub(crate) fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// The value of a line of /proc/PID/status.
pub(crate) fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).expect("a status line");
    line[key.len()..].trim_start_matches(':').trim().to_owned()
}

pub(crate) fn open_fds(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

pub(crate) fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Polls until `done`, or fails.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited 10 s for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
