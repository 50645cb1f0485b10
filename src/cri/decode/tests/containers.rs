use super::*;

#[test]
fn q4_log_paths_stay_below_their_directory() {
    for bad in [
        "/var/log/x",
        "../x",
        "a/../../x",
        "a\nb",
        "a\0",
        &"x/".repeat(3000),
        &"y".repeat(300),
    ] {
        invalid_field(
            container_with(|config| config.log_path = bad.to_owned()),
            "config.log_path",
        );
    }
    for bad in [
        "var/log",
        "/var/../etc",
        "/var/log\n",
        &format!("/{}", "x/".repeat(3000)),
    ] {
        invalid_field(
            pod_with(|config| config.log_directory = bad.to_owned()),
            "config.log_directory",
        );
    }
    let spec = container_with(|config| config.log_path = "main/0.log".into()).unwrap();
    assert_eq!(spec.log_path.unwrap().to_str(), Some("main/0.log"));
}

fn mount(change: impl FnOnce(&mut wire::Mount)) -> Result<ContainerSpec, Failure> {
    let mut mount = wire::Mount {
        container_path: "/data".into(),
        host_path: "/srv".into(),
        ..Default::default()
    };
    change(&mut mount);
    container_with(|config| config.mounts = vec![mount])
}

#[test]
fn q7_mounts_are_absolute_and_do_not_climb() {
    for bad in [
        "",
        "data",
        "/data/../etc",
        "/",
        "//",
        "/./",
        "/proc/self",
        "/proc/sys/kernel",
        "/proc//stat/x",
        "/a\n",
    ] {
        invalid_field(
            mount(|mount| mount.container_path = bad.into()),
            "config.mounts[0].container_path",
        );
    }
    for bad in ["", "srv", "/srv/../etc", "/srv\0"] {
        invalid_field(
            mount(|mount| mount.host_path = bad.into()),
            "config.mounts[0].host_path",
        );
    }
    for good in [
        "/proc",
        "/proc/meminfo",
        "/proc//cpuinfo",
        "/procedure",
        "/etc/hosts",
        "/dev/termination-log",
    ] {
        assert!(mount(|mount| mount.container_path = good.into()).is_ok(), "{good}");
    }
    invalid_field(mount(|mount| mount.propagation = 3), "propagation");
}

#[test]
fn q7_what_mounts_cannot_do_yet_is_named() {
    let unsupported = |result, word| refused(result, Kind::Unimplemented, word);
    unsupported(mount(|mount| mount.image = Some(Default::default())), "image volumes");
    unsupported(mount(|mount| mount.image_sub_path = "x".into()), "image volumes");
    unsupported(
        mount(|mount| mount.uid_mappings = vec![Default::default()]),
        "id-mapped",
    );
    unsupported(
        mount(|mount| mount.gid_mappings = vec![Default::default()]),
        "id-mapped",
    );
    unsupported(mount(|mount| mount.mount_options = vec!["noexec".into()]), "noexec");
}

#[test]
fn recursive_read_only_needs_read_only_and_private() {
    let recursive = |readonly, propagation| {
        mount(|mount| {
            (mount.recursive_read_only, mount.readonly, mount.propagation) = (true, readonly, propagation);
        })
    };
    assert_eq!(recursive(true, 0).unwrap().mounts[0].access, Access::ReadOnlyTree);
    invalid_field(recursive(false, 0), "recursive_read_only");
    invalid_field(recursive(true, 1), "recursive_read_only");
}

#[test]
fn mounts_keep_order_and_spelling() {
    let spec = mount(|mount| {
        (mount.host_path, mount.container_path) = ("/srv//x/./".into(), "/data/".into());
        (mount.readonly, mount.propagation, mount.selinux_relabel) = (true, 2, true);
    });
    let mount = &spec.unwrap().mounts[0];
    assert_eq!(
        (mount.host_path.to_str(), mount.container_path.as_str()),
        (Some("/srv//x/./"), "/data/")
    );
    assert_eq!(
        (mount.access, mount.propagation),
        (Access::ReadOnly, Propagation::Bidirectional)
    );
}

fn device(host: &str, container: &str, permissions: &str) -> Result<ContainerSpec, Failure> {
    let device = wire::Device {
        host_path: host.into(),
        container_path: container.into(),
        permissions: permissions.into(),
    };
    container_with(|config| config.devices = vec![device])
}

#[test]
fn q8_devices() {
    for (host, container, permissions, field) in [
        ("dev/fuse", "/dev/fuse", "rw", "host_path"),
        ("/dev/../etc", "/dev/fuse", "rw", "host_path"),
        ("/dev/fuse", "", "rw", "container_path"),
        ("/dev/fuse", "/dev/../x", "rw", "container_path"),
        ("/dev/fuse", "/dev/null", "rw", "container_path"),
        ("/dev/fuse", "/proc/kcore", "rw", "container_path"),
        ("/dev/fuse", "/dev/fuse", "", "permissions"),
        ("/dev/fuse", "/dev/fuse", "rwmx", "permissions"),
        ("/dev/fuse", "/dev/fuse", "rr", "permissions"),
    ] {
        invalid_field(device(host, container, permissions), field);
    }
    assert_eq!(device("/dev/fuse", "/dev/fuse", "mr").unwrap().devices.len(), 1);
    assert!(device("/dev/null", "/dev/null", "rwm").is_ok());
    let named = vec![wire::CdiDevice {
        name: "vendor.com/gpu=0".into(),
    }];
    refused(
        container_with(|config| config.cdi_devices = named),
        Kind::Unimplemented,
        "CDI",
    );
    let annotation = BTreeMap::from([("cdi.k8s.io/x".to_owned(), "vendor.com/gpu=0".to_owned())]);
    refused(
        container_with(|config| config.annotations = annotation),
        Kind::Unimplemented,
        "CDI",
    );
}

#[test]
fn cve_2022_4318_cve_2026_15809_home_is_one_line() {
    let env = |key: &str, value: &[u8]| {
        let variable = wire::KeyValue {
            key: key.into(),
            value: value.to_vec(),
        };
        container_with(|config| config.envs = vec![variable])
    };
    for bad in ["/x\nroot2::0:0::/:/bin/sh", "/x\rroot2", "/x\r\ny", "/\x1b[2J"] {
        invalid_field(env("HOME", bad.as_bytes()), "config.envs");
    }
    for (key, value) in [("", ""), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
        invalid_field(env(key, value.as_bytes()), "config.envs");
    }
    let spec = env("MULTI", b"two\nlines").unwrap();
    assert_eq!(spec.envs[0].1, b"two\nlines");
}

#[test]
fn windows_parts_are_refused() {
    invalid_field(
        pod_with(|config| config.windows = Some(Default::default())),
        "config.windows",
    );
    invalid_field(
        container_with(|config| config.windows = Some(Default::default())),
        "config.windows",
    );
}

#[test]
fn a_stop_signal_is_the_linux_number() {
    let spec = container_with(|config| config.stop_signal = wire::Signal::Sigterm.into()).unwrap();
    assert_eq!(spec.stop_signal, Some(Signal::TERM));
}
