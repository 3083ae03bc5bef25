//! Access control lists of host files. The sentry checks them, since its capabilities override them on the host.

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

/// The maximum number of entries of a cached list. Longer ones are read each time, so that lists take little memory.
const MOST_KEPT: usize = 64;

/// The resolution of the host's file time stamps, in nanoseconds: changes within this time may get the same time stamp.
const CLOCK_TICK: i128 = 50_000_000;

impl State {
    /// Drops the cached list if the attributes have changed since it was read.
    pub(super) fn note_change(&mut self, stat: &HostStat) {
        if self.changed != stat.changed {
            self.changed = stat.changed;
            self.acl = None;
        }
    }
}

/// The permission bits that a default list determines.
const LISTED: u16 = 0o777;

/// The mode requested from the host for a new file.
#[derive(Clone, Copy)]
pub(super) struct RequestedMode {
    pub(super) mode: u16,
    /// Whether the directory has a default list.
    is_listed: bool,
}

impl RequestedMode {
    /// The final mode of a file that the host created with mode `made`. With a default list, the host determines it.
    pub(super) fn settled(self, made: u16) -> u16 {
        if self.is_listed { made & LISTED | self.mode & !LISTED } else { self.mode }
    }
}

/// Whether any later change gets a later time stamp.
fn is_past(changed: Timespec) -> bool {
    let nanoseconds = |t: Timespec| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    nanoseconds(now()) - nanoseconds(changed) > CLOCK_TICK
}

impl HostInode {
    /// The mode to request from the host for `new` in this directory. The host applies a default list, which replaces
    /// the umask.
    pub(super) fn requested_mode(&self, new: &NewInode<'_>) -> Result<RequestedMode, Errno> {
        let is_listed = new.kind != FileType::Symlink
            && match self.any_opened() {
                // A directory that the operator cannot read has no visible list.
                Err(Errno::EACCES | Errno::EPERM) => false,
                directory => xattr::has(directory?.as_fd(), XATTR_ACL_DEFAULT)?,
            };
        let mode = if is_listed { new.permissions | new.masked } else { new.permissions };
        Ok(RequestedMode { mode, is_listed })
    }

    /// The access control list, cached until the attributes change.
    pub(super) fn read_acl(&self) -> Result<Option<Arc<Acl>>, Errno> {
        let changed = {
            let state = self.state.lock();
            if let Some(known) = &state.acl {
                return Ok(known.clone());
            }
            state.changed
        };
        let file = match self.any_opened() {
            // FIFOs, sockets and devices cannot be opened. The host itself enforces what it denies the operator.
            Err(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM) => return Ok(None),
            file => file?,
        };
        let acl = acl::of(xattr::get(file.as_fd(), XATTR_ACL_ACCESS))?;
        let is_small = acl.as_ref().is_none_or(|acl| acl.named() <= MOST_KEPT);
        let is_settled = !self.is_shared() || is_past(changed);
        let mut state = self.state.lock();
        if is_small && is_settled && state.changed == changed {
            state.acl = Some(acl.clone());
        }
        Ok(acl)
    }
}
