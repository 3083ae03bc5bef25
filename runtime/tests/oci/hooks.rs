//! Hooks run at their time, with the state on standard input.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{World, eventually, runs};

fn hook(world: &World, name: &str) -> Value {
    let log = world.path("hooks");
    let script = format!("printf '%s ' {name} >> {0}; cat >> {0}; echo >> {0}", log.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let mut world = World::new(&["serve"]);
    let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), hook(&world, name))).collect();
    world.config["hooks"] = hooks.into();
    world.config["annotations"] = json!({"key": "value"});
    world.ready("a");
    let pid = world.pid("a");
    world.ok(&["delete", "--force", "a"]);
    let text = fs::read_to_string(world.path("hooks")).unwrap();
    let lines: Vec<(&str, Value)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, state)| (name, serde_json::from_str(state).unwrap()))
        .collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), names);
    for ((_, state), status) in lines.iter().zip(["creating", "creating", "creating", "running", "stopped"]) {
        assert_eq!(state["status"], status);
        assert_eq!(state["id"], "a");
        assert_eq!(state["annotations"]["key"], "value");
        assert_eq!(state["bundle"], world.path("bundle").to_str().unwrap());
        assert_eq!(state["pid"], if status == "stopped" { 0 } else { pid });
    }
}

#[test]
fn a_hook_that_fails_takes_the_container_back() {
    let mut world = World::new(&["serve"]);
    for (name, words) in [
        (vec!["/bin/sh", "sh", "-c", "echo out; echo err >&2; exit 3"], "exit status 3, stdout: out, stderr: err"),
        (vec!["/no/such/hook", "hook"], "/no/such/hook"),
    ] {
        world.config["hooks"] = json!({"createRuntime": [{"path": name[0], "args": &name[1..]}]});
        let outcome = world.create("a");
        assert!(outcome.code == 1 && outcome.err.contains(words), "{outcome:?}");
        assert!(outcome.err.contains("error running hook #0"), "{outcome:?}");
        assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
    }
}

#[test]
fn a_hook_ends_in_time() {
    let mut world = World::new(&["serve"]);
    world.config["hooks"] = json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    let outcome = world.create("a");
    assert!(outcome.code == 1 && outcome.err.contains("past specified timeout"), "{outcome:?}");
}

