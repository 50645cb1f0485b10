//! Security contexts: identity, privilege and confinement of pods and containers (contract §5.4, §6.1–6.3).

use copepod_proto::cri as wire;

use super::identity::{self, Request};
use super::namespace::{self, Subject};
use super::{invalid, path, profile, quoted};
use crate::domain::error::Failure;
use crate::domain::pod::Namespaces;
use crate::domain::security::{CapabilityChanges, Identity, PodSecurity, Privilege, Security};

/// Of a pod; a missing message means an ordinary one.
///
/// # Errors
/// Names the field.
#[allow(deprecated, reason = "older clients fill the string fields only")]
pub(super) fn pod(
    field: &str,
    message: Option<wire::LinuxSandboxSecurityContext>,
) -> Result<(Namespaces, PodSecurity), Failure> {
    let wire::LinuxSandboxSecurityContext {
        namespace_options,
        selinux_options,
        run_as_user,
        readonly_rootfs,
        supplemental_groups,
        privileged,
        seccomp_profile_path,
        run_as_group,
        seccomp,
        apparmor,
        supplemental_groups_policy,
    } = message.unwrap_or_default();
    let who = Request {
        user: run_as_user,
        username: String::new(),
        group: run_as_group,
        supplemental_groups,
        groups_policy: supplemental_groups_policy,
    };
    let security = PodSecurity {
        privilege: privilege(privileged),
        identity: identity::decode(field, who)?,
        readonly_rootfs,
        seccomp: profile::seccomp(&format!("{field}.seccomp"), seccomp, seccomp_profile_path)?,
        apparmor: profile::apparmor(&format!("{field}.apparmor"), apparmor, String::new())?,
        selinux: profile::selinux(&format!("{field}.selinux_options"), selinux_options)?,
    };
    let namespaces = namespace::decode(&format!("{field}.namespace_options"), namespace_options, Subject::Pod)?;
    Ok((namespaces, security))
}

/// Of a container; a missing message means an ordinary one.
///
/// # Errors
/// Names the field.
#[allow(deprecated, reason = "older clients fill the string fields only")]
pub(super) fn container(
    field: &str,
    message: Option<wire::LinuxContainerSecurityContext>,
) -> Result<(Namespaces, Security, Identity), Failure> {
    let wire::LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_username,
        readonly_rootfs,
        supplemental_groups,
        apparmor_profile,
        seccomp_profile_path,
        no_new_privs,
        run_as_group,
        masked_paths,
        readonly_paths,
        seccomp,
        apparmor,
        supplemental_groups_policy,
    } = message.unwrap_or_default();
    let who = Request {
        user: run_as_user,
        username: run_as_username,
        group: run_as_group,
        supplemental_groups,
        groups_policy: supplemental_groups_policy,
    };
    let security = Security {
        privilege: privilege(privileged),
        capabilities: changes(&format!("{field}.capabilities"), capabilities)?,
        readonly_rootfs,
        no_new_privs,
        masked_paths: path::list(&format!("{field}.masked_paths"), masked_paths)?,
        readonly_paths: path::list(&format!("{field}.readonly_paths"), readonly_paths)?,
        seccomp: profile::seccomp(&format!("{field}.seccomp"), seccomp, seccomp_profile_path)?,
        apparmor: profile::apparmor(&format!("{field}.apparmor"), apparmor, apparmor_profile)?,
        selinux: profile::selinux(&format!("{field}.selinux_options"), selinux_options)?,
    };
    let namespaces = namespace::decode(
        &format!("{field}.namespace_options"),
        namespace_options,
        Subject::Container,
    )?;
    Ok((namespaces, security, identity::decode(field, who)?))
}

fn privilege(privileged: bool) -> Privilege {
    if privileged {
        Privilege::Privileged
    } else {
        Privilege::Ordinary
    }
}

fn changes(field: &str, message: Option<wire::Capability>) -> Result<CapabilityChanges, Failure> {
    let wire::Capability {
        add_capabilities,
        drop_capabilities,
        add_ambient_capabilities,
    } = message.unwrap_or_default();
    Ok(CapabilityChanges {
        add: names(field, add_capabilities)?,
        drop: names(field, drop_capabilities)?,
        add_ambient: names(field, add_ambient_capabilities)?,
    })
}

/// Upper case, without the `CAP_` that people write all the same: a `drop` must never be lost for its spelling.
/// Whether the kernel knows a name is seen where the set is made.
fn names(field: &str, names: Vec<String>) -> Result<Vec<String>, Failure> {
    const MOST: usize = 256;
    if names.len() > MOST {
        return Err(invalid(field, format!("has {} names", names.len()), "256 are allowed"));
    }
    let one = |name: String| {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if bare.is_empty() || bare.len() > 64 || !bare.bytes().all(plain) {
            return Err(invalid(
                field,
                format!("has {}", quoted(&name)),
                "use names as in capabilities(7), or ALL",
            ));
        }
        Ok(bare.to_owned())
    };
    names.into_iter().map(one).collect()
}
