//! Sandboxes have nothing in common by which one could reach another, or anything outside.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{amber_do, children, status, wait};
use crate::confinement::{SCRIPT, Waiting, for_user, is_root};
use crate::lifecycle::{gone, tree};

fn of(pid: u32) -> std::collections::HashMap<String, String> {
    status(Path::new(&format!("/proc/{pid}")))
}

fn on_ptrace() -> Waiting {
    Waiting::start(&mut amber_do(&[&["--platform", "ptrace"][..], &SCRIPT].concat()))
}

/// Asserts that all of a sandbox but the process outside is in a PID namespace of its own, of which it is the first.
fn is_in_a_namespace(waiting: &Waiting) {
    let outside = fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    let own = waiting.link("ns/pid");
    assert_ne!(own, outside);
    assert_eq!(of(waiting.pid)["NSpid"], format!("{}\t1", waiting.pid));
    for stub in children(waiting.pid) {
        assert_eq!(fs::read_link(format!("/proc/{stub}/ns/pid")).unwrap().display().to_string(), own);
    }
}

#[test]
fn every_sandbox_has_a_pid_namespace() {
    let waiting = on_ptrace();
    assert!(!children(waiting.pid).is_empty());
    is_in_a_namespace(&waiting);
    waiting.end();
    if is_root() {
        let (_directory, mut command) = for_user();
        let waiting = Waiting::start(command.arg("do").args(SCRIPT));
        is_in_a_namespace(&waiting);
        waiting.end();
    }
}

#[test]
fn nothing_outside_can_be_named_inside() {
    if !is_root() {
        return;
    }
    let waiting = on_ptrace();
    let inside = |script: &str| {
        let namespace = format!("--pid=/proc/{}/ns/pid", waiting.pid);
        Command::new("nsenter").args([&namespace, "sh", "-c", script]).output().unwrap()
    };
    assert!(inside("kill -0 1").status.success());
    for pid in [std::process::id(), waiting.child.id()] {
        let outcome = inside(&format!("kill -0 {pid}"));
        assert!(!outcome.status.success() && String::from_utf8_lossy(&outcome.stderr).contains("No such process"));
    }
    waiting.end();
}

#[test]
fn stubs_of_two_sandboxes_have_different_users() {
    if !is_root() {
        return;
    }
    let users = |waiting: &Waiting| {
        let sandbox = of(waiting.pid);
        for name in ["Uid", "Gid"] {
            let numbers: Vec<&str> = sandbox[name].split_whitespace().collect();
            assert_eq!(numbers[1..], ["0"; 3], "{sandbox:?}");
            let stubs = children(waiting.pid);
            assert!(!stubs.is_empty());
            for stub in stubs {
                let stub = of(stub);
                assert_eq!(stub[name].split_whitespace().collect::<Vec<_>>(), [numbers[0]; 4], "{stub:?}");
                assert_eq!(stub["Groups"], "");
            }
        }
        sandbox["Uid"].split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    let (one, other) = (on_ptrace(), on_ptrace());
    let (first, second) = (users(&one), users(&other));
    assert!(first != second && [first, second].iter().all(|&user| user >= 0x7000_0000), "{first} {second}");
    one.end();
    other.end();
}

#[test]
fn speculation_is_restricted_if_asked_for() {
    let mitigated = |waiting: &Waiting| {
        let all = [waiting.pid].into_iter().chain(children(waiting.pid)).map(of);
        all.map(|status| {
            ["Speculation_Store_Bypass", "SpeculationIndirectBranch"].map(|name| {
                let state = status.get(name).map_or("unknown", String::as_str);
                // As far as the host's processor has the fault.
                state.contains("force")
                    || state.contains("not vulnerable")
                    || state.contains("not affected")
                    || state.contains("always disabled")
                    || state.contains("globally mitigated")
            })
        })
        .collect::<Vec<_>>()
    };
    let arguments = [&["--speculation-mitigations", "--platform", "ptrace"][..], &SCRIPT].concat();
    let probe = crate::common::run(&mut amber_do(&["--speculation-mitigations", "true"]));
    if probe.code != 0 {
        assert!(probe.code == 125 && probe.err.contains("--speculation-mitigations: "), "{probe:?}");
        return;
    }
    let waiting = Waiting::start(&mut amber_do(&arguments));
    let found = mitigated(&waiting);
    assert!(found.len() > 1 && found.iter().all(|process| *process == [true; 2]), "{found:?}");
    waiting.end();
}

#[test]
fn a_killed_part_leaves_nothing() {
    for platform in ["ptrace", "auto"] {
        for outside in [true, false] {
            let command = ["--platform", platform, "sh", "-c", "sleep 1000 & echo ready; read line"];
            let mut waiting = Waiting::start(&mut amber_do(&command));
            let processes = tree(waiting.child.id());
            let victim = if outside { waiting.child.id() } else { waiting.pid };
            kill(Pid::from_raw(victim as i32), Signal::SIGKILL).unwrap();
            let ended = wait(&mut waiting.child);
            if !outside {
                assert_eq!(ended.code(), Some(128 + 9));
            }
            gone(&processes);
        }
    }
}
