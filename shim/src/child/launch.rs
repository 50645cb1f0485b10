//! Following a new process from its birth to its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::init::channel::{Channel, Event, Failure};

/// How far a process is on its way to exec. The descriptor becomes readable when it got further.
#[derive(Debug)]
pub(crate) struct Launch {
    channel: Channel,
    executing: Executing,
    console: Option<OwnedFd>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Executing {
    NotYet,
    Announced,
}

/// Stations of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing new.
    Waiting,
    /// Built; waits for [`Launch::release`].
    Ready,
    /// The program runs.
    Running,
}

/// Why a launch ended without a running program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// A step failed in the child.
    #[error(transparent)]
    Failed(Failure),
    /// Killed, most likely by the kernel for its memory limit.
    #[error("the process ended before it ran its program")]
    Died,
    /// No conversation.
    #[error("talk to the new process")]
    Channel {
        /// Cause.
        source: Errno,
    },
}

impl Launch {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            executing: Executing::NotYet,
            console: None,
            notes: Vec::new(),
        }
    }

    /// Opens the gate of a process that is [`Progress::Ready`].
    ///
    /// # Errors
    /// When it has ended meanwhile.
    pub(crate) fn release(&self) -> Result<(), LaunchError> {
        match self.channel.release() {
            Ok(()) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(LaunchError::Died),
            Err(source) => Err(LaunchError::Channel { source }),
        }
    }

    /// Takes in what the process has said since. Never blocks.
    ///
    /// # Errors
    /// Why there will be no program.
    pub(crate) fn advance(&mut self) -> Result<Progress, LaunchError> {
        loop {
            match self
                .channel
                .receive()
                .map_err(|source| LaunchError::Channel { source })?
            {
                None => return Ok(Progress::Waiting),
                Some(Event::Ready) => return Ok(Progress::Ready),
                Some(Event::Note(note)) => self.notes.push(note),
                Some(Event::Handed(master)) => self.console = Some(master),
                Some(Event::Executing) => self.executing = Executing::Announced,
                Some(Event::Failed(failure)) => return Err(LaunchError::Failed(failure)),
                Some(Event::Closed) if self.executing == Executing::Announced => return Ok(Progress::Running),
                Some(Event::Closed) => return Err(LaunchError::Died),
            }
        }
    }

    /// The master of the process's terminal, once it has come.
    pub(crate) fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What was done another way than asked, for the shim's log.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
