//! The one table from a verb's error to a ttrpc status.

use ttrpc::{Code, Error, get_status};

use crate::io::note::chain;
use crate::ops::error::{Kind, OpError};

/// The error as the caller gets it: a code to act on, and the whole story in one line.
pub(crate) fn refuse(error: &OpError) -> Error {
    let code = match error.kind() {
        Kind::NotFound => Code::NOT_FOUND,
        Kind::AlreadyExists => Code::ALREADY_EXISTS,
        Kind::WrongState => Code::FAILED_PRECONDITION,
        Kind::Invalid => Code::INVALID_ARGUMENT,
        Kind::Unsupported => Code::UNIMPLEMENTED,
        Kind::Unavailable => Code::UNAVAILABLE,
        Kind::Failed => Code::UNKNOWN,
    };
    Error::RpcStatus(get_status(code, chain(error)))
}
