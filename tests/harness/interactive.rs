//! A person at a terminal: an interactive shell driven through a pty, natively and in Amber.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libtest_mimic::{Completion, Trial};

use crate::real;
use crate::setup::Setup;
use crate::terminal::Terminal;

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
        terminal.resize(41, 120)?;
        terminal.type_keys("\r")?;
        terminal.expect("resized")?;
        terminal.expect(PROMPT)?;
        terminal.ask("trap - WINCH; stty size", "\r\n41 120\r\n")
    }),
    ("interrupt", |terminal| {
        terminal.begin("sleep 1000; echo not\" \"here")?;
        terminal.type_keys("\x03")?;
        terminal.expect("^C")?;
        terminal.expect(PROMPT)?;
        terminal.ask("echo st=$?", "st=130")
    }),
    ("stop_and_continue", |terminal| {
        terminal.begin("sleep 1000")?;
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
        terminal.ask("cat & until jobs | grep -q Stop; do sleep 0.1; done; jobs", "Stopped")?;
        terminal.ask("kill -9 %1; while kill -0 %1 2>/dev/null; do sleep 0.1; done; jobs", "Killed")
    }),
    ("canonical_input", |terminal| {
        terminal.begin("cat")?;
        terminal.type_keys("wrong\x15right\x7fT\r")?;
        terminal.expect("\r\nrighT\r\n")?;
        terminal.type_keys("\x04")?;
        terminal.expect(PROMPT)
    }),
    ("quit_key", |terminal| {
        terminal.begin("(ulimit -c 0; exec sleep 1000)")?;
        terminal.type_keys("\x1c")?;
        terminal.expect(PROMPT)?;
        terminal.ask("echo st=$?", "st=131")
    }),
    ("no_echo", |terminal| {
        terminal.begin("read -s word; echo got=$word")?;
        terminal.type_keys("secret\r")?;
        terminal.expect("got=secret")?;
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
        terminal.begin("sh")?;
        terminal.type_keys("echo inner=$((6 * 7))\r")?;
        terminal.expect("inner=42")?;
        terminal.type_keys("\x04")?;
        terminal.expect(PROMPT)
    }),
    ("leave", |terminal| {
        terminal.type_keys("exit 3\r")?;
        let status = terminal.end()?;
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
    let mut terminal = Terminal::start(&command, PROMPT)?;
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
