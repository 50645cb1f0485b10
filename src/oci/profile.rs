//! Seccomp profiles of the node, in the form of the OCI runtime spec.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde_json::Value;

use super::OciError;

/// A profile that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompProfile(pub(super) LinuxSeccomp);

impl SeccompProfile {
    /// Reads a profile. What an older form says beside the OCI one (conditions on capabilities and architectures)
    /// would be lost, and the profile wider than its author meant: such a one is refused.
    ///
    /// # Errors
    /// It is not a profile, or has parts that cannot be applied.
    pub fn parse(json: &[u8]) -> Result<Self, OciError> {
        let malformed = |source| OciError::SeccompMalformed { source };
        let unsupported = |what| Err(OciError::SeccompUnsupported { what });
        let value: Value = serde_json::from_slice(json).map_err(malformed)?;
        let rules = value.get("syscalls").and_then(Value::as_array).into_iter().flatten();
        if given(&value, "archMap") {
            return unsupported("an archMap");
        }
        for rule in rules {
            if given(rule, "includes") || given(rule, "excludes") {
                return unsupported("rules with includes or excludes");
            }
        }
        let profile: LinuxSeccomp = serde_json::from_value(value).map_err(malformed)?;
        let mut actions = profile.syscalls().iter().flatten().map(|rule| rule.action());
        if actions.any(|action| action == LinuxSeccompAction::ScmpActNotify) || profile.listener_path().is_some() {
            return unsupported("a notify action or listener");
        }
        Ok(Self(profile))
    }
}

/// Whether a part is there with something in it.
fn given(value: &Value, part: &str) -> bool {
    match value.get(part) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q9_profiles_are_applied_whole_or_refused() {
        let parse = |json: &str| SeccompProfile::parse(json.as_bytes());
        let good = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(parse(good).is_ok());
        assert!(parse(r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[]}"#).is_ok());
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_Z80"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]}"#,
        ] {
            assert!(matches!(parse(bad), Err(OciError::SeccompMalformed { .. })), "{bad}");
        }
        for bad in [
            r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":
                [{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#,
        ] {
            assert!(matches!(parse(bad), Err(OciError::SeccompUnsupported { .. })), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(&deep), Err(OciError::SeccompMalformed { .. })));
    }
}
