//! Execs through `copepod.shim.v1.Shim` and the second socket.

#[path = "support/shim.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code, shared by several binaries none of which uses all of it"
)]
mod support;

use support::{Setup, Shim, alive, children, open_fds, possible, status, until};

#[tokio::test]
async fn an_exec_gives_its_streams_and_its_status() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 60")).await;
    let (code, out, err) = shim
        .exec_sync("a", &["/bin/sh", "-c", "echo out; echo err >&2; exit 5"])
        .await;
    assert_eq!((code, out.as_str(), err.as_str()), (5, "out\n", "err\n"));
    // A late asker still hears it; streams go to one client only.
    assert_eq!(shim.wait_exec("a").await.unwrap(), 5);
    assert!(shim.fetch("a").0.starts_with("error: "), "{:?}", shim.fetch("a"));
    assert!(shim.fetch("never").0.starts_with("error: exec never is not known"));
    assert!(shim.exec("a", &["/bin/true"]).await.is_err(), "the id is in use");
}

#[tokio::test]
async fn what_cannot_be_executed_is_an_error_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 60")).await;
    let error = shim.exec("a", &["/bin/no-such-program"]).await.unwrap_err().to_string();
    assert!(
        error.contains("no-such-program") || error.contains("No such file"),
        "{error}"
    );
    assert!(shim.wait_exec("a").await.is_err());
    until("it is reaped", || children(shim.pid()).len() == 2).await;
}

#[tokio::test]
async fn a_thousand_execs_leave_no_descriptor_and_no_zombie() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 300")).await;
    shim.exec_sync("warm", &["/bin/true"]).await;
    let before = open_fds(shim.pid());
    for n in 0..1000 {
        let (code, out, _) = shim.exec_sync(&n.to_string(), &["/bin/echo", "x"]).await;
        assert_eq!((code, out.as_str()), (0, "x\n"));
    }
    assert_eq!(status(shim.pid(), "Threads"), "1");
    // What is remembered of ended execs holds one pidfd each.
    until("descriptors are back", || open_fds(shim.pid()) <= before + 70).await;
    until("zombies are gone", || children(shim.pid()).len() == 2).await;
}

#[tokio::test]
async fn killing_an_exec_kills_what_it_started() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 300")).await;
    shim.exec(
        "a",
        &[
            "/bin/sh",
            "-c",
            "setsid sleep 4321 & setsid sleep 4321 & echo up; sleep 4321",
        ],
    )
    .await
    .unwrap();
    let (_, fds) = shim.fetch("a");
    let mut up = [0; 3];
    rustix::io::read(&fds[0], &mut up).unwrap();
    let sleepers = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let of_ours = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
                let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
                of_ours.is_ok_and(|text| text.contains(&shim.id)) && line.is_ok_and(|text| text.contains("4321"))
            })
            .count()
    };
    until("the daemons run", || sleepers() >= 3).await;
    let waiting = shim.wait_exec("a");
    shim.kill_exec("a").await.unwrap();
    assert_eq!(sleepers(), 0);
    drop(waiting);
    assert!(alive(shim.init), "the container lives on");
    assert!(shim.kill_exec("a").await.is_err(), "it is forgotten");
}

#[tokio::test]
async fn execs_end_with_their_container() {
    if !possible() {
        return;
    }
    let shim = Shim::run(Setup::sh("sleep 300")).await;
    let exec = shim.exec("a", &["/bin/sleep", "300"]).await.unwrap();
    let (_, fds) = shim.fetch("a");
    shim.kill(9).await;
    assert_eq!(shim.wait().await, 137);
    assert_eq!(shim.wait_exec("a").await.unwrap(), 137);
    assert!(!alive(exec));
    drop(fds);
    assert!(
        shim.exec("b", &["/bin/true"])
            .await
            .unwrap_err()
            .to_string()
            .contains("container is stopped")
    );
    shim.delete().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_execs_is_served() {
    if !possible() {
        return;
    }
    let shim = std::sync::Arc::new(Shim::run(Setup::sh("sleep 300")).await);
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let shim = std::sync::Arc::clone(&shim);
            tokio::spawn(async move {
                shim.exec(&format!("p{n}"), &["/bin/sh", "-c", "exit 9"]).await.unwrap();
                shim.wait_exec(&format!("p{n}")).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 9);
    }
}
