//! Who a container's process runs as: the request, the image's `USER` and the image's passwd and group files together
//! (contract §6.1).
//!
//! The files are hostile bytes. A number is that number or an error, never a name (CVE-2016-3697, CVE-2026-46680) and
//! never wrapped or cut (CVE-2024-40635, CVE-2026-30892); files are bounded before they come here (CVE-2026-47262).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::domain::image::ImageId;
use crate::domain::security::{GroupsPolicy, Identity, RequestedUser, ResolvedUser};
use crate::ops::table::lock;

/// A passwd or group file may have this many bytes.
pub(crate) const FILE_LIMIT: usize = 1 << 20;
/// Largest id: what fits an `int` in every tool that will ever print or parse it.
const MAX_ID: u32 = i32::MAX as u32;
/// useradd(8) allows 32, LDAP setups more.
const MAX_NAME: usize = 256;
/// `NGROUPS_MAX` of Linux, limits.h.
const MAX_GROUPS: usize = 65_536;
/// Resolutions kept; a node runs far fewer different (image, user) pairs.
const CACHE_LIMIT: usize = 512;

/// The user cannot be resolved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UserError {
    /// The text is neither a name nor an id.
    #[error("{text:?} is no user or group: expected a name, or a decimal id up to {MAX_ID}")]
    Malformed {
        /// The text, shortened.
        text: String,
    },
    /// The name is not in the image.
    #[error("user {name:?} is not in the image's /etc/passwd: use its uid, or an image that has this user")]
    NoUser {
        /// The name.
        name: String,
    },
    /// The group's name is not in the image.
    #[error("group {name:?} is not in the image's /etc/group: use its gid, or an image that has this group")]
    NoGroup {
        /// The name.
        name: String,
    },
    /// The image's entry has no usable ids.
    #[error("the image's entry for {name:?} has an id that is no number up to {MAX_ID}")]
    BadEntry {
        /// The name.
        name: String,
    },
    /// A group without a user.
    #[error("run_as_group is set but neither run_as_user nor run_as_username: set one of them")]
    GroupOnly,
    /// Too many groups.
    #[error("the user is in {count} groups, more than the kernel's {MAX_GROUPS}")]
    TooManyGroups {
        /// How many.
        count: usize,
    },
}

/// Earlier answers, by image and request: containers of one image mostly ask the same.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    known: Mutex<BTreeMap<(ImageId, String), ResolvedUser>>,
}

impl Cache {
    fn key(image: &ImageId, identity: &Identity) -> (ImageId, String) {
        // The image's `USER` is part of what its id names, so the request is all that is missing.
        (image.clone(), format!("{identity:?}"))
    }

    /// An earlier answer.
    pub(crate) fn known(&self, image: &ImageId, identity: &Identity) -> Option<ResolvedUser> {
        lock(&self.known).get(&Self::key(image, identity)).cloned()
    }

    /// Keeps an answer.
    pub(crate) fn keep(&self, image: &ImageId, identity: &Identity, user: &ResolvedUser) {
        let mut known = lock(&self.known);
        if known.len() >= CACHE_LIMIT {
            known.clear();
        }
        known.insert(Self::key(image, identity), user.clone());
    }
}

/// The image's files, where it has them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Files<'a> {
    /// `/etc/passwd`.
    pub(crate) passwd: Option<&'a [u8]>,
    /// `/etc/group`.
    pub(crate) group: Option<&'a [u8]>,
}

/// Resolves a request against the image's `USER` and files.
///
/// # Errors
/// See [`UserError`].
pub(crate) fn resolve(identity: &Identity, image_user: &str, files: Files<'_>) -> Result<ResolvedUser, UserError> {
    let Identity {
        user,
        group,
        supplemental_groups,
        groups_policy,
    } = identity;
    if group.is_some() && *user == RequestedUser::Image {
        return Err(UserError::GroupOnly);
    }
    let (who, image_group) = match user {
        RequestedUser::Uid(uid) => (Who::Id(bounded(*uid)?), None),
        RequestedUser::Name(name) => (parse(name)?, None),
        RequestedUser::Image => split(image_user)?,
    };
    let account = account(&who, files.passwd)?;
    let gid = match (group, image_group) {
        (Some(gid), _) => bounded(*gid)?,
        (None, Some(Who::Id(gid))) => gid,
        (None, Some(Who::Name(name))) => group_named(&name, files.group)?,
        (None, None) => account.gid,
    };
    let mut groups = BTreeSet::from([gid]);
    for &group in supplemental_groups {
        groups.insert(bounded(group)?);
    }
    if *groups_policy == GroupsPolicy::Merge
        && let Some(name) = &account.name
    {
        groups.extend(groups_of(name, files.group));
    }
    if groups.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups { count: groups.len() });
    }
    Ok(ResolvedUser {
        uid: account.uid,
        gid,
        groups: groups.into_iter().collect(),
        home: account.home,
    })
}

