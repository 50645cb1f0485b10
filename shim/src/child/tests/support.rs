//! A tiny rootfs, a spec to change, and a shim of a few lines around `create` and `exec`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use crate::cgroup::Cgroup;
use crate::cgroup::layout::Layout;
use crate::child::fallback::Fallbacks;
use crate::child::host::Host;
use crate::child::launch::{Launch, LaunchError, Progress};
use crate::child::rootfs::RootfsMount;
use crate::child::{self, Create, Created, Exec, Stdio};
use crate::plan::resources::Resources;
use crate::plan::spec::{Process, Spec};
use crate::seccomp::Filter;
use crate::sys::{clone, namespace};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs `body` in a process of its own that has one thread, as forking Rust code demands.
pub(super) fn alone(name: &str, body: impl FnOnce()) {
    assert!(
        rustix::process::geteuid().is_root(),
        "{name} builds containers and must run as root"
    );
    alone_in("child::tests", name, body);
}

/// As [`alone`], for a test of another module.
pub(crate) fn alone_in(module: &str, name: &str, body: impl FnOnce()) {
    if std::env::var_os("COPEPOD_ALONE").is_some() {
        // The harness's other thread only waits for this one, so it holds no lock that the copy could miss.
        let body = std::cell::Cell::new(Some(body));
        let run = || {
            // Mounts of a test end with it, whatever becomes of it.
            namespace::unshare(UnshareFlags::NEWNS).unwrap();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            assert!(
                std::fs::read_to_string("/proc/self/status")
                    .unwrap()
                    .contains("Threads:\t1\n")
            );
            body.take().unwrap()();
            0
        };
        return assert_eq!(reap(&clone::spawn(0, None, run).unwrap().pidfd), 0);
    }
    let directory = tempfile::tempdir().unwrap();
    let cgroup = format!("/copepod-shim-{}-{name}", std::process::id());
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args([
        "--exact",
        &format!("{module}::{name}"),
        "--test-threads=1",
        "--include-ignored",
        "--nocapture",
    ]);
    let output = test
        .env("COPEPOD_ALONE", &cgroup)
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    if let Ok(left) = Cgroup::open(&Layout::detect().unwrap(), &cgroup) {
        left.kill_all().unwrap();
        left.remove().unwrap();
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text.lines()
        .filter(|line| line.contains("measured create"))
        .for_each(|line| println!("{line}"));
}

/// A rootfs below a temporary directory, and the spec of a container in it.
pub(in crate::child) struct Sandbox {
    pub(in crate::child) directory: tempfile::TempDir,
    pub(in crate::child) spec: Value,
    pub(in crate::child) fallbacks: &'static [&'static str],
    pub(in crate::child) host: Rc<Host>,
    layout: Layout,
    cgroup: Rc<Cgroup>,
    mounted: Vec<PathBuf>,
}

