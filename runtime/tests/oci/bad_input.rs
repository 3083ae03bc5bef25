//! Invalid requests are refused in one line, and nothing half-made is left.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{World, eventually, runs};

/// Creates a container of a changed bundle, which must fail with these words.
fn refused(world: &mut World, pointer: &str, value: Value, words: &str) {
    let before = world.config.clone();
    match world.config.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            world.config.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    let outcome = world.create("bad");
    assert_eq!(outcome.code, 1, "{pointer}: {outcome:?}");
    assert!(outcome.err.contains(words), "{pointer}: {outcome:?}");
    assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
    if let Ok(state) = fs::read_dir(world.path("state")) {
        assert_eq!(state.count(), 0, "{pointer}");
    }
    world.config = before;
}

#[test]
fn bundles_are_refused_with_the_reason() {
    let world = &mut World::new(&["serve"]);
    refused(world, "/process/args", json!("one text"), "invalid type");
    refused(world, "/process/args", json!([]), "args");
    refused(world, "/process/args", json!(["nope"]), "executable file not found in $PATH");
    refused(world, "/process/args", json!(["/nope"]), "no such file or directory");
    refused(world, "/process/args", json!(["/plain"]), "permission denied");
    refused(world, "/process/cwd", json!("tmp"), "absolute");
    refused(world, "/root/path", json!("/no/such/root"), "/no/such/root");
    refused(world, "/ociVersion", json!("9.0.0"), "9.0.0");
    refused(world, "/process", Value::Null, "process");
    let mount = |kind: &str, source: &str| json!([{"destination": "/x", "type": kind, "source": source}]);
    refused(world, "/mounts", mount("bind", "/no/such/source"), "/no/such/source");
    refused(world, "/mounts", mount("nonsense", "x"), "nonsense");
    refused(
        world,
        "/linux/namespaces",
        json!([{"type": "network", "path": "/no/such/namespace"}]),
        "/no/such/namespace",
    );
    refused(world, "/linux/sysctl", json!({"net.ipv4.no_such": "1"}), "net.ipv4.no_such");
    refused(world, "/linux/sysctl", json!({"net.ipv4.../kernel/msgmax": "1"}), "no such parameter");
    // In the network namespace of the host.
    let namespaces =
        std::mem::replace(world.config.pointer_mut("/linux/namespaces").unwrap(), json!([{"type": "pid"}]));
    refused(world, "/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "64"}), "is not allowed in the host's network");
    world.config["linux"]["namespaces"] = namespaces;
    fs::write(world.path("bundle/config.json"), "{").unwrap();
    let bundle = world.path("bundle");
    let outcome = world.run(&["create", "--bundle", bundle.to_str().unwrap(), "bad"]);
    assert!(outcome.code == 1 && outcome.err.contains("config.json"), "{outcome:?}");
}

/// A user who can write to a directory above a root must not be able to substitute another part of the host.
#[test]
fn a_root_behind_a_symbolic_link_is_refused() {
    let world = &mut World::new(&["serve"]);
    let words = "invalid rootfs: not an absolute path, or a symlink";
    symlink("rootfs", world.path("bundle/link")).unwrap();
    symlink("bundle", world.path("above")).unwrap();
    refused(world, "/root/path", json!("link"), words);
    refused(world, "/root/path", json!(world.path("above/rootfs")), words);
    // Also a link that is put there after the path was checked.
    fs::create_dir(world.path("outside")).unwrap();
    fs::copy(world.path("bundle/rootfs/guest"), world.path("outside/guest")).unwrap();
    let script = format!("cd {} && mv rootfs old && ln -s ../outside rootfs", world.path("bundle").display());
    let hooks = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    refused(world, "/hooks", hooks, words);
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1);
    fs::remove_file(world.path("bundle/rootfs")).unwrap();
    fs::rename(world.path("bundle/old"), world.path("bundle/rootfs")).unwrap();
    // The caller may give the bundle's directory any name, and a root may be beside it.
    world.config["root"]["path"] = json!("./no such/../../bundle/rootfs");
    world.write();
    world.ok(&["create", "--bundle", world.path("above").to_str().unwrap(), "a"]);
    assert_eq!(world.state("a")["rootfs"], json!(world.path("bundle/rootfs")));
}

