use rustix::io::Errno;

use super::{Channel, Event, MAX_FRAME};
use crate::init::InitError;

#[test]
fn a_failure_carries_its_cause_once_and_its_errno() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.report(&InitError::HostName {
        name: "x".to_owned(),
        source: Errno::PERM,
    });
    let Some(Event::Failed(failure)) = ours.receive().unwrap() else {
        panic!("no failure")
    };
    assert_eq!(failure.errno, Some(Errno::PERM.raw_os_error()));
    assert!(failure.text.starts_with("set host name x: "), "{}", failure.text);
}

#[test]
fn cve_2021_43784_frames_have_an_end() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.note(&"é".repeat(100_000)).unwrap();
    let Some(Event::Note(note)) = ours.receive().unwrap() else {
        panic!("no note")
    };
    assert!(note.len() < MAX_FRAME && note.chars().all(|c| c == 'é'));
    for frame in [vec![b'R'; 65_537], b"?".to_vec(), b"F\x01".to_vec(), b"C".to_vec()] {
        rustix::io::write(&theirs.fd, &frame).unwrap();
        assert_eq!(ours.receive().unwrap_err(), Errno::BADMSG);
    }
}

#[test]
fn silence_is_not_the_end() {
    let (ours, theirs) = Channel::pair().unwrap();
    assert!(ours.receive().unwrap().is_none());
    drop(theirs);
    assert!(matches!(ours.receive().unwrap(), Some(Event::Closed)));
    assert_eq!(ours.release().unwrap_err(), Errno::PIPE);
}
