//! Hooks run at their time, with the state on standard input.

use std::fs;

use serde_json::{Value, json};

use crate::common::World;

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
