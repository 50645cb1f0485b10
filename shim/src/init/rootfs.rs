//! Looking paths up inside the container's rootfs. Every answer is a descriptor; no path of the container is ever
//! joined to another one and looked up again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The rootfs, as a directory descriptor.
#[derive(Debug)]
pub(crate) struct Rootfs {
    fd: OwnedFd,
}

/// What to make at the end of a path that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

/// As in path_resolution(7).
const MAX_LINKS: u32 = 40;
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Rootfs {
    /// The calling process's own root, which must be the container's by now.
    ///
    /// # Errors
    /// What open(2) says.
    pub(crate) fn open() -> Result<Self, Errno> {
        let fd = rustix::fs::open("/", PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens what `path` leads to, following links inside the rootfs only.
    ///
    /// # Errors
    /// What openat2(2) says: `ENOENT`, `ELOOP` for a magic link.
    pub(crate) fn find(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE)
    }

    /// As [`Rootfs::find`], and refuses any symbolic link on the way.
    ///
    /// # Errors
    /// As [`Rootfs::find`]; `ELOOP` for a link.
    pub(crate) fn find_without_links(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = INSIDE | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The directory `path`, made with its parents where missing.
    ///
    /// # Errors
    /// `ENOTDIR` when something else is there, `EROFS` where nothing can be made.
    pub(crate) fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let found = self.make(path, Make::Directory)?;
        is_directory(found.as_fd())?.then_some(found).ok_or(Errno::NOTDIR)
    }

    /// What `path` leads to, made where missing.
    ///
    /// # Errors
    /// As [`Rootfs::directory`], except that what exists may be of any kind.
    pub(crate) fn make(&self, path: &str, make: Make) -> Result<OwnedFd, Errno> {
        match self.find(path, OFlags::PATH) {
            Err(Errno::NOENT) => Walk::new(self, path)?.run(make),
            other => other,
        }
    }

    /// Whether the first component of `path` is a symbolic link.
    ///
    /// # Errors
    /// What fstatat(2) says, but for absence.
    pub(crate) fn base_is_link(&self, path: &str) -> Result<bool, Errno> {
        let Some(first) = path.split('/').find(|part| !part.is_empty()) else {
            return Ok(false);
        };
        match rustix::fs::statat(&self.fd, first, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether the descriptor is one of a directory.
///
/// # Errors
/// What fstat(2) says.
pub(crate) fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

/// One component at a time, links taken apart by hand, each directory held open: what is made is made in a directory
/// that was reached from the root, whatever is renamed meanwhile.
struct Walk<'a> {
    root: &'a Rootfs,
    /// Directories below the root, innermost last.
    stack: Vec<OwnedFd>,
    /// Components to come, next one last.
    todo: Vec<String>,
    links: u32,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Rootfs, path: &str) -> Result<Self, Errno> {
        let mut walk = Self {
            root,
            stack: Vec::new(),
            todo: Vec::new(),
            links: 0,
        };
        walk.push(path);
        if walk.todo.is_empty() {
            Err(Errno::NOENT)
        } else {
            Ok(walk)
        }
    }

    fn push(&mut self, path: &str) {
        if path.starts_with('/') {
            self.stack.clear();
        }
        self.todo.extend(
            path.split('/')
                .rev()
                .filter(|part| !matches!(*part, "" | "."))
                .map(str::to_owned),
        );
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().unwrap_or(&self.root.fd).as_fd()
    }

    fn run(mut self, make: Make) -> Result<OwnedFd, Errno> {
        while let Some(part) = self.todo.pop() {
            if part == ".." {
                self.stack.pop();
                continue;
            }
            let next = self.enter(&part, make)?;
            match FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) {
                FileType::Symlink => self.follow(&next)?,
                FileType::Directory => self.stack.push(next),
                FileType::RegularFile
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {
                    return if self.todo.is_empty() {
                        Ok(next)
                    } else {
                        Err(Errno::NOTDIR)
                    };
                }
            }
        }
        match self.stack.pop() {
            Some(directory) => Ok(directory),
            None => rustix::io::fcntl_dupfd_cloexec(&self.root.fd, 0),
        }
    }

    fn enter(&self, part: &str, make: Make) -> Result<OwnedFd, Errno> {
        let open = || rustix::fs::openat2(self.here(), part, PATH | OFlags::NOFOLLOW, Mode::empty(), INSIDE);
        match open() {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let made = if self.todo.is_empty() && make == Make::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(self.here(), part, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            rustix::fs::mkdirat(self.here(), part, Mode::from_raw_mode(0o755))
        };
        match made {
            // Somebody else was faster: whatever it is now is judged like anything that was there.
            Ok(()) | Err(Errno::EXIST) => open(),
            Err(errno) => Err(errno),
        }
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())?;
        self.push(target.to_str().map_err(|_| Errno::ILSEQ)?);
        Ok(())
    }
}
