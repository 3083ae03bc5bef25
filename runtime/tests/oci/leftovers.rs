//! After many containers nothing of them is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::World;

/// Every cgroup below the host's whose name has this in it.
fn cgroups(directory: &Path, name: &str, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().contains(name) {
            found.insert(entry.path().display().to_string());
        }
        cgroups(&entry.path(), name, found);
    }
}

/// The processes whose command line has this in it.
fn processes(name: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains(name))
        .collect()
}

#[test]
fn a_hundred_containers_leave_nothing() {
    let name = format!("leftover{}", std::process::id());
    let world = World::new(&["exit", "0", &name]);
    let cgroup = world.config["linux"]["cgroupsPath"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    for round in 0..100 {
        let id = format!("{name}-{round}");
        world.start(&id);
        world.ok(&["delete", "--force", &id]);
    }
    assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 0);
    assert_eq!(processes(&name), Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(world.directory.path().to_str().unwrap()), "{mounts}");
    let mut left = BTreeSet::new();
    cgroups(Path::new("/sys/fs/cgroup"), &cgroup, &mut left);
    assert!(left.is_empty(), "{left:?}");
}
