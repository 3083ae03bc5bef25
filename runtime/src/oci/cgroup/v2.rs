//! Control groups of version 2: one hierarchy.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::LinuxResources;

use super::{MOUNTED, write, write_named};

/// Where a group is.
pub fn place(own: &str, absolute: bool, path: &Path) -> PathBuf {
    let mut place = PathBuf::from(MOUNTED);
    if !absolute {
        // Beside us: a group with members cannot have groups with controllers below.
        let here = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        place.extend(super::clean(Path::new(here)).parent());
    }
    place.join(path)
}

/// Makes the group, with every controller that those above it offer.
pub fn make(place: &Path) -> io::Result<()> {
    let below = place.strip_prefix(MOUNTED).unwrap_or(place);
    let mut path = PathBuf::from(MOUNTED);
    for component in below.components() {
        let offered = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        for controller in offered.split_whitespace() {
            // A controller that is not given on is missed where a limit needs it.
            let _ = write(&path.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        path.push(component);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Sets limits.
pub fn limit(place: &Path, resources: &LinuxResources) -> Result<()> {
    let set = |file: &str, value: String| write_named(&place.join(file), &value);
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|&it| it != 0).map(super::with_own_memory);
        if let Some(limit) = limit {
            set("memory.max", number(limit))?;
        }
        // Here swap is counted alone, in the configuration together with memory.
        match (memory.swap().filter(|&it| it != 0), memory.limit()) {
            (Some(-1), _) => set("memory.swap.max", "max".to_owned())?,
            (Some(both), Some(alone)) if both >= alone && place.join("memory.swap.max").exists() => {
                set("memory.swap.max", (both - alone).to_string())?;
            }
            _ => {}
        }
        if let Some(soft) = memory.reservation().filter(|&it| it != 0) {
            set("memory.low", number(soft))?;
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|&it| it != 0) {
            // The whole range from 2 to 262144 on that from 1 to 10000.
            let weight = 1 + shares.clamp(2, 262_144).saturating_sub(2) * 9999 / 262_142;
            set("cpu.weight", weight.to_string())?;
        }
        let quota = cpu.quota().filter(|&it| it != 0);
        let period = cpu.period().filter(|&it| it != 0);
        if quota.is_some() || period.is_some() {
            let quota = quota.map_or_else(|| "max".to_owned(), number);
            set("cpu.max", period.map_or(quota.clone(), |period| format!("{quota} {period}")))?;
        }
        if let Some(burst) = cpu.burst() {
            set("cpu.max.burst", burst.to_string())?;
        }
        if let Some(idle) = cpu.idle() {
            set("cpu.idle", idle.to_string())?;
        }
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(list) = list.as_ref().filter(|it| !it.is_empty()) {
                set(file, list.clone())?;
            }
        }
    }
    if let Some(block) = resources.block_io() {
        if let Some(weight) = block.weight().filter(|&it| it != 0) {
            let files = ["io.bfq.weight", "io.weight"].map(|name| place.join(name));
            let file = files.iter().find(|file| file.exists()).context("the host has no weights of block I/O")?;
            write_named(file, &weight.to_string())?;
        }
        let lists = [
            ("rbps", block.throttle_read_bps_device()),
            ("wbps", block.throttle_write_bps_device()),
            ("riops", block.throttle_read_iops_device()),
            ("wiops", block.throttle_write_iops_device()),
        ];
        for (name, list) in lists {
            for entry in list.iter().flatten() {
                set("io.max", format!("{}:{} {name}={}", entry.major(), entry.minor(), entry.rate()))?;
            }
        }
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') {
            bail!("`unified`: {file:?} is no file of a control group");
        }
        // Enforced inside, where each task is not several.
        if file != "pids.max" && file != "memory.max" {
            set(file, value.clone())?;
        }
    }
    Ok(())
}

/// Stops the group or lets it go on, and waits until that is so.
pub fn freeze(place: &Path, frozen: bool) -> Result<bool> {
    let file = place.join("cgroup.freeze");
    if !file.exists() {
        return Ok(false);
    }
    write_named(&file, if frozen { "1" } else { "0" })?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        let events = fs::read_to_string(place.join("cgroup.events")).context("cgroup.events")?;
        if events.lines().any(|line| line == wanted) {
            return Ok(true);
        }
        if Instant::now() > limit {
            bail!("unable to freeze");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn number(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_absolute_or_beside_us() {
        let own = "0::/user.slice/session.scope\n";
        assert_eq!(place(own, true, Path::new("a/b")), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(place(own, false, Path::new("c")), Path::new("/sys/fs/cgroup/user.slice/c"));
        assert_eq!(place("0::/\n", false, Path::new("c")), Path::new("/sys/fs/cgroup/c"));
    }
}
