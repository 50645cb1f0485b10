use super::*;
use crate::domain::container::ExitReason;

fn running() -> ContainerState {
    ContainerState::Running {
        pid: 7,
        started_at: Timestamp(1),
    }
}

fn end() -> TaskEnd {
    TaskEnd {
        code: 3,
        oom_killed: false,
        started_at: Timestamp(1),
        exited_at: Timestamp(2),
        start_error: None,
    }
}

#[test]
fn what_a_shim_says_decides() {
    for state in [ContainerState::Created, running()] {
        let Verdict::End(exit) = verdict(&state, &Found::Ended(end())) else {
            panic!("not ended")
        };
        assert_eq!((exit.code, exit.reason), (3, ExitReason::Error));
        assert_eq!(verdict(&state, &Found::Lost), Verdict::CleanUp);
    }
}

#[test]
fn x6_a_shim_that_cannot_be_asked_is_never_lost() {
    for state in [ContainerState::Created, running()] {
        assert_eq!(verdict(&state, &Found::Unclear), Verdict::AskAgain);
    }
}

#[test]
fn the_first_word_on_an_end_stands() {
    let exited = ContainerState::Exited(watch::told(end()));
    for found in [Found::Ended(end()), Found::Lost, Found::Unclear] {
        assert_eq!(verdict(&exited, &found), Verdict::Keep);
    }
}

#[test]
fn a_pod_without_pins_needs_none() {
    assert!(pins_are_there(&Pins::default()));
    let gone = Pins {
        net: Some("/nonexistent/netns".into()),
        ..Pins::default()
    };
    assert!(!pins_are_there(&gone));
}
