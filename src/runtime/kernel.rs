//! Which of the kernel features newer than 5.14 this host lacks, found out once by trying them, so that no container
//! has to. Those that depend on a container's cgroup the shim tries itself.

use copepod_proto::bundle::LOWERDIR_PLUS;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_set_string, fsopen};

/// Adds what is missing here to what the configuration forces, and says so in the log.
pub(super) fn add_missing(forced: &mut Vec<String>) {
    match takes_layers_one_by_one() {
        Ok(true) => {}
        Ok(false) if forced.iter().any(|name| name == LOWERDIR_PLUS) => {}
        Ok(false) => {
            tracing::info!("this kernel lacks {LOWERDIR_PLUS} (Linux 6.7): overlays are mounted the older way");
            forced.push(LOWERDIR_PLUS.to_owned());
        }
        // No overlayfs at all, or no right to mount: a container's own error says it better.
        Err(errno) => tracing::debug!(error = %errno, "overlayfs cannot be tried"),
    }
}

/// Nothing is mounted: the context is configured and dropped.
fn takes_layers_one_by_one() -> Result<bool, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Before 6.5 overlayfs keeps options unread until the creation, whatever they are.
    if fsconfig_set_string(&context, "copepod_probe", "1").is_ok() {
        return Ok(false);
    }
    // A directory that is always there. 6.5 and 6.6 do not know the key.
    Ok(fsconfig_set_string(&context, "lowerdir+", "/").is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A distribution may have brought it to an older kernel; none has, as far as we know.
    #[test]
    fn the_probe_agrees_with_the_kernels_release() {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let release = (numbers.next().unwrap(), numbers.next().unwrap());
        match takes_layers_one_by_one() {
            Ok(takes) => assert_eq!(takes, release >= (6, 7)),
            Err(errno) => assert_eq!(errno, Errno::PERM, "only root may try"),
        }
        let mut forced = vec![LOWERDIR_PLUS.to_owned()];
        add_missing(&mut forced);
        assert_eq!(forced, [LOWERDIR_PLUS]);
    }
}
