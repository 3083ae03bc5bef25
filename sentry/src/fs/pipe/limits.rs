//! State shared by all pipes of a sandbox: the limits of users, and the buffers of fifos.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;

use super::{PAGE, Pipe};
use crate::credentials::Credentials;
use crate::sync::{Mutex, Rank};
use crate::vfs::Inode;

/// The key of a fifo: device and number of its inode.
pub(super) type FifoKey = (u64, u64);

/// The capacity of a new pipe in pages.
const DEFAULT_PAGES: usize = 16;
/// The capacity of a new pipe in pages if the user exceeds the soft limit.
const LEAST_PAGES: usize = 2;

/// The pipes of a sandbox. The public fields are the files of the same names in `/proc/sys/fs`.
pub(crate) struct Pipes {
    /// `pipe-max-size`: the maximum capacity that an unprivileged user can set, in bytes.
    pub max_size: AtomicU32,
    /// `pipe-user-pages-soft`: the number of pages above which an unprivileged user gets small pipes; 0 for no limit.
    pub user_pages_soft: AtomicU64,
    /// `pipe-user-pages-hard`: the maximum number of pages of an unprivileged user in all pipes; 0 for no limit.
    pub user_pages_hard: AtomicU64,
    charged: Mutex<HashMap<u32, usize>>,
    fifos: Mutex<HashMap<FifoKey, Weak<Pipe>>>,
}

impl Default for Pipes {
    fn default() -> Self {
        Pipes {
            max_size: AtomicU32::new(1 << 20),
            user_pages_soft: AtomicU64::new(16384),
            user_pages_hard: AtomicU64::new(0),
            charged: Mutex::new(Rank::Leaf, HashMap::new()),
            fifos: Mutex::new(Rank::Leaf, HashMap::new()),
        }
    }
}

fn is_unlimited(user: &Credentials) -> bool {
    user.has(Capability::CAP_SYS_RESOURCE) || user.has(Capability::CAP_SYS_ADMIN)
}

impl Pipes {
    /// Charges a new pipe to its user and returns the number of its pages.
    pub(super) fn open_account(self: &Arc<Self>, user: &Credentials) -> Result<(Account, usize), Errno> {
        let max = self.max_size.load(Ordering::Relaxed) as usize / PAGE;
        let wanted = if user.has(Capability::CAP_SYS_RESOURCE) { DEFAULT_PAGES } else { DEFAULT_PAGES.min(max) };
        let mut account = Account { pipes: self.clone(), uid: user.uid, pages: 0 };
        let mut pages = wanted;
        if !is_unlimited(user) {
            if self.is_over(&self.user_pages_soft, user.uid, wanted) {
                pages = LEAST_PAGES;
            }
            if self.is_over(&self.user_pages_hard, user.uid, pages) {
                return Err(Errno::ENFILE.here());
            }
        }
        account.change(pages);
        Ok((account, pages))
    }

    fn is_over(&self, limit: &AtomicU64, uid: u32, more: usize) -> bool {
        let limit = limit.load(Ordering::Relaxed);
        let charged = self.charged.lock().get(&uid).copied().unwrap_or_default();
        limit != 0 && charged.saturating_add(more) as u64 > limit
    }

    /// Checks whether a pipe may grow to `pages` pages.
    ///
    /// # Errors
    /// `EPERM` if that exceeds the user's limit and the caller is not privileged.
    pub(super) fn check_growth(&self, account: &Account, pages: usize, privileged: bool) -> Result<(), Errno> {
        if privileged || pages <= account.pages {
            return Ok(());
        }
        let more = pages - account.pages;
        let over = pages * PAGE > self.max_size.load(Ordering::Relaxed) as usize
            || self.is_over(&self.user_pages_soft, account.uid, more)
            || self.is_over(&self.user_pages_hard, account.uid, more);
        if over { Err(Errno::EPERM.here()) } else { Ok(()) }
    }

    /// The pipe of a fifo's inode: the one that is open, or a new one.
    pub(super) fn of_inode(self: &Arc<Self>, inode: &Arc<dyn Inode>, user: &Credentials) -> Result<Arc<Pipe>, Errno> {
        let metadata = inode.metadata()?;
        let key = (metadata.device.raw(), metadata.number);
        let fresh = Pipe::new(self, user).map_err(|_| Errno::ENOMEM.here())?;
        let mut fifos = self.fifos.lock();
        if let Some(pipe) = fifos.get(&key).and_then(Weak::upgrade) {
            drop(fifos);
            return Ok(pipe);
        }
        let _ = fresh.fifo.set(key);
        fifos.insert(key, Arc::downgrade(&fresh));
        drop(fifos);
        Ok(fresh)
    }

    /// Removes a fifo's pipe that no longer exists from the table, unless it was replaced.
    pub(super) fn forget_fifo(&self, key: FifoKey) {
        if let Entry::Occupied(pipe) = self.fifos.lock().entry(key)
            && pipe.get().strong_count() == 0
        {
            pipe.remove();
        }
    }
}

/// The pages charged for a pipe.
pub(super) struct Account {
    pipes: Arc<Pipes>,
    uid: u32,
    pages: usize,
}

impl Account {
    /// The number of pages.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Changes the number of pages.
    pub(super) fn change(&mut self, pages: usize) {
        let mut charged = self.pipes.charged.lock();
        let total = charged.entry(self.uid).or_default();
        *total = total.saturating_add(pages).saturating_sub(self.pages);
        if *total == 0 {
            charged.remove(&self.uid);
        }
        self.pages = pages;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.change(0);
    }
}
