//! Create: from a bundle to a process that waits to become the workload.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use rustix::fs::{Mode, OFlags, open};

use crate::cgroup::Cgroup;
use crate::cgroup::layout::Layout;
use crate::child::fallback::Fallbacks;
use crate::child::launch::Launch;
use crate::child::rootfs::RootfsMount;
use crate::child::{self, Created, Stdio};
use crate::io::note::{chain, note};
use crate::io::pipes::Pipe;
use crate::io::writer::OutputEnds;
use crate::oom::Baseline;
use crate::ops::error::OpError;
use crate::ops::report::{Stopped, next_station};
use crate::ops::{Parts, Shim, cleanup, exit};
use crate::plan::resources::Resources;
use crate::plan::spec::Spec;
use crate::seccomp::Filter;
use crate::task::Phase;

/// Builds the container: cgroup, root file system, namespaces, and a first process that waits for Start. Returns the
/// process's id.
///
/// # Errors
/// Whatever could not be built, by name; nothing is left then, and Create may be asked for again.
pub(crate) async fn create(shim: Arc<Shim>, rootfs: Vec<RootfsMount>) -> Result<i32, OpError> {
    shim.advance("create", |phase| {
        matches!(phase, Phase::Absent).then_some(Phase::Creating)
    })?;
    let built = build(&shim, &rootfs).await;
    if built.is_err() {
        undo(&shim).await;
    }
    shim.phase
        .send_replace(built.as_ref().map_or(Phase::Absent, |pid| Phase::Created { pid: *pid }));
    built
}

async fn build(shim: &Arc<Shim>, rootfs: &[RootfsMount]) -> Result<i32, OpError> {
    shim.log
        .lock()
        .await
        .open()
        .await
        .map_err(|source| OpError::OpenLog { source })?;
    let (pid, mut launch) = begin(shim, rootfs)?;
    let exit = shim.reaper.expect(pid);
    next_station(&mut launch).await.map_err(|stopped| match stopped {
        Stopped::Failed(source) => OpError::Build { source },
        Stopped::Lost(error) => error,
    })?;
    if let Some(master) = launch.take_console() {
        let to_writer = master.try_clone().map_err(|source| OpError::Streams { source })?;
        shim.log
            .lock()
            .await
            .terminal(to_writer)
            .await
            .map_err(|source| OpError::Terminal { source })?;
        if let Some(parts) = shim.parts().as_mut() {
            parts.console = Some(master);
        }
    }
    if let Some(parts) = shim.parts().as_mut() {
        parts.launch = Some(launch);
    }
    // The container has its own copies; with ours the log would never see the end.
    shim.output.lock().unwrap_or_else(PoisonError::into_inner).take();
    tokio::spawn(exit::follow(Arc::clone(shim), exit));
    Ok(pid)
}

/// Everything up to the fork: no pause, so that nobody else runs between the fork and the registration of its exit.
fn begin(shim: &Shim, rootfs: &[RootfsMount]) -> Result<(i32, Launch), OpError> {
    let spec = read_spec(shim)?;
    let profile = spec.linux.seccomp.as_deref();
    let filter = profile.map(|json| Filter::for_profile(json.get(), shim.options.seccomp_cache.as_deref()));
    let filter = filter
        .transpose()
        .map_err(|source| OpError::Seccomp { source })?
        .map(Arc::new);
    let layout = Layout::detect().map_err(|source| OpError::Cgroup { source })?;
    let unlimited = Resources::default();
    let resources = spec.linux.resources.as_ref().unwrap_or(&unlimited);
    let cgroup =
        Cgroup::create(&layout, &spec.linux.cgroups_path, resources).map_err(|source| OpError::Cgroup { source })?;
    let cgroup = Arc::new(cgroup);
    for shortcoming in cgroup.notes() {
        note(shortcoming);
    }
    let building = Building {
        spec: &spec,
        rootfs,
        layout: &layout,
        cgroup: &cgroup,
        filter: filter.as_deref(),
    };
    let made = building.fork(shim);
    if made.is_err() {
        cleanup::in_background(Arc::clone(&cgroup));
    }
    let Forked { created, oom, input } = made?;
    let Created {
        pid,
        pidfd,
        launch,
        root,
    } = created;
    *shim.parts() = Some(Parts {
        pidfd: Arc::new(pidfd),
        launch: None,
        root,
        cgroup,
        oom,
        filter,
        console: None,
        input,
        start_error: None,
    });
    Ok((pid.as_raw_nonzero().get(), launch))
}

