//! What containers left behind on the host, after all of them are gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::space::Space;

/// What may be there before the first container, too, for a run before this one may have been killed: one line each.
pub fn standing(space: &Space) -> Result<BTreeSet<String>> {
    let mut found: BTreeSet<String> = mounts(space)?.iter().map(|place| format!("mount {place}")).collect();
    let own = space.cgroup.trim_start_matches('/');
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        found.extend(groups(&hierarchy?.path().join(own)));
    }
    found.extend(groups(&Path::new("/sys/fs/cgroup").join(own)));
    Ok(found)
}

/// Where something is mounted that engines or runtimes may have mounted.
fn mounts(space: &Space) -> Result<Vec<String>> {
    let docker = space.directory.join("docker").to_string_lossy().into_owned() + "/";
    let all = fs::read_to_string("/proc/self/mountinfo")?;
    let places = all.lines().filter_map(|line| line.split(' ').nth(4));
    // The daemon keeps the network of the host for containers that asked for it.
    let made = places.filter(|place| place.starts_with(&docker) || place.starts_with("/run/"));
    Ok(made.filter(|place| *place != "/run/docker/netns/default").map(str::to_owned).collect())
}

/// Removes what scenarios left running, then lists what is there and should not be, but for what was `before` them.
pub fn find(space: &Space, before: &BTreeSet<String>) -> Result<Vec<String>> {
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
    left.extend(standing(space)?.difference(before).cloned());
    let name = &space.runtime.name;
    for state in ["/run/amber", &format!("/run/{name}"), &format!("/run/docker/runtime-{name}/moby")] {
        for entry in fs::read_dir(state).into_iter().flatten() {
            left.push(format!("file {}", entry?.path().display()));
        }
    }
    Ok(left)
}

/// The control groups below one.
fn groups(parent: &Path) -> Vec<String> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| format!("control group {}", entry.path().display())).collect()
}