#[test]
fn names_are_refused() {
    let world = World::new(&["serve"]);
    world.write();
    let bundle = world.path("bundle");
    for name in ["../x", ".", "..", "a/b", "a b", ""] {
        let outcome = world.run(&["create", "--bundle", bundle.to_str().unwrap(), name]);
        assert!(outcome.code == 1 && outcome.err.contains("invalid container ID format"), "{name:?}: {outcome:?}");
        for command in ["start", "state", "delete"] {
            let outcome = world.run(&[command, name]);
            assert!(outcome.code == 1 && outcome.err.contains("invalid container ID format"), "{name:?}: {outcome:?}");
        }
    }
    assert!(!world.path("x").exists());
}

#[test]
fn commands_about_nobody_fail() {
    let world = World::new(&["serve"]);
    for command in ["start", "state", "kill", "delete", "ps", "pause", "resume", "events", "update"] {
        let outcome = world.run(&[command, "nobody"]);
        assert!(outcome.code == 1 && outcome.err.contains("container does not exist"), "{command}: {outcome:?}");
    }
    assert_eq!(world.run(&["exec", "nobody", "x"]).code, 255);
    world.ok(&["delete", "--force", "nobody"]);
}

#[test]
fn a_damaged_state_is_told() {
    let world = World::new(&["serve"]);
    world.create("a");
    let pid = world.pid("a");
    let file = world.path("state/a/state.json");
    let good = fs::read(&file).unwrap();
    fs::write(&file, "{\"id\": 5}").unwrap();
    let outcome = world.run(&["state", "a"]);
    assert!(outcome.code == 1 && outcome.err.contains("damaged"), "{outcome:?}");
    assert!(world.run(&["list"]).code == 0);
    fs::write(&file, good).unwrap();
    world.ok(&["delete", "--force", "a"]);
    assert!(!runs(pid));
}

#[test]
fn a_state_of_another_process_is_a_dead_one() {
    let world = World::new(&["serve"]);
    world.ready("a");
    world.ok(&["kill", "a", "KILL"]);
    world.ended("a");
    let file = world.path("state/a/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // As after a reboot of the host: the process ID belongs to another process.
    state["pid"] = json!(std::process::id());
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(world.status("a"), "stopped");
    assert_eq!(world.run(&["kill", "a", "KILL"]).code, 1);
    world.ok(&["delete", "--force", "a"]);
}

#[test]
fn a_state_directory_that_takes_nothing_is_told() {
    let world = World::new(&["serve"]);
    fs::write(world.path("state"), "a file").unwrap();
    let outcome = world.create("a");
    assert!(outcome.code == 1 && outcome.err.contains("state"), "{outcome:?}");
    fs::remove_file(world.path("state")).unwrap();
    // Only an ordinary user cannot write here, and tests often run as root.
    fs::create_dir(world.path("state")).unwrap();
    fs::set_permissions(world.path("state"), Permissions::from_mode(0o500)).unwrap();
    let outcome = world.create("a");
    assert!(outcome.code == 0 || outcome.err.contains("state"), "{outcome:?}");
}

#[test]
fn a_killed_create_leaves_nothing_that_matters() {
    let mut world = World::new(&["serve"]);
    world.config["hooks"] = json!({"prestart": [{"path": "/bin/sleep", "args": ["sleep", "2"]}]});
    world.write();
    let bundle = world.path("bundle");
    let mut child =
        world.amber(&["create", "--bundle", bundle.to_str().unwrap(), "a"]).stderr(Stdio::null()).spawn().unwrap();
    let state = world.path("state/a/state.json");
    let sandbox = || -> i32 {
        let text = fs::read(&state).unwrap_or_default();
        let state: Value = serde_json::from_slice(&text).unwrap_or_default();
        state["pid"].as_i64().unwrap_or(0) as i32
    };
    eventually(|| sandbox() != 0);
    let sandbox = sandbox();
    let outcome = world.run(&["delete", "a"]);
    assert!(outcome.code == 1 && outcome.err.contains("creating"), "{outcome:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(|| !runs(sandbox));
    // The name is free.
    world.config["hooks"] = json!({});
    world.ready("a");
    world.ok(&["delete", "--force", "a"]);
}
