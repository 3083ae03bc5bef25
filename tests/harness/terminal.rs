//! A terminal with a program on it, and a person before it who types and reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pty_process::Size;
use wait_timeout::ChildExt;

use crate::run;

/// How long each answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A program on a terminal of which this process holds the other side.
pub struct Terminal {
    keys: File,
    pty: pty_process::blocking::Pty,
    screen: Receiver<Vec<u8>>,
    seen: String,
    prompt: String,
    child: Child,
}

impl Terminal {
    /// Starts the command, with none but the variables set on it, on a new terminal of 30 lines and 100 columns.
    ///
    /// `prompt` is what [`Terminal::ask`] waits for.
    pub fn start(command: &Command, prompt: &str) -> Result<Terminal> {
        let (pty, pts) = pty_process::blocking::open()?;
        pty.resize(Size::new(30, 100))?;
        let mut started =
            pty_process::blocking::Command::new(command.get_program()).args(command.get_args()).env_clear();
        for (key, value) in command.get_envs() {
            started = started.env(key, value.unwrap_or_default());
        }
        let directory = std::env::temp_dir();
        let child = started.current_dir(directory).spawn(pts).context("cannot start the program")?;
        let keys = File::from(pty.as_fd().try_clone_to_owned()?);
        let mut output = keys.try_clone()?;
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the last process of the terminal is gone.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Terminal { keys, pty, screen, seen: String::new(), prompt: prompt.to_owned(), child })
    }

    /// Types keys, without waiting for anything.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("cannot type")
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.pty.resize(Size::new(rows, columns)).context("cannot resize")
    }

    /// Waits until `text` appears, and forgets all up to it.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    self.seen.push_str(&String::from_utf8_lossy(&bytes));
                    // What readline says about pasting stands between a line and its answer.
                    self.seen = self.seen.replace("\x1b[?2004l\r", "").replace("\x1b[?2004h", "");
                }
                Err(RecvTimeoutError::Timeout) => bail!("{text:?} does not appear; the screen shows {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the terminal closes, not showing {text:?}: {:?}", self.seen)
                }
            }
        }
    }

    /// Types a command line and waits for its answer and the next prompt.
    pub fn ask(&mut self, line: &str, answer: &str) -> Result<()> {
        self.type_keys(&format!("{line}\r"))?;
        self.expect(answer).with_context(|| format!("after {line:?}"))?;
        let prompt = self.prompt.clone();
        self.expect(&prompt).with_context(|| format!("after {line:?}"))
    }

    /// Types a command line and waits until the shell runs it, as keys typed before that would be the shell's own.
    pub fn begin(&mut self, line: &str) -> Result<()> {
        self.type_keys(&format!("echo be''gun; {line}\r"))?;
        self.expect("\r\nbegun\r\n").with_context(|| format!("after {line:?}"))?;
        thread::sleep(Duration::from_millis(700));
        Ok(())
    }

    /// Waits for the end of the program.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.child.wait_timeout(TIMEOUT)?.with_context(|| format!("does not end; the screen shows {:?}", self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            run::kill_group(self.child.id());
            let _ = self.child.wait();
        }
    }
}
