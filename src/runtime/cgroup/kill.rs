//! Killing and removing a cgroup by path alone, bounded in time.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{CgroupError, remove_dir_if_there};

/// How long killed processes may take to be gone. It is milliseconds on a quiet machine, and was more than 2 s with 20
/// runnable tasks a core: a dying process must still be scheduled, and PID 1 of a namespace waits for all others in it.
/// As long as a container's stop waits. What takes longer is in uninterruptible sleep (a dead disk or NFS server).
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a cgroup may stay busy after its last process is gone: the kernel finishes exits in the background.
pub(super) const REMOVAL: Duration = Duration::from_secs(5);

/// First and longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(20));

/// SIGKILLs everything in `dirs` and below until nothing is left.
pub(super) fn kill(path: &str, dirs: &[PathBuf]) -> Result<(), CgroupError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = PAUSES.0;
    loop {
        let mut left = Vec::new();
        for dir in dirs {
            read_tree(dir, &mut left)?;
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            left.sort_unstable();
            left.dedup();
            return Err(CgroupError::Unkillable {
                path: path.to_owned(),
                left: left.len(),
            });
        }
        for dir in dirs {
            thaw(dir)?;
            // One write where the v2 hierarchy is, and forks cannot outrun it; elsewhere one by one.
            if !kill_whole(dir)? {
                kill_each(dir)?;
            }
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Removes `dirs`, deepest first, until the kernel lets go.
pub(super) fn remove(path: &str, dirs: &[PathBuf]) -> Result<(), CgroupError> {
    let until = Instant::now() + REMOVAL;
    let mut pause = PAUSES.0;
    loop {
        let mut busy = None;
        for dir in dirs {
            match remove_tree(dir) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => busy = Some(error),
                Err(source) => {
                    return Err(CgroupError::Io {
                        doing: "remove",
                        path: dir.clone(),
                        source,
                    });
                }
            }
        }
        match busy {
            None => return Ok(()),
            Some(source) if Instant::now() >= until => {
                return Err(CgroupError::Busy {
                    path: path.to_owned(),
                    source,
                });
            }
            Some(_) => {}
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Adds the processes of one cgroup; none when it is gone.
pub(super) fn read_procs(dir: &Path, found: &mut Vec<i32>) -> Result<(), CgroupError> {
    let file = dir.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => {
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            Ok(())
        }
        // ENODEV: removed while it was open.
        Err(error) if gone(&error) => Ok(()),
        Err(source) => Err(CgroupError::io("read", &file)(source)),
    }
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn read_tree(dir: &Path, found: &mut Vec<i32>) -> Result<(), CgroupError> {
    read_procs(dir, found)?;
    for child in children(dir).map_err(CgroupError::io("list", dir))? {
        read_tree(&child, found)?;
    }
    Ok(())
}

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if gone(&error) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A frozen process dies only when it is thawed (v1); v2 kills frozen ones.
fn thaw(dir: &Path) -> Result<(), CgroupError> {
    for child in children(dir).map_err(CgroupError::io("list", dir))? {
        thaw(&child)?;
    }
    let file = dir.join("freezer.state");
    match fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut file| io::Write::write_all(&mut file, b"THAWED"))
    {
        Err(error) if !gone(&error) => Err(CgroupError::io("write", &file)(error)),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Whether the kernel took the whole tree in one write.
fn kill_whole(dir: &Path) -> Result<bool, CgroupError> {
    let file = dir.join("cgroup.kill");
    match fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut file| io::Write::write_all(&mut file, b"1"))
    {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(CgroupError::io("write", &file)(error)),
    }
}

/// Kills what is listed, each by a descriptor that was opened while it was listed: a number that meanwhile belongs to
/// a stranger is never signalled.
fn kill_each(dir: &Path) -> Result<(), CgroupError> {
    let (mut listed, mut still) = (Vec::new(), Vec::new());
    read_tree(dir, &mut listed)?;
    let open = |pid: i32| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?));
    let opened: Vec<(i32, OwnedFd)> = listed.into_iter().filter_map(open).collect();
    read_tree(dir, &mut still)?;
    for (pid, process) in opened {
        if still.contains(&pid) {
            // An error means that it has just ended, or that it is looked at again in the next round.
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir)? {
        remove_tree(&child)?;
    }
    remove_dir_if_there(dir)
}