/// A container with hooks of its own, which write to the file `log/hooks`.
fn with_own_hooks(hooks: Value) -> World {
    let mut world = World::new(&["serve"]);
    let log = world.path("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
    let mounts = world.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/log", "source": log, "type": "bind", "options": ["rbind", "rw"]}));
    world.config["process"]["user"] = json!({"uid": 5, "gid": 6});
    world.config["process"]["cwd"] = json!("/proc");
    world.config["hooks"] = json!({"startContainer": hooks});
    world
}

#[test]
fn hooks_of_the_container_run_in_it_before_its_program() {
    let world = with_own_hooks(json!([
        {"path": "/guest", "args": ["first", "hook"], "env": ["H=1"]},
        {"path": "/guest", "args": ["second", "hook", "0"], "env": ["H=2"], "timeout": 20},
    ]));
    assert_eq!(world.create("a").code, 0);
    assert!(!world.path("log/hooks").exists());
    world.ok(&["start", "a"]);
    let text = fs::read_to_string(world.path("log/hooks")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("first 1 5 /proc 1 {") && lines[1].starts_with("second 1 5 /proc 2 {"), "{text}");
    let state: Value = serde_json::from_str(&lines[0]["first 1 5 /proc 1 ".len()..]).unwrap();
    assert_eq!((&state["status"], &state["pid"], &state["id"]), (&json!("created"), &json!(1), &json!("a")));
    eventually(|| world.printed("a") == "ready\n");
}

#[test]
fn a_hook_of_the_container_that_fails_ends_it() {
    let world = with_own_hooks(json!([{"path": "/guest", "args": ["guest", "hook", "3"]}, {"path": "/guest"}]));
    assert_eq!(world.create("a").code, 0);
    let outcome = world.run(&["start", "a"]);
    let words = "error running hook #0: error running hook: exit status 3, stdout: out, stderr: err";
    assert!(outcome.code == 1 && outcome.err.contains(words), "{outcome:?}");
    assert_eq!(world.status("a"), "stopped");
    assert_eq!(world.printed("a"), "");
    world.ok(&["delete", "a"]);

    let world = with_own_hooks(json!([{"path": "/no/such"}]));
    let bundle = world.path("bundle");
    world.write();
    let outcome = world.run(&["run", "--bundle", bundle.to_str().unwrap(), "a"]);
    assert!(outcome.err.contains("error running hook #0") && outcome.err.contains("/no/such"), "{outcome:?}");
    assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
}

#[test]
fn a_hook_of_the_container_ends_in_time_or_with_it() {
    let world =
        with_own_hooks(json!([{"path": "/guest", "args": ["guest", "hook", "wait"], "env": ["H=3"], "timeout": 1}]));
    assert_eq!(world.create("a").code, 0);
    let outcome = world.run(&["start", "a"]);
    assert!(outcome.code == 1 && outcome.err.contains("past specified timeout of 1s"), "{outcome:?}");

    let world = with_own_hooks(json!([{"path": "/guest", "args": ["guest", "hook", "wait"]}]));
    assert_eq!(world.create("a").code, 0);
    let mut start = world.amber(&["start", "a"]).stderr(Stdio::null()).spawn().unwrap();
    eventually(|| world.path("log/hooks").exists());
    world.ok(&["delete", "--force", "a"]);
    assert!(!start.wait().unwrap().success());
}

/// A hook is over when no process has its streams open.
#[test]
fn who_a_hook_leaves_behind_does_not_outlast_its_time() {
    let world =
        with_own_hooks(json!([{"path": "/guest", "args": ["guest", "hook", "leave"], "env": ["H=4"], "timeout": 1}]));
    assert_eq!(world.create("a").code, 0);
    let outcome = world.run(&["start", "a"]);
    assert!(outcome.code == 1 && outcome.err.contains("past specified timeout of 1s"), "{outcome:?}");
    assert_eq!(world.status("a"), "stopped");

    let mut world = World::new(&["serve"]);
    let left = world.path("left");
    // Neither does it read the state, which is more than a pipe takes.
    let script = format!("sleep 1000 & echo $! > {}", left.display());
    world.config["annotations"] = json!({"much": "x".repeat(200_000)});
    world.config["hooks"] = json!({"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1}]});
    let outcome = world.create("a");
    assert!(outcome.code == 1 && outcome.err.contains("past specified timeout of 1s"), "{outcome:?}");
    let left = fs::read_to_string(left).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
}

/// Waits until a command watches signals, and ends it by one.
fn ended_by_signal(mut command: Child) {
    let pid = command.id() as i32;
    eventually(|| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
        u64::from_str_radix(blocked, 16).unwrap() & 1 << (Signal::SIGTERM as u64 - 1) != 0
    });
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    eventually(|| command.try_wait().unwrap().is_some());
}

#[test]
fn a_signal_ends_a_run_whose_hook_takes_long() {
    let inside = with_own_hooks(json!([{"path": "/guest", "args": ["guest", "hook", "wait"], "env": ["H=5"]}]));
    let mut outside = with_own_hooks(json!([]));
    let script = format!("echo > {}; exec sleep 1000", outside.path("log/hooks").display());
    outside.config["hooks"] = json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    for world in [inside, outside] {
        world.write();
        let run = world.amber(&["run", "--bundle", world.path("bundle").to_str().unwrap(), "a"]);
        let run = { run }.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually(|| world.path("log/hooks").exists());
        ended_by_signal(run);
        assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
    }
}

#[test]
fn a_signal_ends_an_exec_that_the_sandbox_does_not_answer() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let sandbox = Pid::from_raw(world.pid("a"));
    kill(sandbox, Signal::SIGSTOP).unwrap();
    let exec = world.amber(&["exec", "a", "/guest", "serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    ended_by_signal(exec.unwrap());
    kill(sandbox, Signal::SIGCONT).unwrap();
    assert!(runs(sandbox.as_raw()));
    assert_eq!(world.status("a"), "running");
}
