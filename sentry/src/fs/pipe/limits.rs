//! What all pipes of a sandbox share: how much of them a user may have, and where fifos find their buffers.

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

/// What a fifo is found by: device and number of its inode.
pub(super) type FifoKey = (u64, u64);

/// Pages of a new pipe.
const DEFAULT_PAGES: usize = 16;
/// Pages of a new pipe of a user who has too many already.
const LEAST_PAGES: usize = 2;

/// The pipes of a sandbox. The public fields are the files of their names in `/proc/sys/fs`.
pub struct Pipes {
    /// `pipe-max-size`: what an unprivileged user may make a pipe hold, in bytes.
    pub max_size: AtomicU32,
    /// `pipe-user-pages-soft`: from how many pages on an unprivileged user gets small pipes; 0 for no limit.
    pub user_pages_soft: AtomicU64,
    /// `pipe-user-pages-hard`: how many pages an unprivileged user may have in all pipes; 0 for no limit.
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
    /// Charges a new pipe to its user and says how many pages it gets.
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

    /// Whether a pipe may have `pages` pages.
    ///
    /// # Errors
    /// `EPERM` if that is beyond what its user may have and who asks is not privileged.
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

    /// The pipe behind a fifo's inode: the one that is open somewhere, or a new one.
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

    /// Drops what the table still knows of a fifo's pipe that is gone, unless there is another by now.
    pub(super) fn forget_fifo(&self, key: FifoKey) {
        if let Entry::Occupied(pipe) = self.fifos.lock().entry(key)
            && pipe.get().strong_count() == 0
        {
            pipe.remove();
        }
    }
}

/// The pages that one pipe is charged with.
pub(super) struct Account {
    pipes: Arc<Pipes>,
    uid: u32,
    pages: usize,
}

impl Account {
    /// How many pages.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// Charges another number of pages instead.
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
