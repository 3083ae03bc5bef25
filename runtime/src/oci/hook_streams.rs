//! The standard streams of a hook: the state that it reads, and what it prints.
//!
//! A hook is over when its process has ended and nobody has its streams any more, as with runc: a process that it leaves
//! behind may still have them. So the deadline of a hook is that of its streams too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use amber_host::process::ProcessHandle;
use amber_host::signals::SignalWatch;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::unistd::{read, write};

/// How many bytes of what a hook prints are kept of each stream, for the message that it failed: it may print without end.
const KEPT: usize = 64 << 10;

/// What ends the wait for a hook.
#[derive(Clone, Copy, Default)]
pub struct Until<'a> {
    /// This time.
    pub deadline: Option<Instant>,
    /// One of these signals, which is left for the caller to read.
    pub signals: Option<&'a SignalWatch>,
}

/// How the wait for a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The hook is over.
    Over,
    /// Its time is up.
    Late,
    /// By a signal to this process.
    Interrupted,
}

/// Our ends of a hook's streams.
pub struct Streams<'a> {
    /// What it has not read yet of the state.
    rest: &'a [u8],
    input: Option<OwnedFd>,
    output: [Output; 2],
}

/// A stream that a hook prints on.
struct Output {
    end: Option<OwnedFd>,
    text: Vec<u8>,
}

impl<'a> Streams<'a> {
    /// Those of a hook that reads `state` from a pipe and prints on two, standard output and standard error.
    ///
    /// # Errors
    /// The host's.
    pub fn new(state: &'a str, input: OwnedFd, output: [OwnedFd; 2]) -> io::Result<Streams<'a>> {
        for pipe in output.iter().chain([&input]) {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let output = output.map(|end| Output { end: Some(end), text: Vec::new() });
        Ok(Streams { rest: state.as_bytes(), input: Some(input), output })
    }

    /// Serves the streams until nobody has them any more and this process has ended, or until something ends the wait.
    ///
    /// # Errors
    /// The host lacks memory.
    pub fn serve(&mut self, process: Option<&ProcessHandle>, until: Until<'_>) -> io::Result<Outcome> {
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

    /// What the hook printed, or the beginning of it.
    pub fn printed(&self) -> [String; 2] {
        self.output.each_ref().map(|output| String::from_utf8_lossy(&output.text).into_owned())
    }

    /// Gives the hook some of the state, and the end of it behind the last byte.
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

    /// Takes some of what was printed.
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
