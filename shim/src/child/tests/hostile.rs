//! Images that attack: named after the published vulnerabilities whose class they belong to.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use serde_json::json;

use super::support::{Sandbox, alone_in};
use crate::child::host::Host;

fn alone(name: &str, body: impl FnOnce()) {
    alone_in("child::tests::hostile", name, body);
}

fn refusal(sandbox: &Sandbox) -> String {
    match sandbox.try_start() {
        Err(error) => error,
        Ok(running) => panic!("it started and said {:?}", running.wait()),
    }
}

#[test]
fn cve_2024_21626_a_working_directory_is_never_outside() {
    alone("cve_2024_21626_a_working_directory_is_never_outside", || {
        let mut sandbox = Sandbox::new();
        symlink("/proc/self/fd", sandbox.lower().join("fds")).unwrap();
        sandbox.spec["process"]["args"] = json!(["true"]);
        for number in (0..64).chain([255, 1023]) {
            for base in ["/proc/self/fd", "/fds"] {
                let cwd = format!("{base}/{number}");
                sandbox.spec["process"]["cwd"] = json!(cwd);
                let error = refusal(&sandbox);
                assert!(error.contains(&cwd), "{error}");
            }
        }
        sandbox.spec["process"]["cwd"] = json!("/");
        let mut running = sandbox.start("sleep 30");
        for number in 0..64 {
            let mut process = sandbox.process("pwd");
            process.cwd = format!("/proc/self/fd/{number}");
            let error = running.exec(&process).unwrap_err();
            assert!(error.contains("working directory /proc/self/fd/"), "{error}");
        }
        // FDSCAN: nothing but its own streams, and what ls itself opens.
        assert_eq!(
            running.exec(&sandbox.process("exec ls /proc/self/fd")).unwrap().stdout,
            "0\n1\n2\n3\n"
        );
        running.kill();
    });
}

