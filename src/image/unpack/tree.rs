//! Writes entries beneath a directory descriptor. No path of an archive is ever given to the kernel without it: parents
//! are opened with openat2 inside the root, last components never followed.
//!
//! The tree is the layer alone, in overlayfs's notation: what a layer takes away is a character device 0:0 or a
//! directory marked opaque. Such marks in an archive itself are refused, so whatever looks like one here is ours.

use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    self as fs, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::entry::{Entries, Entry, Kind};
use super::error::shown;
use super::whiteout::{self, Meaning};
use super::{Budget, UnpackError, Unpacked, resolve, xattr};

/// overlayfs's mark of a directory that hides what is below.
const OPAQUE: &str = "trusted.overlay.opaque";
/// How much is written between two looks at the free space.
const FREE_CHECK: u64 = 64 << 20;
/// Space that is left alone: 5 % of the file system, but never more than this (yardstick L14).
const MAX_RESERVE: u64 = 1 << 30;
/// Longest symbolic link (PATH_MAX less its NUL).
const MAX_LINK: usize = 4095;
/// Unit of disk space.
const DISK_BLOCK: u64 = 4096;

/// Unpacks the whole archive.
pub(super) fn unpack(
    source: &mut impl BufRead,
    root: BorrowedFd<'_>,
    budget: &Budget,
) -> Result<Unpacked, UnpackError> {
    let mut tree = Tree {
        root,
        budget,
        parent: None,
        replaced: false,
        directories: Vec::new(),
        taken: Unpacked::default(),
        unchecked: FREE_CHECK,
    };
    // What it is if no entry says otherwise.
    fs::fchmod(root, Mode::from(0o755)).map_err(write("set the mode of", b"/"))?;
    let mut entries = Entries::new(source);
    while let Some(entry) = entries.next()? {
        tree.add(&entry, &mut entries)?;
    }
    tree.finish()
}

struct Tree<'a> {
    root: BorrowedFd<'a>,
    budget: &'a Budget,
    /// The directory of the last entry: archives go directory by directory.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Something was removed since `parent` was opened.
    replaced: bool,
    /// Times of directories, set last because every new file changes them.
    directories: Vec<(Vec<u8>, Timestamps)>,
    taken: Unpacked,
    /// Bytes written since the free space was looked at.
    unchecked: u64,
}

/// Where an entry goes.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Descriptor of its directory.
    dir: BorrowedFd<'a>,
    /// Its last component.
    name: &'a [u8],
    /// Its whole name, for messages.
    whole: &'a [u8],
}

fn write(doing: &'static str, name: &[u8]) -> impl Fn(Errno) -> UnpackError + use<> {
    let name = name.to_vec();
    move |errno| UnpackError::Write {
        doing,
        entry: shown(&name),
        source: errno.into(),
    }
}

