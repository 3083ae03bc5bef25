//! Running `amber` as a user would.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a command ended and what it printed.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status; killed by a signal is a failure of the test.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The program under test, without arguments.
pub(crate) fn amber() -> Command {
    Command::new(env!("CARGO_BIN_EXE_amber"))
}

/// The processes that are children of one.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let told = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if told == Some(parent) {
            found.push(pid);
        }
    }
    found
}

/// The lines of a process's `status`.
pub(crate) fn status(process: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(process.join("status")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.into(), value.trim().into()))
        .collect()
}

/// `amber do` with these arguments.
pub(crate) fn amber_do(args: &[&str]) -> Command {
    let mut command = amber();
    command.arg("do").args(args);
    command
}

/// Waits for a child's end, and kills it where that takes too long.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().expect("waiting works") {
            return status;
        }
        if Instant::now() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("amber did not end in time");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command without input to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program under test starts");
    finish(&mut child)
}

/// Collects what a child with pipes prints, to its end.
pub(crate) fn finish(child: &mut Child) -> Outcome {
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let out = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = out.read_to_end(&mut text);
        text
    });
    let err = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.read_to_end(&mut text);
        text
    });
    let status = wait(child);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome {
        code: status.code().unwrap_or_else(|| panic!("amber was killed: {status}")),
        out: text(out.join().expect("a reader")),
        err: text(err.join().expect("a reader")),
    }
}
