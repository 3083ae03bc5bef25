//! A user of the host for one sandbox alone.
//!
//! It is the *real* user of the sandbox's process and all there is to the stubs of the platform ptrace. Who traces, kills or
//! reads a process must have its user or a capability, so no process of another sandbox may, and what the host's kernel
//! counts by real user (processes, pending signals, locked memory) it counts for each sandbox. The effective user stays
//! root where root serves files, so that they have the owners they would have anyway.

use anyhow::{Result, bail};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, getegid, geteuid, getuid, setgroups, setresgid, setresuid};
use rustix::thread::CapabilitySet;

use super::{Tree, capabilities};

/// The first of these users and groups. Distributions and systemd hand out none from here on, and all of them, one for
/// each process number that Linux can have, are positive as signed numbers of 32 bits.
const FIRST: u32 = 0x7000_0000;

/// Makes the real user and group of this process those of `process`, its number outside: no two that live have the same.
/// To be called while there is one thread, and the right to change users.
///
/// # Errors
/// Why the real user stays as it is.
pub fn take(process: i32, trees: &[Tree]) -> Result<()> {
    if !geteuid().is_root() || !capabilities::has(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        bail!("only root can have others");
    }
    // Such a file system asks for the real user as well, unless it was mounted for all.
    if let Some(tree) = trees.iter().find(|tree| is_fuse(tree)) {
        bail!("{} is served by a process of this user (FUSE)", tree.path.display());
    }
    let number = FIRST | u32::try_from(process)?;
    // Root is not counted, and a limit that was set for root is none for this user.
    if let Err(errno) = setrlimit(Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY) {
        log::debug!("the limit of processes stays: {errno}");
    }
    let (user, group) = (geteuid(), getegid());
    setresuid(Uid::from_raw(number), user, user)?;
    setresgid(Gid::from_raw(number), group, group)?;
    // Those of the caller are of no use to the capabilities that are kept.
    setgroups(&[])?;
    Ok(())
}

/// Whether the real user is another than the effective one.
pub fn is_taken() -> bool {
    getuid() != geteuid()
}

fn is_fuse(tree: &Tree) -> bool {
    fstatfs(&tree.file).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC)
}
