use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::record::tests::{container, exited, image, intent, layer, pod};
use super::*;

const FILE: &str = "copepod.redb";

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let (state, recorded) = State::open(&root.path().join(FILE)).await.unwrap();
    assert!(recorded.pods.is_empty() && recorded.quarantined.is_empty());
    let all = vec![
        Change::PutPod(Box::new(pod('a'))),
        Change::PutContainer(Box::new(container('b', exited()))),
        Change::PutImage(Box::new(image('c'))),
        Change::PutLayer(layer('d')),
        Change::Begin(Box::new(intent('e'))),
    ];
    state.commit(all).await.unwrap();
    state.close().await;
    let (state, recorded) = State::open(&root.path().join(FILE)).await.unwrap();
    assert_eq!(recorded.pods, [pod('a')]);
    assert_eq!(recorded.containers, [container('b', exited())]);
    assert_eq!(recorded.images, [image('c')]);
    assert_eq!(recorded.layers, [layer('d')]);
    assert_eq!(recorded.intents, [intent('e')]);
    let Intent::RunPod { id, .. } = intent('e');
    let gone = vec![
        Change::End(id),
        Change::DeletePod(pod('a').id),
        Change::DeleteContainer(container('b', exited()).id),
        Change::DeleteImage(image('c').id),
        Change::DeleteLayer(layer('d').diff_id),
    ];
    state.commit(gone).await.unwrap();
    state.close().await;
    let (_state, recorded) = State::open(&root.path().join(FILE)).await.unwrap();
    let left = recorded.pods.len() + recorded.containers.len() + recorded.images.len();
    assert_eq!(left + recorded.layers.len() + recorded.intents.len(), 0);
}

#[tokio::test]
async fn a_second_daemon_is_told_who_has_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let (state, _) = State::open(&root.path().join(FILE)).await.unwrap();
    let error = State::open(&root.path().join(FILE)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    assert!(
        error.contains(root.path().to_str().unwrap()) && error.contains("stop it"),
        "{error}"
    );
    state.close().await;
    State::open(&root.path().join(FILE)).await.unwrap().0.close().await;
}

#[tokio::test]
async fn only_root_may_read_it() {
    let root = tempfile::tempdir().unwrap();
    let (state, _) = State::open(&root.path().join(FILE)).await.unwrap();
    for (name, mode) in [("", 0o700), ("copepod.redb", 0o600), ("lock", 0o600)] {
        let found = fs::metadata(root.path().join(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    state.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let root = tempfile::tempdir().unwrap();
    let (state, _) = State::open(&root.path().join(FILE)).await.unwrap();
    let other = state.clone();
    state.close().await;
    assert!(matches!(other.commit(vec![]).await, Err(StateError::Closed)));
}

#[tokio::test]
async fn a_damaged_file_is_named_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("copepod.redb");
    for content in [
        b"this was never a database, it is a text file".to_vec(),
        vec![0_u8; 8192],
    ] {
        fs::write(&file, content).unwrap();
        let error = State::open(&root.path().join(FILE)).await.unwrap_err().to_string();
        assert!(
            error.contains("copepod.redb is damaged") && error.contains("move it away"),
            "{error}"
        );
    }
}

/// The file is cut short, and single bytes of it are turned over, at many places: opening never ends the process, and
/// what is served is what was written.
#[tokio::test]
async fn a_file_with_turned_bytes_gives_an_error_or_the_truth() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("copepod.redb");
    let (state, _) = State::open(&root.path().join(FILE)).await.unwrap();
    let pods: Vec<_> = "0123456789abcdef".chars().map(pod).collect();
    let changes = pods.iter().map(|pod| Change::PutPod(Box::new(pod.clone()))).collect();
    state.commit(changes).await.unwrap();
    state.close().await;
    let good = fs::read(&file).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for step in 0..120 {
        let mut bad = good.clone();
        if step % 10 == 0 {
            bad.truncate(used * step / 120);
        } else {
            bad[used * step / 120] ^= 0x41;
        }
        fs::write(&file, &bad).unwrap();
        match State::open(&root.path().join(FILE)).await {
            Ok((state, recorded)) => {
                assert!(
                    recorded.pods.is_empty() && bad.is_empty() || recorded.pods == pods,
                    "at step {step}"
                );
                state.close().await;
            }
            Err(error) => {
                assert!(error.to_string().contains("copepod.redb"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "only {refused} of 120 noticed");
}

#[tokio::test]
async fn commits_that_wait_together_share_a_transaction() {
    let root = tempfile::tempdir().unwrap();
    let (state, _) = State::open(&root.path().join(FILE)).await.unwrap();
    let one = Instant::now();
    for digit in "0123456789abcdef".chars() {
        state.commit(vec![Change::PutLayer(layer(digit))]).await.unwrap();
    }
    let alone = one.elapsed();
    let many = Instant::now();
    let together: Vec<_> = (0..64)
        .map(|_| {
            let state = state.clone();
            tokio::spawn(async move { state.commit(vec![Change::PutLayer(layer('a'))]).await })
        })
        .collect();
    for commit in together {
        commit.await.unwrap().unwrap();
    }
    println!("16 alone: {alone:?}, 64 together: {:?}", many.elapsed());
    // Four times as many take no longer than those did: they were not synced one by one. Generous, since CI is slow.
    assert!(many.elapsed() < alone * 4 + Duration::from_millis(50));
    state.close().await;
}

/// A tmpfs of 4 MiB that goes away with the value.
struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgotten_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("small", dir.path(), "tmpfs", flags, c"size=4m").unwrap();
    let disk = SmallDisk(dir);
    let root = disk.0.path().join("root");
    let (state, _) = State::open(&root.join(FILE)).await.unwrap();
    state.health().await.unwrap();
    let mut error = None;
    for number in 0..40 {
        let mut big = image('c');
        big.manifest_json = vec![b' '; 200_000];
        big.id = format!("sha256:{number:064x}").parse().unwrap();
        if let Err(failed) = state.commit(vec![Change::PutImage(Box::new(big))]).await {
            error = Some(failed.to_string());
            break;
        }
    }
    let error = error.unwrap();
    assert!(
        error.contains(root.to_str().unwrap()) && error.contains("rmi"),
        "{error}"
    );
    assert_eq!(state.health().await.unwrap_err().reason, "DiskFull");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount_remount(disk.0.path(), flags, c"size=64m").unwrap();
    state.health().await.unwrap();
    state.close().await;
}
