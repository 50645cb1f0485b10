//! From kinds of failure to gRPC codes (contract §2.2). kubelet acts on the codes, so there is no default arm.

use tonic::{Code, Status};

use crate::domain::error::{Failure, Kind};

/// Messages travel in a header; clients take 8 KiB of headers at least.
const MAX_MESSAGE: usize = 4096;

/// The code of a kind.
pub(super) fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unknown => Code::Unknown,
        Kind::Internal => Code::Internal,
    }
}

/// What the client is told: the failure with its causes, once each.
pub(super) fn of(failure: &Failure) -> Status {
    Status::new(code(failure.kind()), shortened(failure.chain()))
}

/// Cut at a character, with a sign that it was.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_every_cause_once_and_is_bounded() {
        let cause = std::io::Error::other("disk is on fire");
        let failure = Failure::caused(Kind::Unknown, "pull image x", cause);
        let status = of(&failure);
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "pull image x: disk is on fire")
        );
        let long = Failure::new(Kind::Internal, "ä".repeat(10_000));
        assert!(of(&long).message().len() <= MAX_MESSAGE + '…'.len_utf8());
    }
}
