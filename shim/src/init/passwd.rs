//! `HOME` from the container's own `/etc/passwd`, a file that the image wrote.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::rootfs::Rootfs;

/// A passwd file beyond this is not read further (CVE-2026-47262).
const MAX_BYTES: usize = 1 << 20;

/// The home directory of `uid`, `/` when the file does not say.
///
/// # Errors
/// What read(2) says. A file that is missing or not a regular one says nothing.
pub(crate) fn home(root: &Rootfs, uid: u32) -> Result<String, Errno> {
    // Neither a fifo nor a terminal may keep or change us.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let found = match root.find("/etc/passwd", flags) {
        Ok(file) if is_regular(&file)? => home_in(&read(&file)?, uid),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| "/".to_owned()))
}

fn is_regular(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::RegularFile)
}

fn read(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut content = Vec::new();
    let mut buffer = [0_u8; 4096];
    while content.len() < MAX_BYTES {
        match rustix::io::read(file, &mut buffer)? {
            0 => break,
            read => content.extend(buffer.get(..read).unwrap_or_default()),
        }
    }
    Ok(content)
}

/// First line of that id, `name:password:uid:gid:comment:home:shell`.
fn home_in(content: &[u8], uid: u32) -> Option<String> {
    let mut lines = content
        .split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    lines.find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (id, home) = (fields.get(2)?, fields.get(5)?);
        let same = id.parse::<u32>().ok()? == uid && id.bytes().all(|byte| byte.is_ascii_digit());
        (same && home.starts_with('/') && !home.contains('\0')).then(|| (*home).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::home_in;

    #[test]
    fn a_home_is_found_by_number_only() {
        let passwd = b"root:x:0:0::/root:/bin/sh\n1000:x:1:1::/wrong:\nuser:x:1000:1000::/home/user:/bin/sh";
        assert_eq!(home_in(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(passwd, 1000).as_deref(), Some("/home/user"));
        assert_eq!(home_in(passwd, 7), None);
    }

    #[test]
    fn malformed_lines_say_nothing() {
        let passwd = b"\xff\xff\nx:x:+5:5::/plus:\nshort:x:5\nrel:x:5:5::relative:\n";
        assert_eq!(home_in(passwd, 5), None);
    }
}