/// A user or group as written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Id(u32),
    Name(String),
}

struct Account {
    name: Option<Vec<u8>>,
    uid: u32,
    gid: u32,
    home: String,
}

/// Takes `USER` apart: empty, `user` or `user:group`.
fn split(text: &str) -> Result<(Who, Option<Who>), UserError> {
    if text.is_empty() {
        return Ok((Who::Id(0), None));
    }
    match text.split_once(':') {
        None => Ok((parse(text)?, None)),
        Some((user, group)) => Ok((parse(user)?, Some(parse(group)?))),
    }
}

fn parse(text: &str) -> Result<Who, UserError> {
    let malformed = || UserError::Malformed {
        text: text.chars().take(80).collect(),
    };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // All digits is a number, whatever the image's passwd says about a user of that name.
        let id = text.parse::<u32>().map_err(|_| malformed())?;
        return bounded(id).map(Who::Id);
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '/' | '"');
    if text.is_empty() || text.len() > MAX_NAME || text.contains(forbidden) || looks_numeric(text) {
        return Err(malformed());
    }
    Ok(Who::Name(text.to_owned()))
}

/// What some other parser would take for a number (`0x0`, `1e3`, `+1`, `-1`): nobody's name, so that no passwd entry
/// can make root of it.
fn looks_numeric(text: &str) -> bool {
    let unsigned = text.trim_start_matches(['+', '-']);
    unsigned.len() < text.len()
        || unsigned.starts_with(|c: char| c.is_ascii_digit())
            && unsigned
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b'x' | b'X' | b'_' | b'.'))
}

fn bounded(id: u32) -> Result<u32, UserError> {
    if id <= MAX_ID {
        Ok(id)
    } else {
        Err(UserError::Malformed { text: id.to_string() })
    }
}

fn account(who: &Who, passwd: Option<&[u8]>) -> Result<Account, UserError> {
    let mut entries = lines(passwd).map(|line| line.split(|&b| b == b':').collect::<Vec<_>>());
    let entry = entries.find(|fields| match who {
        Who::Id(uid) => fields.get(2).and_then(|field| number(field)) == Some(*uid),
        Who::Name(name) => fields.len() >= 4 && fields[0] == name.as_bytes(),
    });
    match (entry, who) {
        (Some(fields), _) => {
            let name = fields[0].to_vec();
            let id = |n: usize| fields.get(n).and_then(|field| number(field));
            let (Some(uid), Some(gid)) = (id(2), id(3)) else {
                return Err(UserError::BadEntry {
                    name: String::from_utf8_lossy(&name).chars().take(80).collect(),
                });
            };
            Ok(Account {
                name: Some(name),
                uid,
                gid,
                home: home(fields.get(5).copied()),
            })
        }
        (None, Who::Id(uid)) => Ok(Account {
            name: (*uid == 0).then(|| b"root".to_vec()),
            uid: *uid,
            gid: 0,
            home: "/".to_owned(),
        }),
        // An image without a passwd file has a root all the same.
        (None, Who::Name(name)) if name == "root" => Ok(Account {
            name: Some(b"root".to_vec()),
            uid: 0,
            gid: 0,
            home: "/".to_owned(),
        }),
        (None, Who::Name(name)) => Err(UserError::NoUser { name: name.clone() }),
    }
}

fn group_named(name: &str, group: Option<&[u8]>) -> Result<u32, UserError> {
    for line in lines(group) {
        let fields: Vec<_> = line.split(|&b| b == b':').collect();
        if fields.len() >= 3 && fields[0] == name.as_bytes() {
            return number(fields[2]).ok_or_else(|| UserError::BadEntry { name: name.to_owned() });
        }
    }
    Err(UserError::NoGroup { name: name.to_owned() })
}

/// Groups that list `user` as a member; entries without a usable id are nobody's.
fn groups_of<'a>(user: &'a [u8], group: Option<&'a [u8]>) -> impl Iterator<Item = u32> + 'a {
    lines(group).filter_map(move |line| {
        let mut fields = line.splitn(4, |&b| b == b':').skip(2);
        let (gid, members) = (fields.next()?, fields.next()?);
        members
            .split(|&b| b == b',')
            .any(|member| member == user)
            .then(|| number(gid))?
    })
}

fn lines(file: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    file.unwrap_or_default()
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
}

fn number(field: &[u8]) -> Option<u32> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id = std::str::from_utf8(field).ok()?.parse().ok()?;
    (id <= MAX_ID).then_some(id)
}

fn home(field: Option<&[u8]>) -> String {
    let text = field.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("");
    if text.starts_with('/') && !text.contains(char::is_control) {
        text.to_owned()
    } else {
        "/".to_owned()
    }
}

#[cfg(test)]
mod tests;