fn refused(name: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::Refused {
        entry: shown(name),
        reason,
    }
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

impl Tree<'_> {
    fn add<R: BufRead>(&mut self, entry: &Entry, content: &mut Entries<'_, R>) -> Result<(), UnpackError> {
        let parts = resolve::components(&entry.name)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.add_root(entry);
        };
        for parent in parents {
            match whiteout::meaning(parent) {
                Meaning::Plain => {}
                Meaning::Ignored => return Ok(()),
                Meaning::Gone(_) | Meaning::Opaque | Meaning::Malformed => {
                    return Err(refused(&entry.name, "a directory has a whiteout's name"));
                }
            }
        }
        let meaning = whiteout::meaning(name);
        match meaning {
            Meaning::Ignored => return Ok(()),
            Meaning::Malformed => return Err(refused(&entry.name, "it is a whiteout of nothing")),
            Meaning::Opaque | Meaning::Gone(_) if !matches!(entry.kind, Kind::File(_)) => {
                return Err(refused(&entry.name, "it has a whiteout's name but is no file"));
            }
            Meaning::Opaque if parents.is_empty() => {
                return Err(UnpackError::Unsupported {
                    entry: shown(&entry.name),
                    reason: "it makes the whole layer opaque",
                });
            }
            Meaning::Plain | Meaning::Opaque | Meaning::Gone(_) => {}
        }
        let parent = parents.join(&b'/');
        let dir = self.directory(&parent, &entry.name)?;
        let place = |name| Place {
            dir: dir.as_fd(),
            name,
            whole: &entry.name,
        };
        let done = match meaning {
            Meaning::Opaque => make_opaque(dir.as_fd(), &entry.name),
            Meaning::Gone(gone) => self.add_whiteout(place(gone)),
            Meaning::Plain | Meaning::Ignored | Meaning::Malformed => self.add_plain(place(name), entry, content),
        };
        // Through a link, what was replaced may have been the way to this very directory.
        if !std::mem::take(&mut self.replaced) {
            self.parent = Some((parent, dir));
        }
        done
    }

    /// `.`, `/` or `./`: only a directory can be the root (CVE-2021-29136).
    fn add_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.name, "the root must be a directory"));
        }
        let root = fs::openat(
            self.root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(write("open", b"/"))?;
        dress(root.as_fd(), entry)?;
        self.directories.push((entry.name.clone(), times(entry)));
        Ok(())
    }

    /// Opens a directory of the layer, links followed inside of it, made as far as it is missing.
    fn directory(&mut self, path: &[u8], whole: &[u8]) -> Result<OwnedFd, UnpackError> {
        if let Some((known, dir)) = self.parent.take()
            && known == path
        {
            return Ok(dir);
        }
        match resolve::open_in(self.root, path) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_directories(path, whole),
            Err(Errno::LOOP) => Err(refused(whole, "too many symbolic links lead to it")),
            Err(errno) => Err(write("open the directory of", whole)(errno)),
        }
    }

    fn make_directories(&mut self, path: &[u8], whole: &[u8]) -> Result<OwnedFd, UnpackError> {
        let mut dir = resolve::open_in(self.root, b"").map_err(write("open", b"/"))?;
        for part in resolve::follow(self.root, path, whole)? {
            let make = || fs::mkdirat(&dir, os(&part), Mode::from(0o755));
            let made = match make() {
                Err(Errno::EXIST) if self.unhide(dir.as_fd(), &part, whole)? => {
                    make().map_err(write("make the directory of", whole))?;
                    let hidden =
                        resolve::open_child(dir.as_fd(), &part).map_err(write("open the directory of", whole))?;
                    make_opaque(hidden.as_fd(), whole)?;
                    true
                }
                Err(Errno::EXIST) => false,
                other => {
                    other.map_err(write("make the directory of", whole))?;
                    true
                }
            };
            dir = match resolve::open_child(dir.as_fd(), &part) {
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(refused(whole, "its directory is no directory")),
                other => other.map_err(write("open the directory of", whole))?,
            };
            if made {
                // mkdirat's mode went through the umask.
                let opened = fs::openat(&dir, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                let opened = opened.map_err(write("open the directory of", whole))?;
                fs::fchmod(opened, Mode::from(0o755)).map_err(write("set the mode of the directory of", whole))?;
                self.count(DISK_BLOCK)?;
            }
        }
        Ok(dir)
    }

    /// Removes a whiteout of ours where a directory has to be. Whether there was one.
    fn unhide(&mut self, dir: BorrowedFd<'_>, name: &[u8], whole: &[u8]) -> Result<bool, UnpackError> {
        match stat(dir, name).map_err(write("look at the directory of", whole))? {
            Some(found) if is_whiteout(&found) => {
                self.replaced = true;
                fs::unlinkat(dir, os(name), AtFlags::empty()).map_err(write("replace", whole))?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// The lower layers' file is gone; what this very layer has of that name stays, and hides it as well.
    fn add_whiteout(&mut self, place: Place<'_>) -> Result<(), UnpackError> {
        let whole = place.whole;
        match stat(place.dir, place.name).map_err(write("look at", whole))? {
            None => {
                let device = FileType::CharacterDevice;
                fs::mknodat(place.dir, os(place.name), device, Mode::empty(), makedev(0, 0))
                    .map_err(write("make the whiteout", whole))?;
                self.count(0)
            }
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                let dir = resolve::open_child(place.dir, place.name).map_err(write("open", whole))?;
                make_opaque(dir.as_fd(), whole)
            }
            Some(_) => Ok(()),
        }
    }

    fn add_plain<R: BufRead>(
        &mut self,
        place: Place<'_>,
        entry: &Entry,
        content: &mut Entries<'_, R>,
    ) -> Result<(), UnpackError> {
        let whole = place.whole;
        if let Kind::HardLink(target) = &entry.kind {
            return self.add_hard_link(place, target);
        }
        // The common case costs no look: whoever makes a new name hears of an old one.
        if let Kind::File(size) = entry.kind {
            match create(place) {
                Ok(file) => return self.fill(&file, size, entry, content),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(write("create", whole)(errno)),
            }
        }
        let mut hidden = false;
        if let Some(found) = stat(place.dir, place.name).map_err(write("look at", whole))? {
            let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
            if is_directory && entry.kind == Kind::Directory {
                return self.add_directory(place, entry);
            }
            hidden = is_whiteout(&found);
            self.replace(place)?;
        }
        match &entry.kind {
            Kind::File(size) => {
                let file = create(place).map_err(write("create", whole))?;
                self.fill(&file, *size, entry, content)
            }
            Kind::Directory => {
                fs::mkdirat(place.dir, os(place.name), Mode::from(0o700)).map_err(write("make", whole))?;
                self.count(DISK_BLOCK)?;
                if hidden {
                    let dir = resolve::open_child(place.dir, place.name).map_err(write("open", whole))?;
                    make_opaque(dir.as_fd(), whole)?;
                }
                self.add_directory(place, entry)
            }
            Kind::SymbolicLink(target) => self.add_symbolic_link(place, entry, target),
            Kind::Character(0, 0) => Err(refused(whole, "it is overlayfs's own mark of a deleted file")),
            Kind::Character(major, minor) => self.add_node(place, entry, (FileType::CharacterDevice, *major, *minor)),
            Kind::Block(major, minor) => self.add_node(place, entry, (FileType::BlockDevice, *major, *minor)),
            Kind::Fifo => self.add_node(place, entry, (FileType::Fifo, 0, 0)),
            Kind::HardLink(_) => Ok(()),
            Kind::Other(reason) => Err(UnpackError::Unsupported {
                entry: shown(whole),
                reason,
            }),
        }
    }

    fn fill<R: BufRead>(
        &mut self,
        file: &OwnedFd,
        size: u64,
        entry: &Entry,
        content: &mut Entries<'_, R>,
    ) -> Result<(), UnpackError> {
        // Counted before it is written, and for as much as comes: a size that lies ends the stream instead.
        self.count(size.next_multiple_of(DISK_BLOCK))?;
        loop {
            let piece = content.content()?;
            if piece.is_empty() {
                break;
            }
            let amount = rustix::io::write(file, piece).map_err(write("write", &entry.name))?;
            content.consume(amount);
            self.unchecked += amount as u64;
            if self.unchecked >= FREE_CHECK {
                self.unchecked = 0;
                self.check_space()?;
            }
        }
        dress(file.as_fd(), entry)?;
        fs::futimens(file, &times(entry)).map_err(write("set the time of", &entry.name))
    }

    fn add_directory(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = fs::openat(place.dir, os(place.name), flags, Mode::empty()).map_err(write("open", place.whole))?;
        dress(dir.as_fd(), entry)?;
        self.directories.push((entry.name.clone(), times(entry)));
        Ok(())
    }

    fn add_symbolic_link(&mut self, place: Place<'_>, entry: &Entry, target: &[u8]) -> Result<(), UnpackError> {
        if target.is_empty() || target.len() > MAX_LINK || target.contains(&0) {
            return Err(refused(place.whole, "its target is empty, too long or has a NUL in it"));
        }
        fs::symlinkat(os(target), place.dir, os(place.name)).map_err(write("link", place.whole))?;
        self.count(0)?;
        self.dress_node(place, entry)
    }

    fn add_node(
        &mut self,
        place: Place<'_>,
        entry: &Entry,
        (kind, major, minor): (FileType, u32, u32),
    ) -> Result<(), UnpackError> {
        fs::mknodat(
            place.dir,
            os(place.name),
            kind,
            Mode::from(0o600),
            makedev(major, minor),
        )
        .map_err(write("make the node", place.whole))?;
        self.count(0)?;
        self.dress_node(place, entry)?;
        // The name is no link: it was made here a moment ago, in a directory that nobody else can reach.
        fs::chmodat(place.dir, os(place.name), Mode::from(entry.mode), AtFlags::empty())
            .map_err(write("set the mode of", place.whole))
    }

    /// Owner, attributes and time of what must not be opened.
    fn dress_node(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let whole = place.whole;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fs::chownat(
            place.dir,
            os(place.name),
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(write("set the owner of", whole))?;
        for (name, value) in &entry.xattrs {
            if kept(name, whole)? && name == b"security.capability" {
                let mut path = format!("/proc/self/fd/{}/", place.dir.as_raw_fd()).into_bytes();
                path.extend_from_slice(place.name);
                fs::lsetxattr(os(&path), os(name), value, XattrFlags::empty())
                    .map_err(write("set the attributes of", whole))?;
            }
        }
        fs::utimensat(place.dir, os(place.name), &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(write("set the time of", whole))
    }

    fn add_hard_link(&mut self, place: Place<'_>, target: &[u8]) -> Result<(), UnpackError> {
        let whole = place.whole;
        let missing = || {
            refused(
                whole,
                "it is a hard link to something that is no earlier file of this layer",
            )
        };
        let parts = resolve::components(target)?;
        let (name, parents) = parts.split_last().ok_or_else(missing)?;
        let dir = match resolve::open_in(self.root, &parents.join(&b'/')) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing()),
            other => other.map_err(write("open the target of", whole))?,
        };
        let found = stat(dir.as_fd(), name).map_err(write("look at the target of", whole))?;
        let Some(found) = found.filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile) else {
            return Err(missing());
        };
        match stat(place.dir, place.name).map_err(write("look at", whole))? {
            Some(old) if (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino) => return Ok(()),
            Some(_) => self.replace(place)?,
            None => {}
        }
        // The target may have been below what was just replaced.
        match fs::linkat(&dir, os(name), place.dir, os(place.name), AtFlags::empty()) {
            Err(Errno::NOENT) => Err(missing()),
            other => other.map_err(write("link", whole)),
        }
    }

    /// Makes room: the last entry of a name counts (yardstick L12).
    fn replace(&mut self, place: Place<'_>) -> Result<(), UnpackError> {
        self.replaced = true;
        resolve::remove(place.dir, place.name).map_err(write("replace", place.whole))
    }

    fn count(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.budget.inode()?;
        self.budget.bytes(bytes)?;
        self.taken.inodes += 1;
        self.taken.bytes += bytes;
        Ok(())
    }

    fn check_space(&self) -> Result<(), UnpackError> {
        let found = fs::fstatvfs(self.root).map_err(write("look at the space below", b"/"))?;
        let total = found.f_blocks.saturating_mul(found.f_frsize);
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < (total / 20).min(MAX_RESERVE) {
            return Err(UnpackError::NoSpace { free: free >> 20 });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (name, times) in self.directories.drain(..) {
            let Ok(parts) = resolve::components(&name) else {
                continue;
            };
            // A directory that was replaced later has no time to set any more.
            let Ok(dir) = resolve::open_in(self.root, &parts.join(&b'/')) else {
                continue;
            };
            fs::utimensat(&dir, ".", &times, AtFlags::empty()).map_err(write("set the time of", &name))?;
        }
        // The root itself.
        self.taken.inodes += 1;
        self.taken.bytes += DISK_BLOCK;
        Ok(self.taken)
    }
}

fn create(place: Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(place.dir, os(place.name), flags, Mode::from(0o600))
}

/// Owner, mode and attributes, in this order: a new owner takes setuid and capabilities away.
fn dress(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fs::fchown(file, Some(uid), Some(gid)).map_err(write("set the owner of", &entry.name))?;
    fs::fchmod(file, Mode::from(entry.mode)).map_err(write("set the mode of", &entry.name))?;
    for (name, value) in &entry.xattrs {
        if kept(name, &entry.name)? {
            fs::fsetxattr(file, os(name), value, XattrFlags::empty())
                .map_err(write("set the attributes of", &entry.name))?;
        }
    }
    Ok(())
}

fn kept(name: &[u8], whole: &[u8]) -> Result<bool, UnpackError> {
    match xattr::judge(name) {
        xattr::Verdict::Keep => Ok(true),
        xattr::Verdict::Drop => Ok(false),
        xattr::Verdict::Refuse => Err(refused(whole, "it has an attribute that only the system may set")),
    }
}

fn make_opaque(dir: BorrowedFd<'_>, whole: &[u8]) -> Result<(), UnpackError> {
    // The descriptor may be one that only names the directory (O_PATH), which has no fsetxattr.
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    fs::setxattr(path, OPAQUE, b"y", XattrFlags::empty()).map_err(write("mark as opaque the directory of", whole))
}

fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match fs::statat(dir, os(name), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == makedev(0, 0)
}

fn times(entry: &Entry) -> Timestamps {
    let (tv_sec, nanos) = entry.mtime;
    let time = Timespec {
        tv_sec,
        tv_nsec: i64::from(nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
