//! From create to delete, in order and out of order.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use serde_json::json;

use crate::common::{World, eventually, runs};

#[test]
fn a_container_is_created_started_and_deleted() {
    let world = World::new(&["serve"]);
    assert_eq!(world.create("a").code, 0);
    assert_eq!(world.status("a"), "created");
    let pid = world.pid("a");
    assert_eq!(fs::read_to_string(world.path("pid")).unwrap(), pid.to_string());
    assert!(runs(pid));
    assert_eq!(world.printed("a"), "");
    world.ok(&["start", "a"]);
    eventually(|| world.printed("a") == "ready\n");
    assert_eq!(world.status("a"), "running");
    let refused = world.run(&["delete", "a"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("cannot delete container a that is not stopped: running"), "{refused:?}");
    let refused = world.run(&["start", "a"]);
    assert!(refused.code == 1 && refused.err.contains("cannot start an already running container"), "{refused:?}");
    let again = world.create("a");
    assert!(again.code == 1 && again.err.contains("container with given ID already exists"), "{again:?}");
    world.ok(&["kill", "a"]);
    world.ended("a");
    assert!(!runs(pid));
    assert_eq!(world.state("a")["pid"], 0);
    let refused = world.run(&["kill", "a"]);
    assert!(refused.code == 1 && refused.err.contains("container not running"), "{refused:?}");
    world.ok(&["kill", "--all", "a"]);
    let refused = world.run(&["start", "a"]);
    assert!(refused.err.contains("cannot start a container that has stopped"), "{refused:?}");
    world.ok(&["delete", "a"]);
    let gone = world.run(&["state", "a"]);
    assert!(gone.code == 1 && gone.err.contains("container does not exist"), "{gone:?}");
    world.ok(&["delete", "--force", "a"]);
    assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
}

#[test]
fn run_ends_as_the_container_does() {
    let world = World::new(&["exit", "7"]);
    world.write();
    let bundle = world.path("bundle");
    let bundle = bundle.to_str().unwrap();
    assert_eq!(world.run(&["run", "--bundle", bundle, "a"]).code, 7);
    assert_eq!(world.run(&["run", "--keep", "--bundle", bundle, "b"]).code, 7);
    assert_eq!(world.status("b"), "stopped");
    assert_eq!(world.run(&["run", "--detach", "--bundle", bundle, "c"]).code, 0);
    world.ended("c");
}

#[test]
fn a_created_container_can_be_deleted_and_killed() {
    let world = World::new(&["serve"]);
    world.create("a");
    let pid = world.pid("a");
    world.ok(&["delete", "a"]);
    assert!(!runs(pid));
    world.create("a");
    world.ok(&["kill", "a", "KILL"]);
    world.ended("a");
}

#[test]
fn a_container_ends_while_a_task_is_in_a_long_call() {
    let world = World::new(&["busy"]);
    // The first process ends, and takes the one in the call along.
    world.ready("a");
    world.ok(&["kill", "a", "TERM"]);
    world.ended("a");
    world.ok(&["delete", "a"]);
    world.ready("b");
    world.ok(&["kill", "b", "KILL"]);
    world.ended("b");
    world.ready("c");
    world.ok(&["delete", "--force", "c"]);
}

#[test]
fn signals_reach_the_first_process() {
    let world = World::new(&["serve"]);
    world.ready("a");
    world.ok(&["kill", "a", "SIGUSR1"]);
    world.ended("a");
    world.ok(&["delete", "a"]);
    world.ready("b");
    world.ok(&["kill", "--all", "b", "TERM"]);
    world.ended("b");
}

#[test]
fn a_wedged_sandbox_can_be_removed() {
    let world = World::new(&["stubborn"]);
    world.ready("a");
    let pid = world.pid("a");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    assert_eq!(world.status("a"), "running");
    assert_eq!(world.ok(&["ps", "--format", "json", "a"]).trim(), format!("[{pid}]"));
    world.ok(&["delete", "--force", "a"]);
    assert!(!runs(pid));
    world.ready("b");
    kill(Pid::from_raw(world.pid("b")), Signal::SIGSTOP).unwrap();
    world.ok(&["kill", "b", "9"]);
    world.ended("b");
}

#[test]
fn a_paused_container_stands_still() {
    let world = World::new(&["serve"]);
    world.ready("a");
    world.ok(&["pause", "a"]);
    assert_eq!(world.status("a"), "paused");
    let refused = world.run(&["pause", "a"]);
    assert!(refused.code == 1 && refused.err.contains("container not running"), "{refused:?}");
    let refused = world.run(&["exec", "a", "/guest", "exit", "1"]);
    assert!(refused.code == 255 && refused.err.contains("cannot exec in a paused container"), "{refused:?}");
    world.ok(&["resume", "a"]);
    assert_eq!(world.status("a"), "running");
    assert_eq!(world.run(&["exec", "a", "/guest", "exit", "4"]).code, 4);
    let refused = world.run(&["resume", "a"]);
    assert!(refused.code == 1 && refused.err.contains("container not paused"), "{refused:?}");
    world.ok(&["pause", "a"]);
    let pid = world.pid("a");
    world.ok(&["delete", "--force", "a"]);
    assert!(!runs(pid));
}

#[test]
fn a_container_can_be_paused_before_its_start() {
    let world = World::new(&["serve"]);
    world.create("a");
    world.ok(&["pause", "a"]);
    assert_eq!(world.status("a"), "paused");
    let refused = world.run(&["start", "a"]);
    assert!(refused.code == 1 && refused.err.contains("paused"), "{refused:?}");
    world.ok(&["resume", "a"]);
    assert_eq!(world.status("a"), "created");
    world.ok(&["start", "a"]);
    assert_eq!(world.status("a"), "running");
    world.ok(&["delete", "--force", "a"]);
}

#[test]
fn many_deletes_at_once_are_one() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let ends: Vec<(i32, String)> = thread::scope(|scope| {
        let delete = || world.run(&["delete", "--force", "a"]);
        let all: Vec<_> = (0..4).map(|_| scope.spawn(delete)).collect();
        all.into_iter().map(|one| one.join().unwrap()).map(|end| (end.code, end.err)).collect()
    });
    assert!(ends.iter().all(|(code, _)| *code == 0), "{ends:?}");
    assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
}

