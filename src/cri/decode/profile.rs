//! Seccomp, AppArmor and SELinux as requests choose them (contract §6.3).

use copepod_proto::cri as wire;
use wire::security_profile::ProfileType;

use super::{invalid, path, quoted, text};
use crate::domain::error::Failure;
use crate::domain::security::Profile;

/// What the older string fields begin a profile of the node with; structured ones may still carry it.
const LOCALHOST: &str = "localhost/";

/// Seccomp: missing altogether is unconfined, an empty message is the default.
///
/// # Errors
/// The type is unknown, or the reference is no absolute path (CVE-2023-2431: never unconfined instead).
pub(super) fn seccomp(field: &str, message: Option<wire::SecurityProfile>, legacy: String) -> Result<Profile, Failure> {
    let profile = chosen(field, message, legacy)?.unwrap_or(Profile::Unconfined);
    match profile {
        Profile::Localhost(reference) => {
            path::absolute(&format!("{field}.localhost_ref"), reference).map(Profile::Localhost)
        }
        Profile::RuntimeDefault | Profile::Unconfined => Ok(profile),
    }
}

/// AppArmor: missing is the runtime's choice.
///
/// # Errors
/// The type is unknown, or the reference is no profile's name.
pub(super) fn apparmor(
    field: &str,
    message: Option<wire::SecurityProfile>,
    legacy: String,
) -> Result<Option<Profile>, Failure> {
    let profile = chosen(field, message, legacy)?;
    if let Some(Profile::Localhost(name)) = &profile {
        // It is written to a file of procfs, where a blank or a line end would begin something else.
        text::line(&format!("{field}.localhost_ref"), name.clone(), 4096)?;
        if name.contains(char::is_whitespace) {
            return Err(invalid(
                field,
                format!("names a profile {}", quoted(name)),
                "profile names have no blanks",
            ));
        }
    }
    Ok(profile)
}

/// The structured field counts; the string is read only where that is missing.
fn chosen(field: &str, message: Option<wire::SecurityProfile>, legacy: String) -> Result<Option<Profile>, Failure> {
    let Some(wire::SecurityProfile {
        profile_type,
        localhost_ref,
    }) = message
    else {
        return from_string(field, &legacy);
    };
    let profile = match ProfileType::try_from(profile_type) {
        Ok(ProfileType::Localhost) => return localhost(field, &localhost_ref).map(Some),
        Ok(ProfileType::RuntimeDefault) => Profile::RuntimeDefault,
        Ok(ProfileType::Unconfined) => Profile::Unconfined,
        Err(_) => {
            let remedy = "RuntimeDefault, Unconfined and Localhost are 0 to 2";
            return Err(invalid(field, format!("has type {profile_type}"), remedy));
        }
    };
    if !localhost_ref.is_empty() {
        return Err(invalid(
            field,
            "has a localhost_ref although its type is not Localhost",
            "leave one out",
        ));
    }
    Ok(Some(profile))
}

fn from_string(field: &str, legacy: &str) -> Result<Option<Profile>, Failure> {
    match legacy {
        "" => Ok(None),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        "runtime/default" | "docker/default" => Ok(Some(Profile::RuntimeDefault)),
        other if other.starts_with(LOCALHOST) => localhost(field, other).map(Some),
        other => {
            let remedy = "use runtime/default, unconfined or localhost/NAME";
            Err(invalid(field, format!("is {}", quoted(other)), remedy))
        }
    }
}

fn localhost(field: &str, reference: &str) -> Result<Profile, Failure> {
    let name = reference.strip_prefix(LOCALHOST).unwrap_or(reference);
    if name.is_empty() {
        return Err(invalid(field, "is Localhost without a profile", "set localhost_ref"));
    }
    Ok(Profile::Localhost(name.to_owned()))
}

/// The label asked for, `user:role:type:level`, if any part is. Where SELinux is off it means nothing, and clients set it
/// regardless; where it is on, `oci` refuses it.
///
/// # Errors
/// The level is not of the form `s0:c1,c2`.
pub(super) fn selinux(field: &str, message: Option<wire::SeLinuxOption>) -> Result<Option<String>, Failure> {
    let Some(wire::SeLinuxOption {
        user,
        role,
        r#type,
        level,
    }) = message
    else {
        return Ok(None);
    };
    for part in [&user, &role, &r#type] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if part.len() > 256 || !part.bytes().all(plain) {
            return Err(invalid(
                field,
                format!("has {}", quoted(part)),
                "use letters, digits, '_', '-' and '.'",
            ));
        }
    }
    if !level.is_empty() && !sound_level(&level) {
        return Err(invalid(
            &format!("{field}.level"),
            format!("is {}", quoted(&level)),
            "write it as s0:c1,c2",
        ));
    }
    let parts = [user, role, r#type, level];
    let asked = parts.iter().any(|part| !part.is_empty());
    Ok(asked.then(|| parts.join(":")))
}

/// `sN[-sN][:cN[.cN][,…]]`
fn sound_level(level: &str) -> bool {
    let numbered = |text: &str, letter: char| {
        let digits = text.strip_prefix(letter);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let sensitivities = |text: &str| text.split('-').count() <= 2 && text.split('-').all(|one| numbered(one, 's'));
    let span = |text: &str| text.split('.').count() <= 2 && text.split('.').all(|one| numbered(one, 'c'));
    level.len() <= 4096
        && match level.split_once(':') {
            Some((low, categories)) => sensitivities(low) && categories.split(',').all(span),
            None => sensitivities(level),
        }
}