impl Sandbox {
    pub(in crate::child) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["lower/bin", "lower/etc", "lower/tmp", "base", "upper", "work"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        std::fs::copy("/bin/busybox", at("lower/bin/busybox")).expect("these tests need Debian's busybox-static");
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout)
            .unwrap()
            .lines()
            .filter(|name| *name != "busybox")
        {
            symlink("busybox", at("lower/bin").join(applet)).unwrap();
        }
        let spec = json!({
            "ociVersion": "1.2.0",
            "process": {
                "cwd": "/", "args": ["sh"], "env": ["PATH=/bin"],
                "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []},
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {"namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"},
            ]},
        });
        let layout = Layout::detect().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
        let path = format!("{}/{name}", std::env::var("COPEPOD_ALONE").unwrap());
        let cgroup = Rc::new(Cgroup::create(&layout, &path, &Resources::default()).unwrap());
        let mut sandbox = Self {
            directory,
            spec,
            fallbacks: &[],
            host: Rc::new(Host::with_binary(&std::env::current_exe().unwrap())),
            layout,
            cgroup,
            mounted: Vec::new(),
        };
        sandbox.spec["linux"]["cgroupsPath"] = json!(path);
        sandbox
    }

    /// A file of the image.
    pub(in crate::child) fn file(&self, path: &str, content: &str) {
        let path = self.lower().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(in crate::child) fn lower(&self) -> PathBuf {
        self.directory.path().join("lower")
    }

    pub(in crate::child) fn volume(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    pub(in crate::child) fn shared_volume(&mut self, name: &str) -> PathBuf {
        let path = self.volume(name);
        mount_tmpfs(&path);
        rustix::mount::mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        self.mounted.push(path.clone());
        path
    }

    pub(in crate::child) fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    pub(in crate::child) fn capabilities(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            self.spec["process"]["capabilities"][set] = json!(names);
        }
    }

    /// The spec's process, running another script.
    pub(in crate::child) fn process(&self, script: &str) -> Process {
        let mut process = self.spec["process"].clone();
        process["args"] = json!(["sh", "-c", script]);
        serde_json::from_value(process).unwrap()
    }

    pub(in crate::child) fn run(&mut self, script: &str) -> Outcome {
        self.start(script).wait()
    }

    pub(in crate::child) fn start(&mut self, script: &str) -> Running {
        self.spec["process"]["args"] = json!(["sh", "-c", script]);
        self.try_start().unwrap()
    }

    pub(in crate::child) fn try_start(&self) -> Result<Running, String> {
        let spec: Spec = serde_json::from_str(&self.spec.to_string()).map_err(|error| error.to_string())?;
        let filter = spec
            .linux
            .seccomp
            .as_ref()
            .map(|json| Filter::for_profile(json.get(), None).unwrap());
        let (stdio, ours) = streams(spec.process.terminal);
        let cgroup = self.cgroup.join_handles().unwrap();
        let names: Vec<String> = self.fallbacks.iter().map(|name| (*name).to_owned()).collect();
        // A name lookup of an overlay below an overlay is refused: the tests' own directory may be one.
        let at = |path: &str| self.directory.path().join(path).display().to_string();
        let options = vec![
            format!("lowerdir={}:{}", at("lower"), at("base")),
            format!("upperdir={}", at("upper")),
            format!("workdir={}", at("work")),
            "volatile".to_owned(),
        ];
        let incompat = self.directory.path().join("work").join("work/incompat");
        if incompat.exists() {
            std::fs::remove_dir_all(incompat).unwrap();
        }
        let create = Create {
            spec: &spec,
            bundle: self.directory.path(),
            rootfs: &[RootfsMount {
                fstype: "overlay".to_owned(),
                source: "overlay".to_owned(),
                options,
            }],
            stdio,
            cgroup: &cgroup,
            view: child::cgroup_view(&self.layout, &spec.linux.cgroups_path),
            filter: filter.as_ref(),
            fallbacks: Fallbacks::parse(&names).unwrap(),
        };
        let created = child::create(&self.host, &create).map_err(|error| chain(&error))?;
        drop(create);
        let mut running = Running {
            host: Rc::clone(&self.host),
            cgroup: Rc::clone(&self.cgroup),
            created,
            filter,
            streams: ours,
        };
        let launched = next_station(&mut running.created.launch).and_then(|progress| {
            assert_eq!(progress, Progress::Ready);
            running.created.launch.release()?;
            next_station(&mut running.created.launch)
        });
        match launched {
            Ok(Progress::Running) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                running.kill();
                return Err(chain(&error));
            }
        }
        running.streams.console = running.created.launch.take_console();
        Ok(running)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cgroup.kill_all().unwrap();
        self.cgroup.remove().unwrap();
        for path in &self.mounted {
            rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}

/// Our ends of a process's streams.
#[derive(Debug)]
struct Streams {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    console: Option<OwnedFd>,
}

fn streams(terminal: bool) -> (Stdio, Streams) {
    if terminal {
        return (
            Stdio::Terminal,
            Streams {
                input: None,
                output: None,
                error: None,
                console: None,
            },
        );
    }
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let ((stdin, input), (output, stdout), (error, stderr)) = (pipe(), pipe(), pipe());
    let ours = Streams {
        input: Some(input),
        output: Some(output),
        error: Some(error),
        console: None,
    };
    (Stdio::Given([stdin, stdout, stderr]), ours)
}

/// A started container.
#[derive(Debug)]
pub(in crate::child) struct Running {
    host: Rc<Host>,
    cgroup: Rc<Cgroup>,
    created: Created,
    filter: Option<Filter>,
    streams: Streams,
}

/// How a process ended.
#[derive(Debug)]
pub(in crate::child) struct Outcome {
    pub(in crate::child) status: i32,
    pub(in crate::child) stdout: String,
    pub(in crate::child) stderr: String,
}

impl Running {
    pub(in crate::child) fn pid(&self) -> i32 {
        self.created.pid.as_raw_nonzero().get()
    }

    pub(in crate::child) fn write(&mut self, text: &str) {
        rustix::io::write(self.streams.input.as_ref().unwrap(), text.as_bytes()).unwrap();
    }

    pub(in crate::child) fn until(&self, condition: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !condition() {
            assert!(Instant::now() < end, "condition never held");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(in crate::child) fn wait(mut self) -> Outcome {
        drop(self.streams.input.take());
        finish(&self.created.pidfd, &mut self.streams)
    }

    /// Writes to the terminal and reads it to the end.
    pub(in crate::child) fn talk(&mut self, text: &str) -> String {
        let mut master = File::from(self.streams.console.take().unwrap());
        master.write_all(text.as_bytes()).unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        // EIO is how a terminal says that its last process has gone.
        while let Ok(read @ 1..) = master.read(&mut buffer) {
            seen.extend(&buffer[..read]);
        }
        reap(&self.created.pidfd);
        String::from_utf8(seen).unwrap()
    }

    pub(in crate::child) fn kill(&mut self) {
        let _already_gone = pidfd_send_signal(&self.created.pidfd, Signal::KILL);
        reap(&self.created.pidfd);
    }

    pub(in crate::child) fn exec(&mut self, process: &Process) -> Result<Outcome, String> {
        let (stdio, mut ours) = streams(process.terminal);
        let cgroup = self.cgroup.join_handles().unwrap();
        let exec = Exec {
            container: self.created.pidfd.as_fd(),
            process,
            stdio,
            cgroup: &cgroup,
            filter: self.filter.as_ref(),
            fallbacks: Fallbacks::default(),
        };
        let mut execed = child::exec(&self.host, &exec).map_err(|error| chain(&error))?;
        drop(exec);
        if let Err(error) = next_station(&mut execed.launch) {
            reap(&execed.pidfd);
            return Err(chain(&error));
        }
        drop(ours.input.take());
        Ok(finish(&execed.pidfd, &mut ours))
    }
}

/// Blocks until the process is ready or runs its program.
fn next_station(launch: &mut Launch) -> Result<Progress, LaunchError> {
    let end = Instant::now() + LIMIT;
    loop {
        match launch.advance()? {
            Progress::Waiting => {}
            station @ (Progress::Ready | Progress::Running) => return Ok(station),
        }
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap();
        let ready = poll(&mut [PollFd::new(&*launch, PollFlags::IN)], Some(&left)).unwrap();
        assert!(ready > 0, "the process was not there after {LIMIT:?}");
    }
}

fn finish(pidfd: &OwnedFd, streams: &mut Streams) -> Outcome {
    let read = |fd: Option<OwnedFd>| {
        let mut text = String::new();
        File::from(fd.unwrap()).read_to_string(&mut text).unwrap();
        text
    };
    let stdout = read(streams.output.take());
    let stderr = read(streams.error.take());
    Outcome {
        status: reap(pidfd),
        stdout,
        stderr,
    }
}

fn reap(pidfd: &OwnedFd) -> i32 {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    let Ok(Some(status)) = status else { return -1 };
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| signal + 128))
        .unwrap_or(-1)
}

/// An error with its causes, as a log would have it.
pub(in crate::child) fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source)));
    error.to_string() + &cause.unwrap_or_default()
}

pub(in crate::child) fn mount_tmpfs(path: &Path) {
    rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
}

pub(in crate::child) fn is_mount_point(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == path))
}