#[test]
fn many_creates_of_a_name_make_one() {
    let world = World::new(&["serve"]);
    world.write();
    let bundle = world.path("bundle");
    let create = ["create", "--bundle", bundle.to_str().unwrap(), "a"];
    let mut codes: Vec<i32> = thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|_| scope.spawn(|| world.run(&create).code)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    codes.sort_unstable();
    assert_eq!(codes, [0, 1, 1]);
    assert_eq!(world.status("a"), "created");
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let mut world = World::new(&["serve"]);
    let root = world.path("bundle/rootfs");
    world.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    world.config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/tmp", "type": "tmpfs"}));
    fs::create_dir(root.join("there")).unwrap();
    symlink("/there", root.join("link")).unwrap();
    // The root can only be read afterwards.
    for (id, cwd, made) in
        [("a", "/link/../new//x/", Some("new/x")), ("b", "/link/y", Some("there/y")), ("c", "/tmp/z", None)]
    {
        world.config["process"]["cwd"] = json!(cwd);
        world.ready(id);
        let Some(made) = made.map(|made| fs::metadata(root.join(made)).unwrap()) else { continue };
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (geteuid().as_raw(), getegid().as_raw(), 0o755));
    }
    assert!(!root.join("tmp/z").exists());
    // A further process gets none.
    let refused = world.run(&["exec", "--cwd", "/there/no", "a", "/guest", "serve"]);
    assert!(refused.code == 255 && refused.err.contains("/there/no"), "{refused:?}");
    // Nothing is made outside of the root.
    symlink("../../outside", root.join("out")).unwrap();
    for (cwd, reason) in [
        ("/out/x", "File exists"),
        ("/out", "File exists"),
        ("/plain/x", "Not a directory"),
        ("/plain", "Not a directory"),
        ("/proc/x", "No such file or directory"),
    ] {
        world.config["process"]["cwd"] = json!(cwd);
        let outcome = world.create("bad");
        assert!(
            outcome.code == 1 && outcome.err.contains(&format!("working directory {cwd}: {reason}")),
            "{outcome:?}"
        );
    }
    assert!(!world.path("outside").exists() && !root.join("outside").exists());
}
