//! Stop signals: the protocol numbers them by name, in an order of its own; Linux numbers them otherwise.

use copepod_proto::cri as wire;
use wire::Signal as Wire;

use super::decode::invalid;
use crate::domain::container::Signal;
use crate::domain::error::Failure;

/// Names of the classic signals with their numbers on x86_64 and aarch64 (signal(7)). Where Linux has two names for
/// one number, the one told back comes first.
const CLASSIC: [(Wire, i32); 34] = [
    (Wire::Sighup, 1),
    (Wire::Sigint, 2),
    (Wire::Sigquit, 3),
    (Wire::Sigill, 4),
    (Wire::Sigtrap, 5),
    (Wire::Sigabrt, 6),
    (Wire::Sigiot, 6),
    (Wire::Sigbus, 7),
    (Wire::Sigfpe, 8),
    (Wire::Sigkill, 9),
    (Wire::Sigusr1, 10),
    (Wire::Sigsegv, 11),
    (Wire::Sigusr2, 12),
    (Wire::Sigpipe, 13),
    (Wire::Sigalrm, 14),
    (Wire::Sigterm, 15),
    (Wire::Sigstkflt, 16),
    (Wire::Sigchld, 17),
    (Wire::Sigcld, 17),
    (Wire::Sigcont, 18),
    (Wire::Sigstop, 19),
    (Wire::Sigtstp, 20),
    (Wire::Sigttin, 21),
    (Wire::Sigttou, 22),
    (Wire::Sigurg, 23),
    (Wire::Sigxcpu, 24),
    (Wire::Sigxfsz, 25),
    (Wire::Sigvtalrm, 26),
    (Wire::Sigprof, 27),
    (Wire::Sigwinch, 28),
    (Wire::Sigio, 29),
    (Wire::Sigpoll, 29),
    (Wire::Sigpwr, 30),
    (Wire::Sigsys, 31),
];

/// SIGRTMIN as the C library has it; the protocol's run of real-time names begins one higher and has no gap.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;
const REAL_TIME_SHIFT: i32 = Wire::Sigrtmin as i32 - RTMIN;

/// The signal asked for; 0 leaves it to the image.
///
/// # Errors
/// There is no such number.
pub(super) fn decode(field: &str, number: i32) -> Result<Option<Signal>, Failure> {
    let unknown = || invalid(field, format!("is {number}"), "0 to 65 are known");
    let wire = Wire::try_from(number).map_err(|_| unknown())?;
    if wire == Wire::RuntimeDefault {
        return Ok(None);
    }
    let classic = CLASSIC.iter().find(|(name, _)| *name == wire).map(|(_, linux)| *linux);
    Ok(Some(Signal(classic.unwrap_or(number - REAL_TIME_SHIFT))))
}

/// The signal that a stop sends, as status tells it. 32 and 33 are the C library's own and have no name.
pub(super) fn encode(signal: Signal) -> Wire {
    let Signal(number) = signal;
    if let Some((name, _)) = CLASSIC.iter().find(|(_, linux)| *linux == number) {
        return *name;
    }
    if (RTMIN..=RTMAX).contains(&number) {
        return Wire::try_from(number + REAL_TIME_SHIFT).unwrap_or(Wire::RuntimeDefault);
    }
    Wire::RuntimeDefault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_linux_number_and_comes_back() {
        for number in 1..=65 {
            let signal = decode("s", number).unwrap().unwrap();
            assert!((1..=64).contains(&signal.0), "{number}");
            let back = encode(signal);
            assert_eq!(decode("s", back as i32).unwrap(), Some(signal), "{number}");
        }
        assert_eq!(decode("s", Wire::Sigterm as i32).unwrap(), Some(Signal::TERM));
        assert_eq!(decode("s", Wire::Sigkill as i32).unwrap(), Some(Signal::KILL));
        assert_eq!(decode("s", Wire::Sigrtmin as i32).unwrap(), Some(Signal(34)));
        assert_eq!(decode("s", Wire::Sigrtmax as i32).unwrap(), Some(Signal(64)));
        assert_eq!(decode("s", 0).unwrap(), None);
    }

    #[test]
    fn refuses_other_numbers() {
        for number in [-1, 66, i32::MAX, i32::MIN] {
            assert!(decode("s", number).is_err(), "{number}");
        }
        assert_eq!(encode(Signal(33)), Wire::RuntimeDefault);
        assert_eq!(encode(Signal(0)), Wire::RuntimeDefault);
    }
}
