//! The scenarios of a person at a terminal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use amber_tests::setup::Setup;
use amber_tests::terminal::Terminal;
use anyhow::{Result, bail};
use libtest_mimic::Trial;

use crate::images::SERVICES;
use crate::space::Space;

const PROMPT: &str = "@@ ";
const SHELL: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];

/// What one does at a terminal.
type Scenario = fn(&Space) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] =
    &[("interactive_shell", interactive_shell), ("detach_and_attach", detach_and_attach), ("interactive_exec", exec)];

/// The names of the scenarios.
pub(crate) fn names() -> impl Iterator<Item = String> {
    SCENARIOS.iter().map(|(name, _)| (*name).to_owned())
}

/// A test for each.
pub(crate) fn trials(setup: &Arc<Setup>, space: &Arc<Space>) -> Vec<Trial> {
    SCENARIOS
        .iter()
        .map(|&(name, scenario)| {
            let test = space.runtime.test(name);
            let (setup, space, key) = (Arc::clone(setup), Arc::clone(space), test.clone());
            Trial::ignorable_test(test, move || {
                let result = scenario(&space);
                let report = result.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
                let failed: BTreeSet<String> = result.is_err().then(String::new).into_iter().collect();
                setup.judge(&key, &failed, report)
            })
        })
        .collect()
}

/// A container that goes with the scenario.
struct Container<'a>(&'a Space, &'static str);

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.0.docker(&["rm", "--force", "--volumes", self.1]);
    }
}

fn docker(space: &Space, words: &[&str]) -> Result<Terminal> {
    let mut command = space.command("docker");
    command.args(words).env("TERM", "xterm");
    Terminal::start(&command, PROMPT)
}

/// The client tells the size when the shell runs already, so it may take a moment to come.
fn has_size(terminal: &mut Terminal, size: &str) -> Result<()> {
    let wait = format!("until stty size | grep -x '{size}'; do sleep 0.1; done");
    terminal.ask(&wait, &format!("\r\n{size}\r\n"))
}

fn interactive_shell(space: &Space) -> Result<()> {
    let mut words = vec!["run", "--rm", "-it", "--hostname", "inside", "--env", "PS1=@@ ", SERVICES];
    words.extend(SHELL);
    let mut terminal = docker(space, &words)?;
    terminal.expect(PROMPT)?;
    terminal.ask("echo $((40 + 2)) $(hostname)", "\r\n42 inside\r\n")?;
    terminal.ask("test -t 0 -a -t 1 -a -t 2; echo st=$?", "\r\nst=0")?;
    has_size(&mut terminal, "30 100")?;
    terminal.resize(41, 120)?;
    has_size(&mut terminal, "41 120")?;
    terminal.begin("sleep 1000; echo not\" \"here")?;
    terminal.type_keys("\x03")?;
    terminal.expect("^C")?;
    terminal.expect(PROMPT)?;
    terminal.ask("echo st=$?", "st=130")?;
    terminal.ask("cat & until jobs | grep -q Stop; do sleep 0.1; done; jobs", "Stopped")?;
    terminal.ask("kill -KILL %1; wait; echo none=$?", "none=")?;
    terminal.ask("tty; ls -l $(tty) >/dev/null; echo st=$?", "st=0")?;
    terminal.type_keys("exit 3\r")?;
    ended_with(&mut terminal, 3)
}

fn detach_and_attach(space: &Space) -> Result<()> {
    let name = "detach-and-attach";
    let _container = Container(space, name);
    let mut words = vec!["run", "-it", "--name", name, "--env", "PS1=@@ ", SERVICES];
    words.extend(SHELL);
    let mut terminal = docker(space, &words)?;
    terminal.expect(PROMPT)?;
    terminal.ask("kept=here", "\r\n")?;
    terminal.type_keys("\x10\x11")?;
    ended_with(&mut terminal, 0)?;
    let running = space.docker(&["inspect", "--format", "{{.State.Running}}", name])?;
    if running != "true" {
        bail!("detaching ended the container");
    }
    let mut terminal = docker(space, &["attach", name])?;
    thread::sleep(Duration::from_millis(500));
    terminal.type_keys("\r")?;
    terminal.expect(PROMPT)?;
    terminal.ask("echo still $kept", "\r\nstill here\r\n")?;
    terminal.type_keys("exit 5\r")?;
    ended_with(&mut terminal, 5)
}

fn exec(space: &Space) -> Result<()> {
    let name = "interactive-exec";
    let _container = Container(space, name);
    space.docker(&["run", "--detach", "--name", name, SERVICES, "sleep", "1000"])?;
    let mut words = vec!["exec", "-it", "--env", "PS1=@@ ", name];
    words.extend(SHELL);
    let mut terminal = docker(space, &words)?;
    terminal.expect(PROMPT)?;
    has_size(&mut terminal, "30 100")?;
    terminal.resize(41, 120)?;
    has_size(&mut terminal, "41 120")?;
    terminal.ask("cat /proc/1/comm", "\r\nsleep\r\n")?;
    terminal.begin("cat")?;
    terminal.type_keys("wrong\x15right\r")?;
    terminal.expect("\r\nright\r\n")?;
    terminal.type_keys("\x03")?;
    terminal.expect(PROMPT)?;
    terminal.type_keys("exit 4\r")?;
    ended_with(&mut terminal, 4)
}

fn ended_with(terminal: &mut Terminal, code: i32) -> Result<()> {
    let status = terminal.end()?;
    if status.code() != Some(code) {
        bail!("ends with {status}, not {code}");
    }
    Ok(())
}
