//! Device rules of `linux.resources.devices`, checked once, carried out by text on v1 and by a program on v2.
//!
//! Both start from nothing: a spec whose list forgets to deny everything first must not open the host's disks. After
//! that the last rule that speaks of a device and an access decides.

mod program;

use std::fs::File;
use std::path::Path;

use super::error::CgroupError;
use super::resources::Device;
use crate::sys::bpf;

/// Opening for reading, for writing, and making a node; as in the kernel's `BPF_DEVCG_ACC_*`.
const ACCESS: [(char, u8); 3] = [('r', 2), ('w', 4), ('m', 1)];
/// All of [`ACCESS`].
const EVERY: u8 = 7;

/// A rule that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    allow: bool,
    kind: Kind,
    /// `None` is every number.
    major: Option<u32>,
    /// `None` is every number.
    minor: Option<u32>,
    /// Bits of [`ACCESS`].
    access: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Char,
    Block,
}

impl Rule {
    /// # Errors
    /// [`CgroupError::Value`] names the field that makes no sense.
    pub(super) fn parse(device: &Device) -> Result<Self, CgroupError> {
        let Device {
            allow,
            kind,
            major,
            minor,
            access,
        } = device;
        Ok(Self {
            allow: *allow,
            kind: parse_kind(kind.as_deref())?,
            major: parse_number("linux.resources.devices.major", *major)?,
            minor: parse_number("linux.resources.devices.minor", *minor)?,
            access: parse_access(access.as_deref())?,
        })
    }

    /// In the words of v1's `devices.allow` and `devices.deny`.
    pub(super) fn text(self) -> (&'static str, String) {
        let file = if self.allow { "devices.allow" } else { "devices.deny" };
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let access: String = ACCESS
            .iter()
            .filter(|(_, bit)| self.access & bit != 0)
            .map(|(letter, _)| letter)
            .collect();
        (
            file,
            format!("{kind} {}:{} {access}", number(self.major), number(self.minor)),
        )
    }

    /// Every device, every access.
    fn is_whole(self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == EVERY
    }
}

/// v2: attaches a program that carries out the rules to the cgroup, for as long as the cgroup exists. Programs further
/// up stay in force too.
///
/// # Errors
/// A rule makes no sense, or the kernel takes no such program: then the container must not run, its devices would be
/// open.
pub(super) fn confine(dir: &Path, devices: &[Device]) -> Result<(), CgroupError> {
    let rules: Vec<Rule> = devices.iter().map(Rule::parse).collect::<Result<_, _>>()?;
    if rules.last().is_some_and(|last| last.allow && last.is_whole()) {
        // A privileged container: nothing to carry out.
        return Ok(());
    }
    let cgroup = File::open(dir).map_err(|source| CgroupError::Open {
        path: dir.to_owned(),
        source,
    })?;
    let program = bpf::load_device_program(&program::compile(&rules))
        .map_err(|source| CgroupError::LoadDevices { source: source.into() })?;
    bpf::attach_device_program(&cgroup, &program).map_err(|source| CgroupError::AttachDevices {
        path: dir.to_owned(),
        source: source.into(),
    })
}

fn refused<T>(what: &'static str, value: &str, allowed: &'static str) -> Result<T, CgroupError> {
    Err(CgroupError::Value {
        what,
        value: value.to_owned(),
        allowed,
    })
}

fn parse_kind(kind: Option<&str>) -> Result<Kind, CgroupError> {
    match kind {
        None | Some("" | "a") => Ok(Kind::All),
        Some("c" | "u") => Ok(Kind::Char),
        Some("b") => Ok(Kind::Block),
        Some(other) => refused("linux.resources.devices.type", other, "a, b, c or u"),
    }
}

fn parse_number(what: &'static str, number: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => refused(what, &number.to_string(), "0 to 4294967295, or -1 for all"),
        },
    }
}

fn parse_access(access: Option<&str>) -> Result<u8, CgroupError> {
    let Some(access) = access.filter(|access| !access.is_empty()) else {
        return Ok(EVERY);
    };
    let mut bits = 0;
    for letter in access.chars() {
        match ACCESS.iter().find(|(known, _)| *known == letter) {
            Some((_, bit)) if bits & bit == 0 => bits |= bit,
            Some(_) | None => {
                return refused(
                    "linux.resources.devices.access",
                    access,
                    "some of r, w and m, each once",
                );
            }
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests;
