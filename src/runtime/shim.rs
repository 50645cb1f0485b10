//! Starting a container's shim, and knowing its process again.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api;
use copepod_proto::bundle::SHIM_LOG;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

use super::bundle::{self, ShimProcess};
use super::connection::Connection;
use super::{Build, Runtime, RuntimeError, Task};
use crate::base::error::chain;
use crate::base::fs::FsError;
use crate::base::id::ContainerId;

/// A shim is ready in some milliseconds; a machine that is busy starting a hundred of them takes a second.
const READY: Duration = Duration::from_secs(5);

/// Building a container mounts its file systems, and volumes may lie on a slow server. kubelet gives up after two
/// minutes; the undo must fit in that, too.
const CREATE: Duration = Duration::from_secs(60);

/// Bytes of the shim's own words that are read.
const WORDS: u64 = 4096;

impl Runtime {
    /// Writes the bundle, starts the shim, builds the container up to its start gate. Undoes itself on failure.
    ///
    /// # Errors
    /// What the shim said.
    pub async fn create(&self, build: Build) -> Result<Arc<Task>, RuntimeError> {
        let (dir, cgroup) = match self.write_bundle(&build).await {
            Ok(written) => written,
            // Somebody else's: nothing to undo.
            Err(error @ RuntimeError::BundleExists { .. }) => return Err(error),
            Err(error) => return Err(self.undo(&build.id, "", error).await),
        };
        match self.create_in(&build, &dir, &cgroup).await {
            Ok(task) => Ok(task),
            Err(error) => Err(self.undo(&build.id, &cgroup, error).await),
        }
    }

    async fn create_in(&self, build: &Build, dir: &Path, cgroup: &str) -> Result<Arc<Task>, RuntimeError> {
        let id = &build.id;
        self.start_shim(id, dir).await?;
        let connection = Arc::new(Connection::open(id, dir).await?);
        let request = create_request(build, dir);
        let pending = connection.task();
        let pending = pending.create(ttrpc::context::with_timeout(0), &request);
        connection.answer("create the container", CREATE, pending).await?;
        let task = Arc::new(self.task(id, cgroup, connection));
        self.announcer.expect(id);
        task.watch(&self.announcer);
        Ok(task)
    }

    /// The handle on a shim.
    pub(super) fn task(&self, id: &ContainerId, cgroup: &str, connection: Arc<Connection>) -> Task {
        Task {
            id: id.clone(),
            bundle: self.bundle(id),
            cgroup: cgroup.to_owned(),
            cgroups: Arc::clone(&self.cgroups),
            connection,
        }
    }

    /// Removes what a failed create left. What cannot be removed now is found by the next orphan scan, by its bundle.
    async fn undo(&self, id: &ContainerId, cgroup: &str, cause: RuntimeError) -> RuntimeError {
        self.announcer.forget(id);
        if let Err(error) = self.cleanup(id, cgroup).await {
            tracing::warn!(container = %id, error = chain(&error), "a failed create left something behind");
        }
        cause
    }

    async fn start_shim(&self, id: &ContainerId, dir: &Path) -> Result<(), RuntimeError> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(SHIM_LOG))
            .map_err(|source| RuntimeError::Files(FsError::io("create", &dir.join(SHIM_LOG))(source)))?;
        let mut child = self
            .spawn(id, dir, log)
            .map_err(|source| RuntimeError::Spawn { id: id.clone(), source })?;
        let words = match child.stdout.take() {
            Some(stdout) => tokio::time::timeout(READY, read_words(stdout)).await,
            None => Ok(String::new()),
        };
        // It lives on its own, and may have left a child to do so; this only collects its exit status when it ends
        // while this daemon is its parent.
        tokio::spawn(async move { child.wait().await });
        if let Some(pid) = words.as_deref().ok().and_then(ready) {
            // Killed before this line, the next daemon finds the shim by its cgroup and arguments.
            return examine(pid).map_or(Ok(()), |process| bundle::write_shim(dir, process));
        }
        let text = match words {
            Ok(words) if words.is_empty() => last_words(dir),
            Ok(words) => words.trim().trim_start_matches("error: ").to_owned(),
            Err(_) => format!("it was not ready after {} s", READY.as_secs()),
        };
        Err(RuntimeError::NotReady { id: id.clone(), text })
    }

    fn spawn(&self, id: &ContainerId, dir: &Path, log: File) -> std::io::Result<Child> {
        Command::new(&self.shim)
            .arg("serve")
            .arg("--bundle")
            .arg(dir)
            .args(["--id", id.as_str()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // A signal to the daemon's group, as from a terminal, is not for the shim; its own session comes later.
            .process_group(0)
            .spawn()
    }
}

fn create_request(build: &Build, dir: &Path) -> api::CreateTaskRequest {
    api::CreateTaskRequest {
        id: build.id.to_string(),
        bundle: dir.to_string_lossy().into_owned(),
        rootfs: vec![api::Mount {
            type_: build.rootfs.fstype.clone(),
            source: build.rootfs.source.clone(),
            options: build.rootfs.options.clone(),
            ..Default::default()
        }],
        terminal: build.stdio.tty,
        ..Default::default()
    }
}

/// The shim's own process id in its word that it is ready: not always the one that was started.
fn ready(words: &str) -> Option<i32> {
    words.strip_prefix("ready ")?.trim_end().parse().ok()
}

/// What the shim says first: one line, or nothing when it died.
async fn read_words(stdout: ChildStdout) -> String {
    let mut words = Vec::new();
    let mut stdout = stdout.take(WORDS);
    // A line is all; the end of the pipe comes later.
    while !words.ends_with(b"\n") {
        match stdout.read_buf(&mut words).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// What a shim that died without a word wrote to its log.
fn last_words(dir: &Path) -> String {
    let log = fs::read(dir.join(SHIM_LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    match log.trim().lines().next_back() {
        Some(line) => format!("it ended, saying: {line}"),
        None => "it ended without a word".to_owned(),
    }
}

/// Looks at a process that is there; `None` when it is not, or a zombie.
pub(super) fn examine(pid: i32) -> Option<ShimProcess> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, second, may contain anything, also `) `: fields are counted from its last parenthesis.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    // Field 22 (starttime) is 19 after field 3 (state).
    let started = fields.nth(18)?.parse().ok()?;
    Some(ShimProcess { pid, started })
}
