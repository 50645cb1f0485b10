//! Who a process is to run as (contract §6.1).

use copepod_proto::cri as wire;

use super::{invalid, quoted};
use crate::domain::error::Failure;
use crate::domain::security::{GroupsPolicy, Identity, RequestedUser};

/// The largest id that no layer between here and the kernel takes for a negative number (CVE-2024-40635).
const MAX_ID: i64 = i32::MAX as i64;

/// More groups than Linux gives a process (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// The fields of a security context that say who.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// `run_as_user`.
    pub(super) user: Option<wire::Int64Value>,
    /// `run_as_username`.
    pub(super) username: String,
    /// `run_as_group`.
    pub(super) group: Option<wire::Int64Value>,
    /// `supplemental_groups`.
    pub(super) supplemental_groups: Vec<i64>,
    /// `supplemental_groups_policy`.
    pub(super) groups_policy: i32,
}

/// Who.
///
/// # Errors
/// An id is out of range, a group comes without a user, or user and user name are both given.
pub(super) fn decode(field: &str, request: Request) -> Result<Identity, Failure> {
    let Request {
        user,
        username,
        group,
        supplemental_groups,
        groups_policy,
    } = request;
    let user = match (user, username.is_empty()) {
        (Some(_), false) => {
            let problem = "is given with run_as_username";
            return Err(invalid(&format!("{field}.run_as_user"), problem, "set one of them"));
        }
        (Some(wire::Int64Value { value }), true) => RequestedUser::Uid(id(&format!("{field}.run_as_user"), value)?),
        (None, false) => RequestedUser::Name(user_name(&format!("{field}.run_as_username"), username)?),
        (None, true) => RequestedUser::Image,
    };
    let group_field = format!("{field}.run_as_group");
    let group = match group {
        Some(_) if user == RequestedUser::Image => {
            return Err(invalid(
                &group_field,
                "comes without a user",
                "set run_as_user or run_as_username too",
            ));
        }
        Some(wire::Int64Value { value }) => Some(id(&group_field, value)?),
        None => None,
    };
    let groups_field = format!("{field}.supplemental_groups");
    if supplemental_groups.len() > MAX_GROUPS {
        return Err(invalid(
            &groups_field,
            format!("has {} groups", supplemental_groups.len()),
            "65536 are possible",
        ));
    }
    let groups: Result<Vec<u32>, Failure> = supplemental_groups
        .into_iter()
        .map(|gid| id(&groups_field, gid))
        .collect();
    Ok(Identity {
        user,
        group,
        supplemental_groups: groups?,
        groups_policy: policy(&format!("{field}.supplemental_groups_policy"), groups_policy)?,
    })
}

fn policy(field: &str, number: i32) -> Result<GroupsPolicy, Failure> {
    match wire::SupplementalGroupsPolicy::try_from(number) {
        Ok(wire::SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(wire::SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => Err(invalid(field, format!("is {number}"), "Merge is 0 and Strict is 1")),
    }
}

fn id(field: &str, id: i64) -> Result<u32, Failure> {
    let in_range = u32::try_from(id).ok().filter(|_| id <= MAX_ID);
    in_range.ok_or_else(|| invalid(field, format!("is {id}"), "ids go from 0 to 2147483647"))
}

/// A name of passwd(5). One of digits only would be looked up as a name although a number was meant (CVE-2016-3697).
fn user_name(field: &str, name: String) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'$' | b'@' | b'\\');
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    if name.len() > 256 || digits || !name.bytes().all(plain) {
        return Err(invalid(
            field,
            format!("is {}", quoted(&name)),
            "give a name of /etc/passwd; ids go in run_as_user",
        ));
    }
    Ok(name)
}
