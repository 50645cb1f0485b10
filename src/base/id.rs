//! Identifiers of objects that this daemon names: 64 lowercase hexadecimal digits from 32 random bytes
//! (CRI contract §2.1). A value of these types is always well-formed, so it may become part of a path.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// Length of an identifier in characters.
pub const LEN: usize = 64;

/// The text is not an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an id is {LEN} lowercase hexadecimal digits, this one has {len} characters or others among them")]
pub struct InvalidId {
    /// Length of what was given, in bytes.
    pub len: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new identifier from the kernel's random source.
            #[must_use]
            pub fn generate() -> Self {
                Self(random_hex())
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        // Ordered and hashed as its text, so a map keyed by ids finds them by text and by prefix.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
    };
}

id_type!(
    /// A pod sandbox.
    PodId
);
id_type!(
    /// A container.
    ContainerId
);

fn check(text: &str) -> Result<(), InvalidId> {
    let well_formed = text.len() == LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if well_formed {
        Ok(())
    } else {
        Err(InvalidId { len: text.len() })
    }
}

fn random_hex() -> String {
    let mut bytes = [0_u8; LEN / 2];
    let mut filled = 0;
    // getrandom(2) gives up to 256 bytes whole; only an early-boot signal may cut it short.
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_well_formed_and_differ() {
        let (a, b) = (PodId::generate(), PodId::generate());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<PodId>(), Ok(a));
    }

    #[test]
    fn refuses_what_could_climb_or_confuse() {
        for text in [
            "",
            "..",
            "a/b",
            &"A".repeat(64),
            &"a".repeat(63),
            &"g".repeat(64),
            &format!("{}\0", "a".repeat(63)),
        ] {
            assert!(text.parse::<ContainerId>().is_err(), "{text:?}");
        }
    }
}
