//! What went wrong, as clients must be told: every verb's error has one of these kinds, and `cri::status` turns
//! each into a gRPC code (CRI contract §2.2). kubelet acts on the codes, so the mapping has no default arm.

use std::error::Error as StdError;
use std::fmt;

use crate::base::error::chain;

/// The kind of a failed verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed or asks for the impossible.
    InvalidArgument,
    /// The object is not there (any more).
    NotFound,
    /// The name is taken by a complete object.
    AlreadyExists,
    /// The object's state does not allow it.
    FailedPrecondition,
    /// The deadline passed.
    DeadlineExceeded,
    /// Some limit is reached: disk, memory, tokens.
    ResourceExhausted,
    /// Not built; refused by name.
    Unimplemented,
    /// Not now: starting up or shutting down.
    Unavailable,
    /// The caller went away.
    Cancelled,
    /// A failure below, told with a message that may start with a word kubelet knows (contract §2.3).
    Unknown,
    /// A fault of ours.
    Internal,
}

/// Why a verb failed: kind, sentence, and the cause below it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure that needs no cause to be understood: name the thing, the reason and the remedy.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A failure of `doing`, caused by `source`.
    #[must_use]
    pub fn caused(kind: Kind, doing: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            kind,
            message: doing.into(),
            source: Some(Box::new(source)),
        }
    }

    /// The same failure, with what its undoing had to leave behind told in the message.
    #[must_use]
    pub fn leaving(mut self, leftovers: &str) -> Self {
        self.message = format!("{} (could not be undone: {leftovers})", self.message);
        self
    }

    /// What clients act on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and every cause below it, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
