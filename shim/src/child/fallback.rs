//! Kernel features newer than 5.14 that have an older way, and the switch that forces it.

use copepod_proto::bundle::{CLONE_INTO_CGROUP, FALLBACKS, LOWERDIR_PLUS};

/// One such feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// `lowerdir-plus`: overlay layers one by one through fsconfig (about Linux 6.7). Else mount(2) with one page of
    /// options, in a forked stage that sends the mount back.
    LowerdirPlus,
    /// `clone-into-cgroup`: a child born in its v2 cgroup. Else it moves itself first of all.
    CloneIntoCgroup,
}

/// The features that are to be treated as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fallbacks {
    lowerdir_plus: Forced,
    clone_into_cgroup: Forced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Forced {
    #[default]
    No,
    Yes,
}

/// A name that no feature has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("fallback {name:?} is unknown; this shim has: {}", FALLBACKS.join(", "))]
pub(crate) struct UnknownFallback {
    /// As given.
    pub(crate) name: String,
}

impl Fallbacks {
    /// From names.
    ///
    /// # Errors
    /// An unknown name.
    pub(crate) fn parse(names: &[String]) -> Result<Self, UnknownFallback> {
        names.iter().try_fold(Self::default(), |mut forced, name| {
            match name.as_str() {
                LOWERDIR_PLUS => forced.lowerdir_plus = Forced::Yes,
                CLONE_INTO_CGROUP => forced.clone_into_cgroup = Forced::Yes,
                _ => return Err(UnknownFallback { name: name.clone() }),
            }
            Ok(forced)
        })
    }

    /// Whether the older way is to be taken without trying the newer.
    pub(crate) fn forces(self, fallback: Fallback) -> bool {
        let forced = match fallback {
            Fallback::LowerdirPlus => self.lowerdir_plus,
            Fallback::CloneIntoCgroup => self.clone_into_cgroup,
        };
        forced == Forced::Yes
    }
}
