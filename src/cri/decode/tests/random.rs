use super::*;

/// Limits, all set.
fn limits(text: &str, number: i64) -> wire::LinuxContainerResources {
    let text = || text.to_owned();
    let map = || BTreeMap::from([(text(), text())]);
    wire::LinuxContainerResources {
        cpu_period: number,
        cpu_quota: number,
        cpu_shares: number,
        memory_limit_in_bytes: number,
        oom_score_adj: number,
        cpuset_cpus: text(),
        cpuset_mems: text(),
        hugepage_limits: vec![wire::HugepageLimit {
            page_size: text(),
            limit: number.unsigned_abs(),
        }],
        unified: map(),
        memory_swap_limit_in_bytes: number,
    }
}

/// A request in which every field is set, texts and numbers as given.
fn full(raw: &str, number: i64) -> wire::CreateContainerRequest {
    let narrow = i32::try_from(number % 100_000).unwrap_or_default();
    let text = || raw.to_owned();
    let words = || vec![text(), text()];
    let map = || BTreeMap::from([(text(), text())]);
    let ids = || {
        vec![wire::IdMapping {
            host_id: 1,
            container_id: 0,
            length: 1,
        }]
    };
    let options = wire::NamespaceOption {
        network: narrow,
        pid: narrow,
        ipc: narrow,
        target_id: text(),
        userns_options: Some(wire::UserNamespace {
            mode: narrow,
            uids: ids(),
            gids: ids(),
        }),
    };
    let limits = limits(raw, number);
    let image = wire::ImageSpec {
        image: text(),
        annotations: map(),
        image_ref: text(),
        ..Default::default()
    };
    let mount = wire::Mount {
        container_path: text(),
        host_path: text(),
        propagation: narrow,
        uid_mappings: ids(),
        image: Some(image.clone()),
        image_sub_path: text(),
        mount_options: words(),
        ..Default::default()
    };
    let context = full_context(raw, number, options.clone());
    let config = wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata {
            name: text(),
            attempt: 1,
        }),
        image: Some(image),
        command: words(),
        args: words(),
        working_dir: text(),
        envs: vec![wire::KeyValue {
            key: text(),
            value: text().into_bytes(),
        }],
        mounts: vec![mount],
        devices: vec![wire::Device {
            container_path: text(),
            host_path: text(),
            permissions: text(),
        }],
        labels: map(),
        annotations: map(),
        log_path: text(),
        linux: Some(wire::LinuxContainerConfig {
            resources: Some(limits.clone()),
            security_context: Some(context),
        }),
        stop_signal: narrow,
        ..Default::default()
    };
    let pod = full_pod(raw, number, options, limits);
    wire::CreateContainerRequest {
        pod_sandbox_id: text(),
        config: Some(config),
        sandbox_config: Some(pod),
    }
}

/// A container's security likewise.
fn full_context(text: &str, number: i64, options: wire::NamespaceOption) -> wire::LinuxContainerSecurityContext {
    let narrow = i32::try_from(number % 100_000).unwrap_or_default();
    let text = || text.to_owned();
    let words = || vec![text(), text()];
    let wrapped = || Some(wire::Int64Value { value: number });
    let profile = || {
        Some(wire::SecurityProfile {
            profile_type: narrow,
            localhost_ref: text(),
        })
    };
    wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: words(),
            drop_capabilities: words(),
            add_ambient_capabilities: words(),
        }),
        namespace_options: Some(options),
        run_as_user: wrapped(),
        run_as_username: text(),
        supplemental_groups: vec![number],
        run_as_group: wrapped(),
        masked_paths: words(),
        readonly_paths: words(),
        seccomp: profile(),
        apparmor: profile(),
        supplemental_groups_policy: narrow,
        ..Default::default()
    }
}

/// A pod's configuration likewise.
fn full_pod(
    text: &str,
    number: i64,
    options: wire::NamespaceOption,
    limits: wire::LinuxContainerResources,
) -> wire::PodSandboxConfig {
    let narrow = i32::try_from(number % 100_000).unwrap_or_default();
    let text = || text.to_owned();
    let words = || vec![text(), text()];
    let map = || BTreeMap::from([(text(), text())]);
    let wrapped = || Some(wire::Int64Value { value: number });
    let profile = || {
        Some(wire::SecurityProfile {
            profile_type: narrow,
            localhost_ref: text(),
        })
    };
    let pod_context = wire::LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        run_as_user: wrapped(),
        supplemental_groups: vec![number],
        run_as_group: wrapped(),
        seccomp: profile(),
        apparmor: profile(),
        ..Default::default()
    };
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: text(),
            uid: text(),
            namespace: text(),
            attempt: 1,
        }),
        hostname: text(),
        log_directory: text(),
        dns_config: Some(wire::DnsConfig {
            servers: words(),
            searches: words(),
            options: words(),
        }),
        port_mappings: vec![wire::PortMapping {
            protocol: narrow,
            container_port: narrow,
            host_port: narrow,
            host_ip: text(),
        }],
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: text(),
            security_context: Some(pod_context),
            sysctls: map(),
            overhead: Some(limits.clone()),
            resources: Some(limits),
        }),
        ..Default::default()
    }
}

/// Every decoder, on the request as a whole and on its parts: nothing may panic, and refusals stay short.
fn decode_everything(request: wire::CreateContainerRequest) {
    let mut failures = Vec::new();
    if let Some(config) = &request.config {
        failures.extend(text::labels("l", config.labels.clone()).err());
        failures.extend(text::words("w", config.args.clone()).err());
        failures.extend(mount::decode("m", config.mounts.clone()).err());
        failures.extend(device::decode("d", config.devices.clone()).err());
        failures.extend(image::named(config.image.clone()).err());
        let linux = config.linux.clone().unwrap_or_default();
        failures.extend(resources::decode("r", linux.resources).err());
        failures.extend(security::container("s", linux.security_context).err());
    }
    if let Some(config) = &request.sandbox_config {
        let linux = config.linux.clone().unwrap_or_default();
        failures.extend(path::cgroup("c", linux.cgroup_parent).err());
        failures.extend(security::pod("s", linux.security_context).err());
        failures.extend(network::dns("d", config.dns_config.clone()).err());
        failures.extend(network::ports("p", config.port_mappings.clone()).err());
        failures.extend(run(config.clone()).err());
    }
    failures.extend(id::required("i", request.pod_sandbox_id.clone()).err());
    failures.extend(container::create(request).err());
    for failure in failures {
        let text = failure.chain();
        assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_text_or_number_makes_a_decoder_panic(text in "(?s).{0,300}", number: i64) {
        decode_everything(full(&text, number));
    }

    #[test]
    fn no_plausible_text_makes_a_decoder_panic(text in "[-a-z0-9./:,=+@ ]{0,40}", number in -3_i64..4) {
        decode_everything(full(&text, number));
    }

    #[test]
    fn no_damaged_message_makes_a_decoder_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = full("/a", 1).encode_to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(request) = wire::CreateContainerRequest::decode(bytes.as_slice()) {
            decode_everything(request);
        }
    }
}