#[test]
fn cve_2019_5736_the_binary_cannot_be_written_from_inside() {
    alone("cve_2019_5736_the_binary_cannot_be_written_from_inside", || {
        let mut sandbox = Sandbox::new();
        sandbox.capabilities(&["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
        sandbox.spec["annotations"] = json!({"dev.copepod.init": "pause"});
        let (source, binary) = (sandbox.directory.path().join("p.c"), sandbox.directory.path().join("p"));
        std::fs::write(&source, "#include <unistd.h>\nint main(void) { for (;;) pause(); }").unwrap();
        let made = Command::new("gcc")
            .arg("-static")
            .arg("-o")
            .args([&binary, &source])
            .status()
            .unwrap();
        assert!(made.success());
        sandbox.host = Rc::new(Host::with_binary(&binary));
        let before = std::fs::read(&binary).unwrap();
        let mut running = sandbox.start("ignored");
        let script = "head -c 4 /proc/1/exe | tail -c 3; ( : >> /proc/1/exe ) 2>&1; ( : > /proc/1/exe ) 2>&1; \
                      mount -o remount,rw /proc/1/exe 2>&1 | wc -l";
        let outcome = running.exec(&sandbox.process(script)).unwrap();
        assert!(outcome.stdout.starts_with("ELF"), "{outcome:?}");
        let refused = |text| outcome.stdout.matches(text).count();
        assert_eq!(
            refused("Read-only file system") + refused("Text file busy"),
            2,
            "{outcome:?}"
        );
        assert!(refused("Read-only file system") > 0, "{outcome:?}");
        running.kill();
        assert_eq!(std::fs::read(&binary).unwrap(), before);
    });
}

#[test]
fn cve_2019_19921_a_linked_base_directory_is_refused() {
    alone("cve_2019_19921_a_linked_base_directory_is_refused", || {
        for base in ["proc", "sys", "dev"] {
            for target in ["/elsewhere", "elsewhere", "../../../elsewhere"] {
                let sandbox = Sandbox::new();
                std::fs::create_dir(sandbox.lower().join("elsewhere")).unwrap();
                symlink(target, sandbox.lower().join(base)).unwrap();
                let error = refusal(&sandbox);
                assert_eq!(
                    error,
                    format!("/{base} is a symbolic link in the image; it must be a directory")
                );
            }
        }
    });
}

#[test]
fn cve_2019_16884_nothing_is_mounted_into_procfs() {
    alone("cve_2019_16884_nothing_is_mounted_into_procfs", || {
        for destination in ["/proc", "/proc/self", "/proc/./sys/kernel", "/link/attr"] {
            let mut sandbox = Sandbox::new();
            symlink("/proc/self", sandbox.lower().join("link")).unwrap();
            let volume = sandbox.volume("fake");
            sandbox.mount(json!({"destination": destination, "type": "bind", "source": volume, "options": ["rbind"]}));
            let error = refusal(&sandbox);
            let expected = [
                "would replace part of /proc",
                "leads into procfs",
                "wrong kind of filesystem",
            ];
            assert!(
                expected.iter().any(|expected| error.contains(expected)),
                "{destination}: {error}"
            );
        }
    });
}

#[test]
fn cve_2025_31133_masks_are_the_hosts_null_whatever_the_image_has() {
    alone("cve_2025_31133_masks_are_the_hosts_null_whatever_the_image_has", || {
        // Without a /dev mount the image's own /dev is used.
        let without_dev = |sandbox: &mut Sandbox| {
            let mounts = sandbox.spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            sandbox.spec["linux"]["maskedPaths"] = json!(["/proc/version", "/proc/uptime"]);
        };
        for kind in ["link", "file", "directory"] {
            let mut sandbox = Sandbox::new();
            without_dev(&mut sandbox);
            let canary = sandbox.directory.path().join("canary");
            std::fs::write(&canary, "alive").unwrap();
            std::fs::create_dir(sandbox.lower().join("dev")).unwrap();
            let null = sandbox.lower().join("dev/null");
            match kind {
                "link" => symlink("/proc/sys/kernel/core_pattern", &null).unwrap(),
                "file" => std::fs::write(&null, "x").unwrap(),
                _ => std::fs::create_dir(&null).unwrap(),
            }
            let error = refusal(&sandbox);
            assert_eq!(error, "device /dev/null exists in the image and is something else");
        }
        let mut sandbox = Sandbox::new();
        without_dev(&mut sandbox);
        let outcome = sandbox.run("stat -c %t:%T /proc/version /proc/uptime");
        assert_eq!(outcome.stdout, "1:3\n1:3\n", "{}", outcome.stderr);
    });
}

#[test]
fn cve_2019_18837_links_in_front_of_a_mount_point_stay_inside() {
    alone("cve_2019_18837_links_in_front_of_a_mount_point_stay_inside", || {
        let mut sandbox = Sandbox::new();
        let volume = sandbox.volume("data");
        std::fs::write(volume.join("file"), "volume").unwrap();
        let outside = sandbox.volume("outside");
        let host = outside.to_str().unwrap().to_owned();
        symlink(&host, sandbox.lower().join("escape")).unwrap();
        symlink("../../../../../run", sandbox.lower().join("var")).unwrap();
        symlink("/loop2", sandbox.lower().join("loop1")).unwrap();
        symlink("/loop1", sandbox.lower().join("loop2")).unwrap();
        for destination in ["/escape/in", "/var/run/secrets"] {
            let mount = json!({"destination": destination, "type": "bind", "source": volume, "options": ["rbind"]});
            sandbox.mount(mount);
        }
        let outcome = sandbox.run("cat /escape/in/file /var/run/secrets/file /run/run/secrets/file; realpath /escape");
        assert_eq!(
            outcome.stdout,
            format!("volumevolumevolume{host}\n"),
            "{}",
            outcome.stderr
        );
        assert_eq!(
            std::fs::read_dir(&outside).unwrap().count(),
            0,
            "something was made on the host"
        );
        sandbox.mount(json!({"destination": "/loop1/x", "type": "tmpfs", "source": "t", "options": []}));
        assert!(refusal(&sandbox).contains("make mount point /loop1/x"));
    });
}

#[test]
fn cve_2025_52565_a_console_is_never_the_images() {
    alone("cve_2025_52565_a_console_is_never_the_images", || {
        let mut sandbox = Sandbox::new();
        sandbox.spec["process"]["terminal"] = json!(true);
        let mounts = sandbox.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev");
        // cve_2026_88264: no fresh /dev.
        let error = refusal(&sandbox);
        assert!(
            error.contains("process.terminal needs a devpts mount on /dev/pts and a mount on /dev"),
            "{error}"
        );
    });
}

#[test]
fn cve_2024_40635_the_reserved_id_is_not_root() {
    alone("cve_2024_40635_the_reserved_id_is_not_root", || {
        let mut sandbox = Sandbox::new();
        for user in [
            json!({"uid": u32::MAX}),
            json!({"gid": u32::MAX}),
            json!({"additionalGids": [u32::MAX]}),
        ] {
            sandbox.spec["process"]["user"] = user;
            assert!(refusal(&sandbox).contains("id 4294967295 is reserved"));
        }
        for user in [json!({"uid": -1}), json!({"uid": 1_u64 << 32}), json!({"uid": "0x0"})] {
            sandbox.spec["process"]["user"] = user;
            assert!(!refusal(&sandbox).is_empty());
        }
    });
}

#[test]
fn cve_2026_47262_a_passwd_file_cannot_hang_or_fill_us() {
    alone("cve_2026_47262_a_passwd_file_cannot_hang_or_fill_us", || {
        let mut sandbox = Sandbox::new();
        let passwd = sandbox.lower().join("etc/passwd");
        let home = |sandbox: &mut Sandbox| sandbox.run("echo $HOME").stdout;
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        assert_eq!(home(&mut sandbox), "/\n");
        std::fs::remove_file(&passwd).unwrap();
        symlink("/dev/zero", &passwd).unwrap();
        assert_eq!(home(&mut sandbox), "/\n");
        std::fs::remove_file(&passwd).unwrap();
        std::fs::write(&passwd, "x".repeat(2 << 20) + "\nroot:x:0:0::/late:\n").unwrap();
        assert_eq!(home(&mut sandbox), "/\n");
    });
}

#[test]
fn the_canary_of_the_hosts_ptmx_lives() {
    alone("the_canary_of_the_hosts_ptmx_lives", || {
        // cve_2026_41579, cve_2026_47766: a linked /dev must not lead link and node making to the host.
        let sandbox = Sandbox::new();
        let outside = sandbox.volume("host-dev");
        std::fs::write(outside.join("ptmx"), "alive").unwrap();
        symlink(&outside, sandbox.lower().join("dev")).unwrap();
        let mut sandbox = sandbox;
        sandbox.spec["mounts"] = json!([]);
        assert!(refusal(&sandbox).contains("/dev is a symbolic link"));
        assert_eq!(std::fs::read_to_string(outside.join("ptmx")).unwrap(), "alive");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert!(Path::new("/dev/ptmx").exists());
    });
}
