//! How long it takes; to be run by hand: `cargo test -p copepod-shim speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use nix::sys::resource::UsageWho;
use serde_json::json;

use super::support::{Sandbox, alone_in};

/// Processor time of this process and its reaped children: what a busy machine does not change much.
fn processor() -> Duration {
    let spent = |who| {
        let usage = nix::sys::resource::getrusage(who).unwrap();
        let of = |time: nix::sys::time::TimeVal| {
            Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap())
        };
        of(usage.user_time()) + of(usage.system_time())
    };
    spent(UsageWho::RUSAGE_SELF) + spent(UsageWho::RUSAGE_CHILDREN)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement, not a test"]
fn create_start_and_exec() {
    alone_in("child::tests::speed", "create_start_and_exec", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["linux"]["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/sys/firmware",
            "/proc/interrupts"
        ]);
        sandbox.spec["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]);
        // The pod's namespaces exist already.
        sandbox.spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "cgroup"}]);
        sandbox.spec["hostname"] = json!("");
        sandbox.spec["process"]["args"] = json!(["sleep", "60"]);
        let mut both = Vec::new();
        let before = processor();
        for _ in 0..100 {
            let begin = Instant::now();
            let mut running = sandbox.try_start().unwrap();
            both.push(begin.elapsed());
            running.kill();
        }
        let creating = (processor() - before) / 100;
        let mut running = sandbox.try_start().unwrap();
        let process = sandbox.process("");
        let process = crate::plan::spec::Process {
            args: vec!["true".to_owned()],
            ..process
        };
        let mut execs = Vec::new();
        let before = processor();
        for _ in 0..300 {
            let begin = Instant::now();
            running.exec(&process).unwrap();
            execs.push(begin.elapsed());
        }
        let executing = (processor() - before) / 300;
        running.kill();
        let before = processor();
        let floor = (0..300).map(|_| {
            let begin = Instant::now();
            std::process::Command::new("/bin/busybox").arg("true").status().unwrap();
            begin.elapsed()
        });
        let floor = median(floor.collect());
        let forking = (processor() - before) / 300;
        let (both, execs) = (median(both), median(execs));
        println!(
            "measured create+start {both:?}, exec {execs:?}, fork+exec {floor:?}; processor time {creating:?}, {executing:?}, {forking:?}"
        );
    });
}
