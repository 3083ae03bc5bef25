//! Containers have nothing in common by which one could reach another, or anything outside.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::json;

use crate::common::{World, eventually, runs};

/// A line of a process's `status`.
fn status(pid: i32, name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// The children of a process of one thread or more.
fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(pid) {
            found.push(child);
        }
    }
    found
}

#[test]
fn each_container_has_a_pid_namespace_and_a_user() {
    let world = World::new(&["serve"]);
    let mut users = Vec::new();
    for id in ["a", "b"] {
        world.ready(id);
        let pid = world.pid(id);
        assert_eq!(fs::read_to_string(world.path("pid")).unwrap(), pid.to_string());
        assert_eq!(status(pid, "NSpid"), [pid.to_string(), "1".to_owned()]);
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        let stubs = children(pid);
        assert!(!stubs.is_empty());
        for stub in stubs {
            assert_eq!(namespace(stub), namespace(pid));
            if geteuid().is_root() {
                let user = &status(pid, "Uid")[0];
                assert_eq!(status(stub, "Uid"), [user.as_str(); 4]);
                users.push(user.parse::<u32>().unwrap());
            }
        }
    }
    users.dedup();
    assert!(!geteuid().is_root() || users.len() == 2 && users.iter().all(|&user| user >= 0x7000_0000), "{users:?}");
    for id in ["a", "b"] {
        world.ok(&["delete", "--force", id]);
    }
}

#[test]
fn a_killed_sandbox_leaves_no_process() {
    let world = World::new(&["serve"]);
    world.ready("a");
    let pid = world.pid("a");
    let stubs = children(pid);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    world.ended("a");
    eventually(|| !stubs.iter().any(|&stub| runs(stub)));
    world.ok(&["delete", "a"]);
}

#[test]
fn a_killed_run_leaves_no_process() {
    let world = World::new(&["serve"]);
    world.write();
    let bundle = world.path("bundle");
    let run = ["run", "--bundle", bundle.to_str().unwrap(), "a"];
    let mut command = world.amber(&run).stdout(Stdio::null()).spawn().unwrap();
    // Until the sandbox has taken the place of its first process, and serves.
    eventually(|| world.run(&["state", "a"]).out.contains("running"));
    let pid = world.pid("a");
    let processes = children(pid);
    assert!(!processes.is_empty());
    command.kill().unwrap();
    command.wait().unwrap();
    eventually(|| !runs(pid) && !processes.iter().any(|&process| runs(process)));
    world.ok(&["delete", "--force", "a"]);
}

/// A bundle with the host's `/` and `/proc`: the sandbox has trees of files only, and a process without rights that reads
/// the latter, which is no process of the container.
#[test]
fn a_container_with_trees_of_the_host_has_none_of_its_kernel() {
    if !geteuid().is_root() {
        return;
    }
    let mut world = World::new(&["serve"]);
    for (destination, source) in [("/host", "/"), ("/host-proc", "/proc")] {
        fs::create_dir(world.path(&format!("bundle/rootfs{destination}"))).unwrap();
        let mount = json!({"destination": destination, "source": source, "type": "bind", "options": ["rbind", "rw"]});
        world.config["mounts"].as_array_mut().unwrap().push(mount);
    }
    world.ready("a");
    let pid = world.pid("a");
    assert!(children(pid).iter().any(|&child| status(child, "Name") == ["reader"]));
    // Its mounts: an empty root, and Amber's own `/proc` for processes that enter from outside.
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let kinds = mounts.lines().map(|line| {
        let (mount, rest) = line.split_once(" - ").unwrap();
        (mount.split(' ').nth(4).unwrap(), rest.split(' ').next().unwrap())
    });
    assert!(kinds.into_iter().all(|kind| [("/", "tmpfs"), ("/proc", "fuse")].contains(&kind)), "{mounts}");
    // What its descriptors lead to.
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let of_kernel =
        |path: &Path| ["self", "kernel", "null"].iter().any(|name| path.join(name).symlink_metadata().is_ok());
    let mut roots = 0;
    for path in open {
        assert!(!of_kernel(&path), "{}", path.display());
        if path.join("bin").is_dir() && path.join("proc").is_dir() {
            roots += 1;
            assert!(["proc", "sys", "dev"].iter().all(|name| !of_kernel(&path.join(name))), "{}", path.display());
        }
    }
    assert_eq!(roots, 1);
    let table = world.ok(&["ps", "a"]);
    assert!(table.lines().count() == 2 && table.trim_end().ends_with("/guest serve"), "{table}");
    assert_eq!(world.ok(&["ps", "--format", "json", "a"]).matches(',').count(), 0);
    world.ok(&["delete", "--force", "a"]);
}

#[test]
fn a_network_of_its_own_has_its_loopback_up_and_no_routers_there() {
    let world = World::new(&["loopback"]);
    world.start("a");
    eventually(|| world.printed("a").contains("loopback: "));
    assert!(world.printed("a").contains("loopback: works, routers 0"), "{}", world.printed("a"));
}
