//! The standard streams of a hook: the state that it reads, and its output.
//!
//! As with runc, a hook is over when its process has ended and no process has its streams open: one that it leaves
//! behind may still have them. So the deadline of a hook covers its streams.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::unistd::{read, write};

/// Bytes kept of each output stream for the error message; a hook may print without end.
const KEPT: usize = 64 << 10;

/// Conditions that end the wait for a hook.
#[derive(Clone, Copy, Default)]
pub(crate) struct Until<'a> {
    /// The time limit.
    pub deadline: Option<Instant>,
    /// Any of these signals; it stays pending for the caller to read.
    pub signals: Option<&'a SignalWatch>,
}

/// How the wait for a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The hook is over.
    Over,
    /// The deadline passed.
    Late,
    /// A signal to this process interrupted the wait.
    Interrupted,
}

/// The runtime's ends of a hook's streams.
pub(crate) struct Streams<'a> {
    /// The part of the state that is still to be written.
    rest: &'a [u8],
    input: Option<OwnedFd>,
    output: [Output; 2],
}

/// An output stream of a hook.
struct Output {
    end: Option<OwnedFd>,
    text: Vec<u8>,
}

impl<'a> Streams<'a> {
    /// Takes the pipe from which the hook reads `state`, and those of its standard output and standard error.
    ///
    /// # Errors
    /// Errors of the host.
    pub(crate) fn new(state: &'a str, input: OwnedFd, output: [OwnedFd; 2]) -> io::Result<Streams<'a>> {
        for pipe in output.iter().chain([&input]) {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let output = output.map(|end| Output { end: Some(end), text: Vec::new() });
        Ok(Streams { rest: state.as_bytes(), input: Some(input), output })
    }

    /// Serves the streams until all are closed and the process has ended, or until a condition ends the wait.
    ///
    /// # Errors
    /// The host is out of memory.
    pub(crate) fn serve(&mut self, process: Option<&ProcessHandle>, until: Until<'_>) -> io::Result<Outcome> {
        let mut process = process.map(AsFd::as_fd);
        loop {
            let left = until.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Outcome::Late);
            }
            let [out, err] = &self.output;
            let waits = [
                until.signals.map(|signals| (signals.as_fd(), PollFlags::POLLIN)),
                process.map(|process| (process, PollFlags::POLLIN)),
                self.input.as_ref().map(|end| (end.as_fd(), PollFlags::POLLOUT)),
                out.wait(),
                err.wait(),
            ];
            if waits.iter().skip(1).all(Option::is_none) {
                return Ok(Outcome::Over);
            }
            let mut waited: Vec<_> = waits.iter().flatten().map(|&(end, events)| PollFd::new(end, events)).collect();
            match ppoll(&mut waited, left.map(Into::into), None) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let mut events = waited.iter().map(|wait| wait.any() == Some(true));
            let [interrupted, ended, readable, out, err] =
                waits.map(|wait| wait.is_some() && events.next() == Some(true));
            if interrupted {
                return Ok(Outcome::Interrupted);
            }
            if ended {
                process = None;
            }
            if readable {
                self.feed();
            }
            for (output, ready) in self.output.iter_mut().zip([out, err]) {
                if ready {
                    output.take();
                }
            }
        }
    }

    /// The output of the hook, truncated.
    pub(crate) fn printed(&self) -> [String; 2] {
        self.output.each_ref().map(|output| String::from_utf8_lossy(&output.text).into_owned())
    }

    /// Writes some of the state, and closes the pipe after the last byte.
    fn feed(&mut self) {
        match self.input.as_ref().map(|end| write(end, self.rest)) {
            Some(Ok(length)) => self.rest = self.rest.get(length..).unwrap_or_default(),
            Some(Err(Errno::EAGAIN | Errno::EINTR)) => return,
            // Not every hook reads it.
            _ => self.rest = &[],
        }
        if self.rest.is_empty() {
            self.input = None;
        }
    }
}

impl Output {
    fn wait(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.end.as_ref().map(|end| (end.as_fd(), PollFlags::POLLIN))
    }

    /// Reads some of the output.
    fn take(&mut self) {
        let mut bytes = [0; 4096];
        match self.end.as_ref().map(|end| read(end, &mut bytes)) {
            Some(Ok(length)) if length > 0 => {
                let kept = length.min(KEPT.saturating_sub(self.text.len()));
                self.text.extend_from_slice(bytes.get(..kept).unwrap_or_default());
            }
            Some(Err(Errno::EAGAIN | Errno::EINTR)) => {}
            _ => self.end = None,
        }
    }
}
