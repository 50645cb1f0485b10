//! What a container finds mounted (contract §6.4): the defaults, what the request puts in their place, in an order in
//! which nothing hides what comes after.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as OciMount;

use super::{Inputs, linux};
use crate::domain::mount::{Access, Mount, Propagation};
use crate::domain::security::Privilege;

/// All mounts, by depth of their destination; of equal ones the defaults come first, then the request's order.
///
/// Volumes that the image declares and no mount covers are plain directories of the writable layer: the image's own
/// content, with its owner, gone with the container.
pub(super) fn build(inputs: &Inputs<'_>) -> Vec<OciMount> {
    let asked: Vec<PathBuf> = inputs
        .spec
        .mounts
        .iter()
        .map(|mount| clean(&mount.container_path))
        .collect();
    let over_dev = asked.iter().any(|path| path == Path::new("/dev"));
    let replaced = |path: &Path| asked.iter().any(|asked| asked == path) || (over_dev && path.starts_with("/dev/"));
    let mut mounts: Vec<OciMount> = defaults(inputs);
    mounts.retain(|mount| !replaced(mount.destination()));
    mounts.extend(
        inputs
            .spec
            .mounts
            .iter()
            .zip(asked)
            .map(|(mount, path)| volume(mount, path)),
    );
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

/// The rootfs must let through what any volume is to exchange with the host.
pub(super) fn rootfs_propagation(mounts: &[Mount]) -> &'static str {
    let any = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if any(Propagation::Bidirectional) {
        "rshared"
    } else if any(Propagation::HostToContainer) {
        "rslave"
    } else {
        "rprivate"
    }
}

/// A destination without `.` and doubled slashes; `..` was refused by the decoder and stays as it is here.
pub(super) fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

fn defaults(inputs: &Inputs<'_>) -> Vec<OciMount> {
    let kernel = match inputs.spec.security.privilege {
        Privilege::Privileged => "rw",
        Privilege::Ordinary => "ro",
    };
    let files = match inputs.spec.security.readonly_rootfs {
        true => "ro",
        false => "rw",
    };
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let plain = ["nosuid", "noexec", "nodev"];
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", kernel];
    let bind = |path: &str, source: &Path| mount(path, "bind", source, &["rbind", "rprivate", files]);
    vec![
        mount("/proc", "proc", "proc", &plain),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", kernel]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/mqueue", "mqueue", "mqueue", &plain),
        shm(inputs),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &cgroup),
        bind("/etc/hosts", &inputs.files.hosts),
        bind("/etc/hostname", &inputs.files.hostname),
        bind("/etc/resolv.conf", &inputs.files.resolv_conf),
    ]
}

/// Shared memory belongs to the IPC namespace: the pod's, the host's, or one of its own. Never read-only.
fn shm(inputs: &Inputs<'_>) -> OciMount {
    let source = match linux::ipc(inputs) {
        linux::Ipc::Pod(_) => inputs.files.shm.as_path(),
        linux::Ipc::Host => Path::new("/dev/shm"),
        linux::Ipc::Own => {
            let options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
            return mount("/dev/shm", "tmpfs", "shm", &options);
        }
    };
    mount(
        "/dev/shm",
        "bind",
        source,
        &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
    )
}

fn volume(asked: &Mount, path: PathBuf) -> OciMount {
    let Mount {
        container_path: _, // cleaned into `path`
        host_path,
        access,
        selinux_relabel: _, // labels are written before the mount, by whoever prepares the source
        propagation,
    } = asked;
    let propagation = match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match access {
        Access::ReadOnly => "ro",
        Access::ReadOnlyTree => "rro",
        Access::ReadWrite => "rw",
    };
    mount(path, "bind", host_path, &["rbind", propagation, access])
}

fn mount(path: impl Into<PathBuf>, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(path.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.as_ref().to_path_buf()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}
