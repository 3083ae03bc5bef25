//! Access control lists of host files, which the host does not apply to the sentry, whose capabilities override them.

use std::os::fd::AsFd;
use std::sync::Arc;

use amber_abi::acl::Acl;
use amber_abi::errno::Errno;
use amber_abi::stat::FileType;
use amber_abi::time::Timespec;
use amber_abi::xattr::{XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};
use amber_host::fs::HostStat;
use amber_host::xattr;

use super::inode::{HostInode, State};
use crate::vfs::{NewInode, acl, now};

/// A list that names more is read each time instead of kept, so that lists take no memory to speak of.
const MOST_KEPT: usize = 64;

/// How long after a change, in nanoseconds, another may get the same time from the host, whose clock for files ticks.
const CLOCK_TICK: i128 = 50_000_000;

impl State {
    /// A list that was read before the last change of the attributes is not to be used any more.
    pub(super) fn note_change(&mut self, stat: &HostStat) {
        if self.changed != stat.changed {
            self.changed = stat.changed;
            self.acl = None;
        }
    }
}

/// The permission bits that a default list decides.
const LISTED: u16 = 0o777;

/// The mode that the host is asked for when it makes a file.
#[derive(Clone, Copy)]
pub(super) struct AskedMode {
    pub(super) mode: u16,
    /// Whether the directory has a default list.
    is_listed: bool,
}

impl AskedMode {
    /// The mode that the file shall have, of which the host made `made`: with a default list, the host decides.
    pub(super) fn settled(self, made: u16) -> u16 {
        if self.is_listed { made & LISTED | self.mode & !LISTED } else { self.mode }
    }
}

/// Whether any change after this one gets a later time.
fn is_past(changed: Timespec) -> bool {
    let nanoseconds = |t: Timespec| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    nanoseconds(now()) - nanoseconds(changed) > CLOCK_TICK
}

impl HostInode {
    /// The mode to ask the host for when it makes `new` in this directory. A default list takes the place of the umask, and
    /// the host applies it.
    pub(super) fn asked_mode(&self, new: &NewInode<'_>) -> Result<AskedMode, Errno> {
        let is_listed = new.kind != FileType::Symlink
            && match self.any_opened() {
                // What the operator may not read has no list that could be seen.
                Err(Errno::EACCES | Errno::EPERM) => false,
                directory => xattr::has(directory?.as_fd(), XATTR_ACL_DEFAULT)?,
            };
        let mode = if is_listed { new.permissions | new.masked } else { new.permissions };
        Ok(AskedMode { mode, is_listed })
    }

    /// The list, which is kept as long as the attributes stay as last seen.
    pub(super) fn read_acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        let changed = {
            let state = self.state.lock();
            if let Some(known) = &state.acl {
                return Ok(known.clone());
            }
            state.changed
        };
        let file = match self.any_opened() {
            // FIFOs, sockets and devices cannot be looked at; what is refused to the operator the host protects itself.
            Err(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM) => return Ok(None),
            file => file?,
        };
        let acl = acl::of(match xattr::get(file.as_fd(), XATTR_ACL_ACCESS) {
            // A file without a name of which there is no more than O_PATH.
            Err(Errno::EBADF) => Err(Errno::EACCES.here()),
            value => value,
        })?;
        let is_small = acl.as_ref().is_none_or(|acl| acl.named() <= MOST_KEPT);
        let is_settled = !self.is_shared() || is_past(changed);
        let mut state = self.state.lock();
        if is_small && is_settled && state.changed == changed {
            state.acl = Some(acl.clone());
        }
        Ok(acl)
    }
}
