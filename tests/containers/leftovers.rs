//! What containers left behind on the host, after all of them are gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::space::Space;

/// Removes the control groups of a run before this one, which may have been killed. One that is in use stays, and is told
/// at the end.
pub(crate) fn clear(space: &Space) -> Result<()> {
    for group in groups(space)? {
        for inner in directories(&group) {
            let _ = fs::remove_dir(inner);
        }
        let _ = fs::remove_dir(group);
    }
    Ok(())
}

/// Where something is mounted that engines or runtimes may have mounted.
pub(crate) fn mounts(space: &Space) -> Result<BTreeSet<String>> {
    let docker = space.directory.join("docker").to_string_lossy().into_owned() + "/";
    let all = fs::read_to_string("/proc/self/mountinfo")?;
    let places = all.lines().filter_map(|line| line.split(' ').nth(4));
    // The daemon keeps the network of the host for containers that asked for it.
    let made = places.filter(|place| place.starts_with(&docker) || place.starts_with("/run/"));
    Ok(made.filter(|place| *place != "/run/docker/netns/default").map(str::to_owned).collect())
}

/// Removes what scenarios left running, then lists what is there and should not be: one line each.
pub(crate) fn find(space: &Space, before: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for container in space.docker(&["ps", "--all", "--format", "{{.Names}}"])?.lines() {
        left.push(format!("container {container}"));
        space.docker(&["rm", "--force", "--volumes", container])?;
    }
    let daemons = ["dockerd", "containerd", "sh"];
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let Ok(name) = fs::read_to_string(process.join("comm")) else { continue };
        let Ok(command) = fs::read(process.join("cmdline")) else { continue };
        let own = fs::read_link(process.join("exe"))
            .is_ok_and(|exe| fs::read_link("/proc/self/exe").is_ok_and(|own| own == exe));
        // A kernel thread, or a zombie that is about to be reaped, has no command line.
        if !daemons.contains(&name.trim()) && !command.is_empty() && !own && process.join("exe").exists() {
            left.push(format!("process {} {}", name.trim(), String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    left.extend(mounts(space)?.difference(before).map(|place| format!("mount {place}")));
    left.extend(groups(space)?.iter().map(|group| format!("control group {}", group.display())));
    let name = &space.runtime.name;
    for state in ["/run/amber", &format!("/run/{name}"), &format!("/run/docker/runtime-{name}/moby")] {
        for entry in fs::read_dir(state).into_iter().flatten() {
            left.push(format!("file {}", entry?.path().display()));
        }
    }
    Ok(left)
}

/// The control groups of containers, in all hierarchies.
fn groups(space: &Space) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let own = space.cgroup.trim_start_matches('/');
    let mut found = directories(&root.join(own));
    for hierarchy in fs::read_dir(root)? {
        found.extend(directories(&hierarchy?.path().join(own)));
    }
    Ok(found)
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
