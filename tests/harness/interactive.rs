//! A person at a terminal: an interactive shell driven through a pty, natively and in Amber.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libtest_mimic::{Completion, Trial};
use pty_process::Size;
use wait_timeout::ChildExt;

use crate::setup::Setup;
use crate::{real, run};

/// How long each answer of the shell may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell on a terminal of which this process holds the other side.
struct Terminal {
    keys: File,
    pty: pty_process::blocking::Pty,
    screen: Receiver<Vec<u8>>,
    seen: String,
    child: Child,
}

impl Terminal {
    fn start(command: &Command) -> Result<Terminal> {
        let (pty, pts) = pty_process::blocking::open()?;
        pty.resize(Size::new(30, 100))?;
        let mut started =
            pty_process::blocking::Command::new(command.get_program()).args(command.get_args()).env_clear();
        for (key, value) in command.get_envs() {
            started = started.env(key, value.unwrap_or_default());
        }
        let directory = std::env::temp_dir();
        let child = started.current_dir(directory).spawn(pts).context("cannot start the shell")?;
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
        Ok(Terminal { keys, pty, screen, seen: String::new(), child })
    }

    fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("cannot type")
    }

    /// Waits until `text` appears, and forgets all up to it.
    fn expect(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
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
    fn ask(&mut self, line: &str, answer: &str) -> Result<()> {
        self.type_keys(&format!("{line}\r"))?;
        self.expect(answer).with_context(|| format!("after {line:?}"))?;
        self.expect(PROMPT).with_context(|| format!("after {line:?}"))
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

const PROMPT: &str = "@@ ";

/// Types something and waits for what must come of it.
type Step = fn(&mut Terminal) -> Result<()>;

/// What one does at a terminal; each step is what a native shell does.
const STEPS: &[(&str, Step)] = &[
    ("prompt", |terminal| terminal.expect(PROMPT)),
    ("echo", |terminal| terminal.ask("echo $((40 + 2))", "\r\n42\r\n")),
    ("is_a_terminal", |terminal| terminal.ask("test -t 0 -a -t 1 -a -t 2; echo st=$?", "\r\nst=0")),
    ("size", |terminal| terminal.ask("stty size", "\r\n30 100\r\n")),
    ("resize", |terminal| {
        terminal.ask("trap 'echo resized' WINCH", "\r\n")?;
        terminal.pty.resize(Size::new(41, 120))?;
        terminal.type_keys("\r")?;
        terminal.expect("resized")?;
        terminal.expect(PROMPT)?;
        terminal.ask("trap - WINCH; stty size", "\r\n41 120\r\n")
    }),
    ("interrupt", |terminal| {
        terminal.type_keys("sleep 1000; echo not\" \"here\r")?;
        thread::sleep(Duration::from_millis(700));
        terminal.type_keys("\x03")?;
        terminal.expect("^C")?;
        terminal.expect(PROMPT)?;
        terminal.ask("echo st=$?", "st=130")
    }),
    ("stop_and_continue", |terminal| {
        terminal.type_keys("sleep 1000\r")?;
        thread::sleep(Duration::from_millis(700));
        terminal.type_keys("\x1a")?;
        terminal.expect("Stopped")?;
        terminal.expect(PROMPT)?;
        terminal.ask("jobs", "[1]+  Stopped")?;
        terminal.type_keys("fg\r")?;
        terminal.expect("sleep 1000\r\n")?;
        thread::sleep(Duration::from_millis(700));
        terminal.type_keys("\x03")?;
        terminal.expect(PROMPT)?;
        terminal.ask("jobs; echo none=$?", "none=0")
    }),
    ("background_reads_stop", |terminal| {
        terminal.ask("cat & sleep 0.5; jobs", "Stopped")?;
        terminal.ask("kill -9 %1; sleep 0.5; jobs", "Killed")
    }),
    ("canonical_input", |terminal| {
        terminal.type_keys("cat\r")?;
        thread::sleep(Duration::from_millis(500));
        terminal.type_keys("wrong\x15right\x7fT\r")?;
        terminal.expect("\r\nrighT\r\n")?;
        terminal.type_keys("\x04")?;
        terminal.expect(PROMPT)
    }),
    ("quit_key", |terminal| {
        terminal.type_keys("(ulimit -c 0; exec sleep 1000)\r")?;
        thread::sleep(Duration::from_millis(700));
        terminal.type_keys("\x1c")?;
        terminal.expect(PROMPT)?;
        terminal.ask("echo st=$?", "st=131")
    }),
    ("no_echo", |terminal| {
        terminal.type_keys("read -s word; echo got=$word\r")?;
        thread::sleep(Duration::from_millis(500));
        terminal.type_keys("secret\r")?;
        terminal.expect("\r\ngot=secret")?;
        terminal.expect(PROMPT)
    }),
    ("line_editing", |terminal| {
        terminal.type_keys("echo abX\x7fc\x01\x05; echo z\r")?;
        terminal.expect("\r\nabc\r\nz\r\n")?;
        terminal.expect(PROMPT)?;
        terminal.type_keys("\x1b[A\r")?;
        terminal.expect("\r\nabc\r\nz\r\n")?;
        terminal.expect(PROMPT)
    }),
    ("full_screen", |terminal| {
        terminal.type_keys("seq 1 5000 | less\r")?;
        terminal.expect("\x1b[?1049h")?;
        terminal.expect("\n40")?;
        terminal.type_keys("G")?;
        terminal.expect("5000")?;
        terminal.type_keys("q")?;
        terminal.expect("\x1b[?1049l")?;
        terminal.expect(PROMPT)
    }),
    ("editor", |terminal| {
        terminal.type_keys("vi /tmp/edited\r")?;
        terminal.expect("\x1b[?1049h")?;
        thread::sleep(Duration::from_millis(700));
        terminal.type_keys("ihello from vi\x1b:wq\r")?;
        terminal.expect("\x1b[?1049l")?;
        terminal.expect(PROMPT)?;
        terminal.ask("cat /tmp/edited", "\r\nhello from vi\r\n")
    }),
    ("nested_shell", |terminal| {
        terminal.type_keys("sh\r")?;
        thread::sleep(Duration::from_millis(500));
        terminal.type_keys("echo inner=$((6 * 7))\r")?;
        terminal.expect("inner=42")?;
        terminal.type_keys("\x04")?;
        terminal.expect(PROMPT)
    }),
    ("leave", |terminal| {
        terminal.type_keys("exit 3\r")?;
        let status = terminal.child.wait_timeout(PATIENCE)?.context("does not end")?;
        if status.code() != Some(3) {
            bail!("ends with {status}");
        }
        Ok(())
    }),
];

/// One test for each mode; its parts are the steps.
pub fn trials(setup: &Arc<Setup>, platforms: &[&str]) -> Vec<Trial> {
    let modes = std::iter::once("native").chain(platforms.iter().copied());
    modes
        .map(|mode| {
            let name = format!("{mode}::real::interactive");
            let (mode, setup, key) = (mode.to_owned(), Arc::clone(setup), name.clone());
            Trial::ignorable_test(name, move || match session(&mode, &setup) {
                Ok(None) => Ok(Completion::ignored_with("native runs need root")),
                Ok(Some((failed, report))) => setup.judge(&key, &failed, report),
                Err(error) => Err(format!("{error:#}").into()),
            })
        })
        .collect()
}

/// Goes through the steps until one fails: that one and all after it have failed. `None` if it cannot be run here.
fn session(mode: &str, setup: &Setup) -> Result<Option<(BTreeSet<String>, String)>> {
    let native = setup.native()?;
    if native.obstacle().is_some() {
        return Ok(None);
    }
    let tree = setup.tree()?;
    let scratch = tempfile::tempdir().context("a directory to run in")?;
    let mut command = if mode == "native" {
        let mut flags = real::native_flags(tree, &setup.sources);
        flags.extend(["-d".to_owned(), scratch.path().display().to_string(), "-t".to_owned()]);
        native.command(&flags, "/bin/bash".as_ref())
    } else {
        let mut flags = real::amber_flags(tree, &setup.sources);
        flags.extend(["--env", "PS1=@@ ", "--env", "TERM=xterm"].map(str::to_owned));
        let mut command = setup.amber()?.run(mode, &flags);
        command.arg("/bin/bash");
        command
    };
    command.args(["--norc", "--noprofile", "-i"]).env("PS1", PROMPT).env("TERM", "xterm");
    let mut terminal = Terminal::start(&command)?;
    let mut failed = BTreeSet::new();
    let mut report = String::new();
    for (name, step) in STEPS {
        if failed.is_empty() {
            if let Err(error) = step(&mut terminal) {
                report = format!("{name}: {error:#}");
                failed.insert((*name).to_owned());
            }
        } else {
            failed.insert((*name).to_owned());
        }
    }
    Ok(Some((failed, report)))
}
