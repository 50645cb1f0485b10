use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};

use super::*;

struct Home {
    dir: tempfile::TempDir,
    snapshots: Snapshots,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path().join("snapshots")).unwrap();
    Home { dir, snapshots }
}

impl Home {
    fn layer(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.snapshots.store()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    async fn until(&self, wanted: impl Fn(&Self) -> bool) {
        for _ in 0..300 {
            if wanted(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not happen within 3 s");
    }
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
}

fn opaque(path: &Path) {
    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
}

#[tokio::test]
async fn prepares_an_overlay_highest_layer_first_each_once() {
    let home = home();
    let (a, b) = (home.layer("a"), home.layer("b"));
    fs::set_permissions(&a, fs::Permissions::from_mode(0o711)).unwrap();
    let id = ContainerId::generate();
    let mount = home
        .snapshots
        .prepare(&id, &[a.clone(), b.clone(), a.clone()])
        .await
        .unwrap();
    let dir = home.snapshots.store().join(id.as_str());
    let expected = [
        format!("lowerdir={}:{}", a.display(), b.display()),
        format!("upperdir={}/upper", dir.display()),
        format!("workdir={}/work", dir.display()),
        "volatile".to_owned(),
    ];
    assert_eq!(
        (mount.fstype.as_str(), mount.options.as_slice()),
        ("overlay", &expected[..])
    );
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
    let upper = fs::metadata(dir.join("upper")).unwrap();
    assert_eq!(upper.mode() & 0o7777, 0o711, "the merged root looks like the image's");
    assert!(
        home.snapshots.prepare(&id, &[a]).await.is_err(),
        "an id has one writable layer"
    );
    assert!(dir.join("upper").is_dir(), "which a second attempt leaves alone");
}

#[tokio::test]
async fn cve_2026_24054_an_image_without_layers_is_an_empty_directory() {
    let home = home();
    let id = ContainerId::generate();
    let mount = home.snapshots.prepare(&id, &[]).await.unwrap();
    let empty = home.snapshots.store().join(id.as_str()).join("empty");
    assert_eq!(mount.options[0], format!("lowerdir={}", empty.display()));
    assert_eq!(fs::read_dir(empty).unwrap().count(), 0);
}

#[tokio::test]
async fn a_failed_prepare_leaves_nothing() {
    let home = home();
    let error = home
        .snapshots
        .prepare(&ContainerId::generate(), &["/nonexistent".into()])
        .await;
    assert_eq!(error.unwrap_err().to_string(), "look at layer /nonexistent");
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn paths_that_options_cannot_carry_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Snapshots::open(dir.path().join("a:b")).unwrap_err();
    assert!(matches!(error, SnapshotError::Path { .. }));
}

#[tokio::test]
async fn removes_and_sweeps_all_but_what_is_kept() {
    let home = home();
    let ids: Vec<_> = (0..3).map(|_| ContainerId::generate()).collect();
    for id in &ids {
        home.snapshots.prepare(id, &[]).await.unwrap();
    }
    fs::create_dir(home.snapshots.store().join(".gone-before")).unwrap();
    home.snapshots.remove(&ids[0]).await.unwrap();
    assert!(!home.names().contains(&ids[0].as_str().to_owned()));
    home.snapshots.remove(&ids[0]).await.unwrap();
    home.snapshots.sweep(&ids[2..]).await.unwrap();
    home.until(|home| home.names() == [ids[2].as_str()]).await;
}

#[tokio::test]
async fn usage_is_measured_in_the_background() {
    let home = home();
    let id = ContainerId::generate();
    home.snapshots.prepare(&id, &[]).await.unwrap();
    let upper = home.snapshots.store().join(id.as_str()).join("upper");
    fs::create_dir(upper.join("d")).unwrap();
    fs::write(upper.join("d/f"), vec![1; 100_000]).unwrap();
    fs::hard_link(upper.join("d/f"), upper.join("g")).unwrap();
    symlink("/", upper.join("l")).unwrap();
    assert_eq!(home.snapshots.usage(&id), Usage::default());
    home.until(|home| home.snapshots.usage(&id).at != 0).await;
    let usage = home.snapshots.usage(&id);
    assert_eq!(usage.inodes, 4, "upper, d, f once, l");
    assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    assert_eq!(home.snapshots.usage(&ContainerId::generate()), Usage::default());
}

#[tokio::test]
async fn reads_files_as_containers_see_them() {
    let home = home();
    let (lower, upper) = (home.layer("lower"), home.layer("upper"));
    for dir in ["etc", "gone", "hid", "file"] {
        fs::create_dir(lower.join(dir)).unwrap();
        fs::write(lower.join(dir).join("x"), "lower").unwrap();
    }
    fs::create_dir(upper.join("etc")).unwrap();
    fs::write(upper.join("etc/passwd"), "upper").unwrap();
    whiteout(&upper.join("gone"));
    fs::create_dir(upper.join("hid")).unwrap();
    opaque(&upper.join("hid"));
    fs::write(upper.join("file"), "a file over a directory").unwrap();
    symlink("/etc", upper.join("abs")).unwrap();
    symlink("../../../etc/../etc/passwd", upper.join("etc/up")).unwrap();
    symlink("loop", upper.join("loop")).unwrap();
    rustix::fs::mknodat(CWD, upper.join("etc/fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let layers = [lower, upper];
    let read = async |path: &str| home.snapshots.read_file(&layers, Path::new(path), 100).await;
    let text = async |path: &str| read(path).await.unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    for (path, expected) in [
        ("/etc/passwd", Some("upper")),
        ("etc/x", Some("lower")),
        ("/abs/x", Some("lower")),
        ("/etc/up", Some("upper")),
        ("/../../etc/passwd", Some("upper")),
        ("/gone/x", None),
        ("/hid/x", None),
        ("/file/x", None),
        ("/etc", None),
        ("/etc/fifo", None),
        ("/etc/passwd/x", None),
        ("/nothing", None),
    ] {
        assert_eq!(text(path).await.as_deref(), expected, "{path}");
    }
    assert!(matches!(read("/loop").await, Err(SnapshotError::Loop { .. })));
    let big = home.snapshots.read_file(&layers, Path::new("/etc/passwd"), 4).await;
    assert!(matches!(big, Err(SnapshotError::TooBig { limit: 4, .. })));
}

#[tokio::test]
async fn cve_2024_9676_links_and_fifos_of_an_image_lead_nowhere() {
    let home = home();
    let canary = home.dir.path().join("canary");
    fs::write(&canary, "host").unwrap();
    let layer = home.layer("layer");
    symlink(&canary, layer.join("passwd")).unwrap();
    symlink("/proc/self/root/etc/passwd", layer.join("magic")).unwrap();
    symlink("../../../../../../../etc/hostname", layer.join("climb")).unwrap();
    for path in ["/passwd", "/magic", "/climb"] {
        let found = home
            .snapshots
            .read_file(std::slice::from_ref(&layer), Path::new(path), 100)
            .await;
        assert_eq!(found.unwrap(), None, "{path}");
    }
}
