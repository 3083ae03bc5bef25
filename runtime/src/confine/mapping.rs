//! User namespaces with the ID mappings of a bundle. A process cannot write these for its own namespace, so a helper
//! outside does, with its privileges or by newuidmap(1).

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use amber_host::users::{IdRange, Kind};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Uid, getegid, setgid, setgroups, setuid};

use super::owners::with_stand_in;
use crate::oci::ROLE;

/// The role of the helper, see [`ROLE`](crate::oci::ROLE).
pub(crate) const USERS: &str = "users";

/// Enters a new user namespace and becomes its root.
///
/// # Errors
/// The host forbids user namespaces or these mappings.
pub(super) fn enter(uids: &[IdRange], gids: &[IdRange]) -> Result<()> {
    ensure!(!uids.is_empty() && !gids.is_empty(), "a user namespace needs `uidMappings` and `gidMappings`");
    let uids = with_stand_in(uids, Kind::Users.overflow());
    let gids = with_stand_in(gids, Kind::Groups.overflow());
    let mut helper = Command::new("/proc/self/exe")
        .env(ROLE, USERS)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a helper for user namespaces")?;
    let mut orders = helper.stdin.take().context("no pipe to the helper")?;
    unshare(CloneFlags::CLONE_NEWUSER).context("a user namespace")?;
    write!(orders, "{}\n{}\n{}\n", std::process::id(), text(&uids, ","), text(&gids, ","))?;
    drop(orders);
    let outcome = helper.wait_with_output()?;
    ensure!(outcome.status.success(), "a user namespace: {}", String::from_utf8_lossy(&outcome.stderr).trim());
    // Groups of the caller mean nothing inside. Without the right to drop them, they stay.
    if let Err(errno) = setgroups(&[]) {
        log::info!("the caller's groups stay: {errno}");
    }
    setgid(Gid::from_raw(0)).context("becoming root of the user namespace")?;
    setuid(Uid::from_raw(0)).context("becoming root of the user namespace")?;
    // Changing the user made this process's files in /proc unreadable, also for itself.
    set_dumpable(true).context("showing /proc/self again")
}

/// The lines of a map, each with `between` behind it.
pub(super) fn text(ranges: &[IdRange], between: &str) -> String {
    let mut text = String::new();
    for IdRange { inside, outside, count } in ranges {
        let _ = write!(text, "{inside} {outside} {count}{between}");
    }
    text
}

/// The helper: reads a process ID and its mappings from standard input and writes the mappings.
///
/// # Errors
/// The host refuses the mappings.
pub(crate) fn map_users() -> Result<()> {
    let mut orders = String::new();
    io::stdin().read_to_string(&mut orders)?;
    let lines: Vec<&str> = orders.lines().collect();
    let [process, uids, gids] = lines[..] else { bail!("this role is for Amber's own use") };
    let process: u32 = process.parse().context("which process?")?;
    map(process, "gid_map", gids, "newgidmap")?;
    map(process, "uid_map", uids, "newuidmap")
}

fn map(process: u32, file: &str, ranges: &str, tool: &str) -> Result<()> {
    let path = format!("/proc/{process}/{file}");
    let lines = ranges.replace(',', "\n");
    let Err(refused) = fs::write(&path, &lines) else { return Ok(()) };
    // Mapping only the own group needs no privilege, but requires `setgroups` to be denied.
    let own = format!(" {} 1,", getegid());
    if file == "gid_map" && ranges.matches(',').count() == 1 && ranges.ends_with(&own) {
        fs::write(format!("/proc/{process}/setgroups"), "deny")?;
        return fs::write(&path, &lines).with_context(|| path);
    }
    let numbers = ranges.split([',', ' ']).filter(|word| !word.is_empty());
    let done = Command::new(tool).arg(process.to_string()).args(numbers).stdin(Stdio::null()).output();
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{path}: {refused}, and there is no {tool} (package uidmap)")
        }
        Err(error) => Err(error).context(tool.to_owned()),
    }
}
