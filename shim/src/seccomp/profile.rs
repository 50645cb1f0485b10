//! A profile as JSON (runtime-spec, config-linux.md, "Seccomp") and as what it means on this host.
//!
//! Where several rules name one call: a rule with conditions goes before a rule without; of several whose conditions
//! hold the most restrictive one decides, in the kernel's own order. The order in the file does not matter. Two
//! conditions of one rule on the same argument are alternatives, as existing profiles expect; others must all hold.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::syscalls::Abi;

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Not a profile at all.
    #[error("read seccomp profile")]
    Json {
        /// Where and why.
        source: serde_json::Error,
    },
    /// Not known, or not supported, as notifications are.
    #[error("seccomp profile: {field} {value:?} is not supported by this runtime")]
    Unsupported {
        /// JSON field.
        field: &'static str,
        /// As given.
        value: String,
    },
    /// System calls have six.
    #[error("seccomp profile: {name}: there is no argument {index}")]
    Argument {
        /// Call.
        name: String,
        /// As given.
        index: u32,
    },
    /// Errno values fit 12 bits.
    #[error("seccomp profile: errnoRet {value} is outside 0..=4095")]
    ErrnoRange {
        /// As given.
        value: u32,
    },
    /// The kernel takes 4096 instructions.
    #[error("seccomp profile: {instructions} instructions; the kernel takes 4096: name fewer calls with arguments")]
    TooLong {
        /// How many it would be.
        instructions: usize,
    },
}

/// What a profile means on this host.
#[derive(Debug)]
pub(crate) struct Profile {
    /// What happens to calls that nothing names.
    pub(crate) default: u32,
    /// Per ABI, native first: what is named, by number.
    pub(crate) abis: Vec<(Abi, BTreeMap<u32, Verdict>)>,
    /// For seccomp(2).
    pub(crate) flags: u32,
}

/// What happens to one call. Return values are those of seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    /// Tried in this order, most restrictive first: all conditions, then what is returned.
    pub(crate) rules: Vec<(Vec<Condition>, u32)>,
    /// What is returned when none holds; `None` = the default.
    pub(crate) otherwise: Option<u32>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) argument: u32,
    /// How.
    pub(crate) comparison: Comparison,
    /// With what; for [`Comparison::MaskedEqual`] the mask.
    pub(crate) value: u64,
    /// For [`Comparison::MaskedEqual`] what remains.
    pub(crate) masked: u64,
}

/// Comparisons of the OCI spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Comparison {
    /// !=
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// <
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// <=
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// ==
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// >=
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// >
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// (argument & value) == valueTwo
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    syscalls: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<RawArgument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawArgument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Comparison,
}

/// Reads a profile and resolves its names for this host. A name that no ABI of this host has is passed over: profiles
/// name the calls of every architecture and of kernels to come.
///
/// # Errors
/// Names the field.
pub(crate) fn parse(json: &str) -> Result<Profile, ProfileError> {
    let raw: Raw = serde_json::from_str(json).map_err(|source| ProfileError::Json { source })?;
    if !raw.listener_path.is_empty() {
        return Err(ProfileError::Unsupported {
            field: "listenerPath",
            value: raw.listener_path,
        });
    }
    let default = action(&raw.default_action, raw.default_errno_ret)?;
    let mut abis: Vec<_> = Abi::of(&raw.architectures)?
        .into_iter()
        .map(|abi| (abi, BTreeMap::new()))
        .collect();
    for rule in &raw.syscalls {
        let returned = action(&rule.action, rule.errno_ret)?;
        let alternatives = alternatives(rule)?;
        for name in &rule.names {
            for (abi, verdicts) in &mut abis {
                let Some(number) = abi.number(name) else { continue };
                let verdict: &mut Verdict = verdicts.entry(number).or_default();
                if rule.args.is_empty() {
                    verdict.otherwise = Some(verdict.otherwise.map_or(returned, |old| stricter(old, returned)));
                } else {
                    verdict
                        .rules
                        .extend(alternatives.iter().map(|conditions| (conditions.clone(), returned)));
                }
            }
        }
    }
    for verdict in abis.iter_mut().flat_map(|(_, verdicts)| verdicts.values_mut()) {
        verdict.rules.sort_by_key(|(_, returned)| returned.cast_signed());
    }
    Ok(Profile {
        default,
        abis,
        flags: flags(&raw.flags)?,
    })
}

/// The kernel's order, as signed numbers: killing the process is lowest, allowing is highest.
fn stricter(one: u32, other: u32) -> u32 {
    if one.cast_signed() <= other.cast_signed() {
        one
    } else {
        other
    }
}

fn alternatives(rule: &RawRule) -> Result<Vec<Vec<Condition>>, ProfileError> {
    let condition = |argument: &RawArgument| {
        if argument.index > 5 {
            let name = rule.names.first().cloned().unwrap_or_default();
            return Err(ProfileError::Argument {
                name,
                index: argument.index,
            });
        }
        let RawArgument {
            index,
            value,
            value_two,
            op,
        } = *argument;
        Ok(Condition {
            argument: index,
            comparison: op,
            value,
            masked: value_two,
        })
    };
    let conditions = rule.args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = |one: &Condition| conditions.iter().filter(|other| other.argument == one.argument).count() > 1;
    if conditions.iter().any(twice) {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    Ok(vec![conditions])
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    const EPERM: u32 = 1;
    let data = || {
        let value = errno.unwrap_or(EPERM);
        if value <= 4095 {
            Ok(value)
        } else {
            Err(ProfileError::ErrnoRange { value })
        }
    };
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(libc::SECCOMP_RET_KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Ok(libc::SECCOMP_RET_KILL_PROCESS),
        "SCMP_ACT_TRAP" => Ok(libc::SECCOMP_RET_TRAP),
        "SCMP_ACT_ERRNO" => Ok(libc::SECCOMP_RET_ERRNO | data()?),
        "SCMP_ACT_TRACE" => Ok(libc::SECCOMP_RET_TRACE | data()?),
        "SCMP_ACT_LOG" => Ok(libc::SECCOMP_RET_LOG),
        "SCMP_ACT_ALLOW" => Ok(libc::SECCOMP_RET_ALLOW),
        other => Err(ProfileError::Unsupported {
            field: "action",
            value: other.to_owned(),
        }),
    }
}

fn flags(names: &[String]) -> Result<u32, ProfileError> {
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    // Speculation mitigations as for a process without a filter: a filter is not a reason to slow the program down.
    names.iter().try_fold(SPEC_ALLOW, |flags, name| match name.as_str() {
        // One thread installs it, so there is nothing to synchronise.
        "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | LOG),
        other => Err(ProfileError::Unsupported {
            field: "flags",
            value: other.to_owned(),
        }),
    })
}
