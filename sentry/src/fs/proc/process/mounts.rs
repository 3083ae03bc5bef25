//! The mounts a process sees: mounts, mountinfo and mountstats.

use std::sync::Arc;

use amber_abi::errno::Errno;

use crate::fs::pseudo::Query;
use crate::fs::{Mount, MountOptions, Path};

struct Seen {
    mount: Arc<Mount>,
    /// Where it is, from the process's root.
    place: Vec<u8>,
}

fn seen(query: &Query<'_>) -> Result<Vec<Seen>, Errno> {
    let task = query.task()?;
    if task.has_ended() {
        return Err(Errno::EINVAL);
    }
    let fs = task.fs();
    let root = fs.root();
    let mut all = Vec::new();
    for mount in fs.namespace().mounts() {
        let (place, reachable) = mount.root_path().text(&root);
        // What lies outside the process's root is not for it to see.
        if reachable || mount.root_path().is(&root) {
            all.push(Seen { mount, place });
        }
    }
    Ok(all)
}

/// Blanks and the like are written as octal numbers.
fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if b" \t\n\\#".contains(&byte) {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(byte);
        }
    }
}

fn mount_options(options: MountOptions) -> String {
    let mut text = if options.contains(MountOptions::READ_ONLY) { "ro" } else { "rw" }.to_owned();
    for (flag, name) in [
        (MountOptions::NO_SUID, ",nosuid"),
        (MountOptions::NO_DEV, ",nodev"),
        (MountOptions::NO_EXEC, ",noexec"),
        (MountOptions::NO_ATIME, ",noatime"),
        (MountOptions::NO_DIRECTORY_ATIME, ",nodiratime"),
        (MountOptions::RELATIVE_ATIME, ",relatime"),
        (MountOptions::NO_SYMLINK_FOLLOW, ",nosymfollow"),
    ] {
        if options.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

/// `/proc/PID/mounts`, in the form of fstab(5).
pub fn mounts(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        escaped(&mount.source, &mut text);
        text.push(b' ');
        escaped(&place, &mut text);
        let mut options = mount.options();
        options.set(MountOptions::READ_ONLY, mount.is_read_only());
        let line = format!(" {} {}{} 0 0\n", mount.fs().name(), mount_options(options), mount.fs().options());
        text.extend_from_slice(line.as_bytes());
    }
    Ok(text)
}

/// `/proc/PID/mountinfo`.
pub fn mountinfo(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        // A root has no parent; Linux shows the number of the invisible one beneath.
        let parent = mount.place().map_or(mount.id, |place| place.mount.id);
        let device = mount.fs().device();
        text.extend_from_slice(format!("{} {parent} {device} ", mount.id).as_bytes());
        let within = Path { mount: mount.clone(), dentry: mount.root.clone() };
        escaped(&root_within(&within), &mut text);
        text.push(b' ');
        escaped(&place, &mut text);
        text.extend_from_slice(format!(" {}", mount_options(mount.options())).as_bytes());
        let propagation = mount.propagation();
        if let Some(group) = propagation.group {
            text.extend_from_slice(format!(" shared:{group}").as_bytes());
        }
        if let Some(master) = propagation.master {
            text.extend_from_slice(format!(" master:{master}").as_bytes());
        }
        if propagation.unbindable {
            text.extend_from_slice(b" unbindable");
        }
        text.extend_from_slice(format!(" - {} ", mount.fs().name()).as_bytes());
        escaped(&mount.source, &mut text);
        let access = if mount.super_block.is_read_only() { "ro" } else { "rw" };
        text.extend_from_slice(format!(" {access}{}\n", mount.fs().options()).as_bytes());
    }
    Ok(text)
}

/// Which directory of its file system a mount shows.
fn root_within(root: &Path) -> Vec<u8> {
    let mut names = Vec::new();
    let mut at = root.dentry.clone();
    while let Some(parent) = at.parent() {
        names.push(at.name());
        at = parent;
    }
    let mut text: Vec<u8> = names.iter().rev().flat_map(|name| [b"/", &**name].concat()).collect();
    if text.is_empty() {
        text.push(b'/');
    }
    text
}

/// `/proc/PID/mountstats`.
pub fn mountstats(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    for Seen { mount, place } in seen(query)? {
        text.extend_from_slice(b"device ");
        escaped(&mount.source, &mut text);
        text.extend_from_slice(b" mounted on ");
        escaped(&place, &mut text);
        text.extend_from_slice(format!(" with fstype {}\n", mount.fs().name()).as_bytes());
    }
    Ok(text)
}
