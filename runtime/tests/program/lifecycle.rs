//! Signals reach the guest, and the guest never outlives `amber`.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{amber_do, children, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts a shell script that prints a line once it is ready, and waits for that line.
fn start(script: &str) -> Child {
    let mut child = amber_do(&["sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// The processes below one, and its own.
pub(crate) fn tree(root: u32) -> HashSet<u32> {
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        for parent in found.clone() {
            found.extend(children(parent));
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Asserts that none of these processes is left, waiting a moment for the host to clear them away.
pub(crate) fn gone(processes: &HashSet<u32>) {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<_> = processes.iter().filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap()).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "still there: {left:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_signal_ends_the_command() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut child = start("echo ready; exec sleep 1000");
        let processes = tree(child.id());
        send(&child, signal);
        assert_eq!(wait(&mut child).code(), Some(code));
        gone(&processes);
    }
}

#[test]
fn a_signal_can_be_caught() {
    let mut child = start("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done");
    send(&child, Signal::SIGTERM);
    assert_eq!(wait(&mut child).code(), Some(9));
}

#[test]
fn nothing_outlives_the_command() {
    let mut child = start("sleep 1000 & setsid sleep 1000 & echo ready; read -r line; exit 4");
    let processes = tree(child.id());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(wait(&mut child).code(), Some(4));
    gone(&processes);
}

#[test]
fn sigkill_leaves_nothing() {
    for pause in [0, 3, 10, 30, 100] {
        let mut child = start("sleep 1000 & (while :; do /bin/true; done) & echo ready; while :; do :; done");
        thread::sleep(Duration::from_millis(pause));
        let processes = tree(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        gone(&processes);
    }
    // While it starts.
    for pause in [0, 1, 2, 4, 8, 16] {
        let mut child = amber_do(&["sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(pause));
        let processes = tree(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        gone(&processes);
    }
}

#[test]
fn an_idle_guest_costs_no_processor_time() {
    let mut child = start("echo ready; exec sleep 1000");
    let used = || -> u64 {
        let ticks = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).to_string();
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
        };
        tree(child.id()).into_iter().map(ticks).sum()
    };
    thread::sleep(Duration::from_millis(500));
    let before = used();
    thread::sleep(Duration::from_millis(1500));
    let after = used();
    send(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert!(after - before <= 1, "{} ticks in 1.5 s", after - before);
}