/// What a container is made from once its cgroup is there.
struct Building<'a> {
    spec: &'a Spec,
    rootfs: &'a [RootfsMount],
    layout: &'a Layout,
    cgroup: &'a Cgroup,
    filter: Option<&'a Filter>,
}

/// A first process that builds its container.
struct Forked {
    created: Created,
    /// Taken before it was born.
    oom: Baseline,
    /// Our end of its standard input.
    input: Option<OwnedFd>,
}

impl Building<'_> {
    fn fork(&self, shim: &Shim) -> Result<Forked, OpError> {
        let oom = Baseline::take(self.cgroup).map_err(|source| OpError::Oom { source })?;
        let join = self
            .cgroup
            .join_handles()
            .map_err(|source| OpError::Cgroup { source })?;
        let (stdio, input) = stdio(shim)?;
        let create = child::Create {
            spec: self.spec,
            bundle: &shim.bundle,
            rootfs: self.rootfs,
            stdio,
            cgroup: &join,
            view: child::cgroup_view(self.layout, &self.spec.linux.cgroups_path),
            filter: self.filter,
            fallbacks: fallbacks(shim)?,
        };
        let created = child::create(&shim.host, &create).map_err(|source| OpError::Create { source })?;
        Ok(Forked { created, oom, input })
    }
}

/// The kernel features that the options want treated as missing.
///
/// # Errors
/// A name that is none.
pub(crate) fn fallbacks(shim: &Shim) -> Result<Fallbacks, OpError> {
    Fallbacks::parse(&shim.options.force_fallbacks).map_err(|source| OpError::Fallbacks { source })
}

/// The container's standard streams, and our end of its input if that is to be kept open. Outputs are copies: the
/// originals stay for another attempt.
fn stdio(shim: &Shim) -> Result<(Stdio, Option<OwnedFd>), OpError> {
    let output = shim.output.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(OutputEnds { stdout, stderr }) = &*output else {
        return Ok((Stdio::Terminal, None));
    };
    let copy = |fd: &OwnedFd| fd.try_clone().map_err(|source| OpError::Streams { source });
    let (theirs, ours) = if shim.options.stdin {
        let Pipe { read, write } = Pipe::new().map_err(|source| OpError::Input { source })?;
        (read, Some(write))
    } else {
        (null()?, None)
    };
    Ok((Stdio::Given([theirs, copy(stdout)?, copy(stderr)?]), ours))
}

/// The host's null device, for a standard input that nobody writes to.
///
/// # Errors
/// What open(2) says.
pub(crate) fn null() -> Result<OwnedFd, OpError> {
    open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|source| OpError::Null { source })
}

/// Takes back what a failed Create made.
async fn undo(shim: &Shim) {
    exit::kill_first(shim);
    let cgroup = shim.parts().take().map(|parts| parts.cgroup);
    if let Some(cgroup) = cgroup
        && let Err(error) = cleanup::remove(&*cgroup).await
    {
        note(chain(&error));
    }
}

fn read_spec(shim: &Shim) -> Result<Spec, OpError> {
    let path = shim.bundle.join(copepod_proto::bundle::CONFIG);
    let json = std::fs::read(path).map_err(|source| OpError::ReadConfig { source })?;
    serde_json::from_slice(&json).map_err(|source| OpError::ParseConfig { source })
}
