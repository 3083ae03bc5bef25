//! A user of the host for each sandbox.
//!
//! It is the *real* user of the sandbox's process, and the only user of the ptrace platform's stubs. Tracing, killing
//! or reading a process takes its user or a capability, so no process of another sandbox can. The host's kernel counts
//! processes, pending signals and locked memory by real user, and so for each sandbox. The effective user stays root
//! where root serves files, so that their owners are as without Amber.

use anyhow::{Result, bail};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, getegid, geteuid, getuid, setgroups, setresgid, setresuid};
use rustix::thread::CapabilitySet;

use super::{Tree, capabilities};

/// The first of these users and groups. Distributions and systemd assign none from here on. All of them, one for each
/// possible process ID, are positive as signed 32-bit numbers.
const FIRST: u32 = 0x7000_0000;

/// Makes the real user and group of this process those of `process`, its ID outside; they are unique among live
/// sandboxes. Must be called with a single thread and the right to change users.
///
/// # Errors
/// Why the real user stays unchanged.
pub(super) fn take(process: i32, trees: &[Tree]) -> Result<()> {
    if !geteuid().is_root() || !capabilities::has(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        bail!("only root can have others");
    }
    // FUSE checks the real user as well, unless mounted with `allow_other`.
    if let Some(tree) = trees.iter().find(|tree| is_fuse(tree)) {
        bail!("{} is served by a process of this user (FUSE)", tree.path.display());
    }
    let number = FIRST | u32::try_from(process)?;
    // Root's processes are not counted; a limit set for root must not apply to this user.
    if let Err(errno) = setrlimit(Resource::RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY) {
        log::debug!("the limit of processes stays: {errno}");
    }
    let (user, group) = (geteuid(), getegid());
    setresuid(Uid::from_raw(number), user, user)?;
    setresgid(Gid::from_raw(number), group, group)?;
    // The kept capabilities make the caller's groups unnecessary.
    setgroups(&[])?;
    Ok(())
}

/// Whether the real user differs from the effective one.
pub(super) fn is_taken() -> bool {
    getuid() != geteuid()
}

fn is_fuse(tree: &Tree) -> bool {
    fstatfs(&tree.file).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC)
}
