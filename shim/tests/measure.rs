//! Measures a shim; prints, asserts nothing but the memory goal. Run it with the binary that ships:
//! `COPEPOD_SHIM=target/x86_64-unknown-linux-musl/shim/containerd-shim-copepod-v1 cargo test -p copepod-shim --test measure -- --ignored --nocapture`

#[path = "support/shim.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code, shared by several binaries none of which uses all of it"
)]
mod support;

use std::time::{Duration, Instant};

use support::{Setup, Shim, possible};

const COPIES: usize = 10;
const EXECS: usize = 300;

fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!("median {:?}, p90 {:?}", at(50), at(90))
}

#[allow(clippy::unwrap_used, reason = "test code")]
/// kB of a process: (Pss, Rss, Private_Dirty).
fn memory(pid: i32) -> [u64; 3] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    ["Pss:", "Rss:", "Private_Dirty:"].map(|key| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    })
}

#[tokio::test]
#[ignore = "a measurement, of a release build"]
async fn numbers() {
    if !possible() {
        return;
    }
    let [mut spawns, mut creates, mut starts, mut execs, mut kills] = [const { Vec::new() }; 5];
    let mut shims = Vec::new();
    for _ in 0..COPIES {
        let begun = Instant::now();
        let mut shim = Shim::spawn(&Setup::sh("exec sleep 600"));
        spawns.push(begun.elapsed());
        let begun = Instant::now();
        shim.init = shim.try_create().await.unwrap();
        creates.push(begun.elapsed());
        let begun = Instant::now();
        shim.start().await.unwrap();
        starts.push(begun.elapsed());
        shims.push(shim);
    }
    for n in 0..EXECS {
        let begun = Instant::now();
        let (code, ..) = shims[0].exec_sync(&n.to_string(), &["/bin/true"]).await;
        execs.push(begun.elapsed());
        assert_eq!(code, 0);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut sums = [0; 3];
    for (n, shim) in shims.iter().enumerate() {
        let (own, writer) = (memory(shim.pid()), memory(shim.writer()));
        println!("shim {n} [Pss, Rss, Private_Dirty] kB: {own:?}, log writer {writer:?}");
        for (sum, value) in sums.iter_mut().zip(own.iter().zip(writer).map(|(a, b)| a + b)) {
            *sum += value;
        }
    }
    let pairs = u64::try_from(COPIES).unwrap();
    println!(
        "a pair, mean of {COPIES}, kB [Pss, Rss, Private_Dirty]: {:?}",
        sums.map(|sum| sum / pairs)
    );
    for shim in &shims {
        let begun = Instant::now();
        shim.kill(9).await;
        shim.wait().await;
        kills.push(begun.elapsed());
    }
    for (what, times) in [
        ("bundle, rootfs and serve", spawns),
        ("Create", creates),
        ("Start", starts),
        ("Exec to status", execs),
        ("Kill to Wait", kills),
    ] {
        println!("{what}: {}", median(times));
    }
    assert!(sums[0] / pairs <= 300, "PSS of a shim and its log writer");
}
