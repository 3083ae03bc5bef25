//! Lookups in a directory of the host.
//!
//! In a shared tree a name may stand for another file at any moment. An operation by name that finds another file than
//! the lookup before it fails with `ESTALE`, and the system call is served again (`syscalls/dispatch.rs`). The lookups
//! that follow in this directory pin the file: they open it with `O_PATH` and leave the descriptor with the inode, so that
//! the operation needs no name.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;
use amber_host::fs as host;
use amber_host::fs::Found;

use super::descriptor::Descriptor;
use super::identity::Seen;
use super::inode::{HostInode, State};
use super::sealed::Sealed;
use crate::vfs::Inode;

/// How many lookups in a directory pin what they find after a name there was found to stand for another file.
const PINNED_LOOKUPS: u32 = 256;

impl HostInode {
    /// A lookup found the inode under this name, by which it is reached from now on.
    pub(super) fn found_at(&self, parent: Option<Arc<HostInode>>, name: &[u8]) {
        if parent.is_none() {
            return;
        }
        let mut state = self.state.lock();
        if *state.name != *name {
            state.name = name.into();
        }
        let old = std::mem::replace(&mut state.parent, parent);
        state.orphan = None;
        drop(state);
        drop(old);
    }

    /// The inode of an entry, if it is in use.
    pub(super) fn known_entry(&self, name: &[u8]) -> Option<Arc<HostInode>> {
        let directory = self.directory().ok()?;
        let stat = host::stat_at(directory.as_fd(), name).ok()?;
        self.fs.known(&stat)
    }

    /// The mount that entries are on, unless something is mounted over one.
    fn mount(&self) -> Option<u64> {
        let state = self.state.lock();
        if state.parent.is_none() { self.fs.mount } else { state.mount }
    }

    pub(super) fn begin_pinning(&self) {
        self.pinning.store(PINNED_LOOKUPS, Ordering::Relaxed);
    }

    /// Whether a lookup in this directory pins what it finds. Counts the lookups.
    fn pins(&self) -> bool {
        let left = self.pinning.load(Ordering::Relaxed);
        if left > 0 {
            // A lookup of another thread that is not counted does no harm.
            self.pinning.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    /// Finds an entry. Where another file system is mounted that is not served, its mount point is an empty directory.
    pub(super) fn entry(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let directory = self.directory()?;
        let open = || host::open_at(directory.as_fd(), name, OpenFlags::O_PATH, 0);
        let pins = self.pins();
        let mut file = if pins { Some(open()?) } else { None };
        let look = |file: &Option<OwnedFd>| match file {
            Some(file) => host::look(file.as_fd()),
            None => host::look_at(directory.as_fd(), name),
        };
        let mut found = look(&file)?;
        if found.mount.is_none() || (found.mount != self.fs.mount && found.mount != self.mount()) {
            let opened = file.take().map_or_else(open, Ok)?;
            found = host::look(opened.as_fd())?;
            if self.fs.admit(opened.as_fd(), found.mount).is_err() {
                return Ok(Sealed::new(self.fs.clone(), self.fs.guest_device(found.stat.device), &found));
            }
            file = Some(opened);
        }
        let inode = match self.fs.known(&found.stat) {
            // Its owner and mode are those of now.
            Some(known) if self.is_shared() => match known.look_again(|| Ok(look(&file)?.stat))? {
                Seen::Other => {
                    self.begin_pinning();
                    return Err(Errno::ESTALE.here());
                }
                Seen::Same | Seen::Changed => {
                    known.found_at(Some(self.this()), name);
                    known
                }
            },
            _ => self.fs.inode(Some(self.this()), name, &found.stat),
        };
        if let Some(file) = file.filter(|_| pins) {
            inode.pin(file, &found);
        }
        Ok(inode)
    }

    /// Whether a name still stands for an inode that was found before; notes its owner and mode.
    pub(super) fn is_still(&self, name: &[u8], child: &HostInode) -> Result<bool, Errno> {
        let directory = self.directory()?;
        if self.pins() {
            let file = host::open_at(directory.as_fd(), name, OpenFlags::O_PATH, 0)?;
            let mut found = None;
            let seen = child.look_again(|| Ok(found.insert(host::look(file.as_fd())?).stat))?;
            let Some(found) = found.filter(|_| seen != Seen::Other) else { return Ok(false) };
            self.fs.admit(file.as_fd(), found.mount)?;
            child.pin(file, &found);
        } else if child.look_again(|| host::stat_at(directory.as_fd(), name))? == Seen::Other {
            return Ok(false);
        }
        child.reach_by(self, name);
        Ok(true)
    }

    /// Takes over a name of the file if the inode was found by another one last, which may be gone.
    fn reach_by(&self, parent: &HostInode, name: &[u8]) {
        let is_known = {
            let state = self.state.lock();
            *state.name == *name && state.parent.as_ref().is_some_and(|known| std::ptr::eq(&raw const **known, parent))
        };
        if !is_known {
            self.found_at(Some(parent.this()), name);
        }
    }

    /// Keeps a descriptor that names the file, as long as it is in recent use.
    fn pin(&self, file: OwnedFd, found: &Found) {
        let file = Descriptor::new(&self.fs.memory, file);
        self.hold(|state| {
            if self.is_directory() {
                state.mount = found.mount;
                state.kept.get_or_insert(file);
            } else {
                state.pin = Some(file);
            }
        });
    }

    /// Keeps the descriptor of a file that was just made, so that it is opened whatever its name stands for then.
    pub(super) fn hold_made(&self, file: OwnedFd, found: &Found) -> Arc<Descriptor> {
        let file = Descriptor::new(&self.fs.memory, file);
        self.hold(|state| match self.kind {
            FileType::Directory => {
                state.mount = found.mount;
                state.kept = Some(file.clone());
            }
            FileType::Regular => state.made = Some(file.clone()),
            _ => state.pin = Some(file.clone()),
        });
        file
    }

    /// Adds a descriptor to those that stay while they are in recent use.
    pub(super) fn hold(&self, add: impl FnOnce(&mut State)) {
        self.used.store(true, Ordering::Relaxed);
        let was_held = {
            let mut state = self.state.lock();
            let was_held = state.kept.is_some() || state.pin.is_some() || state.made.is_some();
            add(&mut state);
            was_held
        };
        if !was_held {
            self.fs.keep(&self.this());
        }
    }
}
