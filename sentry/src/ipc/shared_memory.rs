//! Shared memory segments: see shmop(2) and shmctl(2).

use std::sync::{Arc, OnceLock, Weak};

use amber_abi::errno::Errno;
use amber_abi::ipc::{SHM_DEST, SHMMIN};
use amber_platform::{Frames, GuestMemory, PAGE_SIZE};

use super::ids::{Ids, Object, Permissions};
use super::limits::Limits;
use super::{OBJECT_BYTES, now};
use crate::credentials::Credentials;
use crate::mm::{Mappable, Mapping, PageCache};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::task::current;
use crate::vfs::FileDescription;

/// A shared memory segment.
pub(crate) struct Segment {
    permissions: Permissions,
    pages: Arc<SegmentPages>,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last shmat(2) in seconds since the epoch, or 0.
    pub attached_at: i64,
    /// Time of the last shmdt(2), likewise.
    pub detached_at: i64,
    /// Time of the creation or the last change.
    pub changed_at: i64,
    /// Process ID of the creator.
    pub creator: i32,
    /// Process ID of the last shmat(2) or shmdt(2), or 0.
    pub last: i32,
    /// Number of attachments.
    pub attached: u64,
}

impl Object for Segment {
    fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    fn permissions_mut(&mut self) -> &mut Permissions {
        &mut self.permissions
    }

    fn weight(&self) -> u64 {
        self.page_count()
    }
}

impl Segment {
    /// The mappable pages.
    pub(crate) fn pages(&self) -> Arc<SegmentPages> {
        self.pages.clone()
    }

    /// The size in pages.
    pub(crate) fn page_count(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }
}

/// The link to an address space, for invalidations. It passes the segment instead of its cache, since VMAs refer to the
/// segment.
struct Relay {
    link: Arc<dyn Mapping>,
    pages: Weak<SegmentPages>,
}

impl Mapping for Relay {
    fn invalidate(&self, _: &dyn Mappable, offset: u64, len: u64, even_private: bool) {
        if let Some(pages) = self.pages.upgrade() {
            self.link.invalidate(&*pages, offset, len, even_private);
        }
    }
}

/// The pages of a segment. They count their attachments.
pub(crate) struct SegmentPages {
    me: Weak<SegmentPages>,
    cache: Arc<PageCache>,
    table: Weak<SharedMemory>,
    id: OnceLock<i32>,
    /// The address spaces that map the segment, with the number of their VMAs.
    relays: Mutex<Vec<(Arc<Relay>, usize)>>,
    /// The file that names the VMAs. It cannot be read.
    name: OnceLock<Arc<FileDescription>>,
}

impl SegmentPages {
    /// Resident bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.cache.present_bytes()
    }

    /// The file named in `/proc/PID/maps`, made by the first call.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn name(
        &self,
        make: impl FnOnce() -> Result<Arc<FileDescription>, Errno>,
    ) -> Result<Arc<FileDescription>, Errno> {
        if let Some(name) = self.name.get() {
            return Ok(name.clone());
        }
        let made = make()?;
        Ok(self.name.get_or_init(|| made).clone())
    }
}

impl Mappable for SegmentPages {
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno> {
        self.cache.frames(offset, most, write)
    }

    fn is_write_noticed(&self) -> bool {
        self.cache.is_write_noticed()
    }

    fn len(&self) -> u64 {
        self.cache.len()
    }

    fn attach(&self, mapping: Arc<dyn Mapping>) {
        let relay = {
            let mut relays = self.relays.lock();
            match relays.iter_mut().find(|(relay, _)| Arc::ptr_eq(&relay.link, &mapping)) {
                Some((relay, count)) => {
                    *count += 1;
                    relay.clone()
                }
                None => {
                    let relay = Arc::new(Relay { link: mapping, pages: self.me.clone() });
                    relays.push((relay.clone(), 1));
                    relay
                }
            }
        };
        self.cache.attach(relay);
        if let (Some(table), Some(&id)) = (self.table.upgrade(), self.id.get()) {
            table.attached(id);
        }
    }

    fn detach(&self, mapping: &Arc<dyn Mapping>) {
        let relay = {
            let mut relays = self.relays.lock();
            let Some(at) = relays.iter().position(|(relay, _)| Arc::ptr_eq(&relay.link, mapping)) else { return };
            let Some((relay, count)) = relays.get_mut(at) else { return };
            *count -= 1;
            if *count > 0 { relay.clone() } else { relays.swap_remove(at).0 }
        };
        let relay: Arc<dyn Mapping> = relay;
        self.cache.detach(&relay);
        if let (Some(table), Some(&id)) = (self.table.upgrade(), self.id.get()) {
            table.detached(id);
        }
    }

    fn write_back(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.cache.write_back(offset, len)
    }

    fn is_resident(&self, offset: u64) -> bool {
        self.cache.is_resident(offset)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<(), Errno> {
        self.cache.punch_hole(offset, len)
    }
}

/// The shared memory segments of a sandbox.
pub(crate) struct SharedMemory {
    me: Weak<SharedMemory>,
    memory: Arc<GuestMemory>,
    segments: Mutex<Ids<Segment>>,
    limits: Arc<Limits>,
}

impl SharedMemory {
    pub(super) fn new(memory: Arc<GuestMemory>, limits: Arc<Limits>) -> Arc<Self> {
        Arc::new_cyclic(|me| SharedMemory {
            me: me.clone(),
            memory,
            segments: Mutex::new(Rank::Leaf, Ids::default()),
            limits,
        })
    }

    /// The locked segments.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ids<Segment>> {
        self.segments.lock()
    }

    /// shmget(2). `reserve` refuses sizes that can never fit.
    ///
    /// # Errors
    /// Those of shmget(2).
    pub(crate) fn find_or_make(
        &self,
        credentials: &Credentials,
        key: i32,
        size: u64,
        flags: u32,
        reserve: bool,
        creator: i32,
    ) -> Result<i32, Errno> {
        let mut made = None;
        let id = self.lock().find_or_make(
            credentials,
            key,
            flags,
            &self.limits.shmmni,
            |segment| if segment.size < size { Err(Errno::EINVAL.here()) } else { Ok(()) },
            |segments, permissions| {
                if !(SHMMIN..=self.limits.shmmax.get()).contains(&size) {
                    return Err(Errno::EINVAL.here());
                }
                let bytes = size.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::EINVAL.here())?;
                if segments.total().saturating_add(bytes / PAGE_SIZE) > self.limits.shmall.get() {
                    return Err(Errno::ENOSPC.here());
                }
                if (reserve && bytes > self.memory.limit()) || bytes > i64::MAX as u64 {
                    return Err(Errno::ENOMEM.here());
                }
                self.memory.admit_lasting(OBJECT_BYTES)?;
                let pages = Arc::new_cyclic(|me| SegmentPages {
                    me: me.clone(),
                    cache: PageCache::lasting(self.memory.clone(), bytes, None),
                    table: self.me.clone(),
                    id: OnceLock::new(),
                    relays: Mutex::new(Rank::Leaf, Vec::new()),
                    name: OnceLock::new(),
                });
                made = Some(pages.clone());
                Ok(Segment {
                    permissions,
                    pages,
                    size,
                    attached_at: 0,
                    detached_at: 0,
                    changed_at: now(),
                    creator,
                    last: 0,
                    attached: 0,
                })
            },
        )?;
        if let Some(pages) = made {
            // No process can attach the segment before it has an ID.
            let _ = pages.id.set(id);
        }
        Ok(id)
    }

    fn attached(&self, id: i32) {
        let pid = current().map_or(0, |task| task.group().pid());
        if let Ok(segment) = self.lock().get_mut(id) {
            segment.attached += 1;
            (segment.attached_at, segment.last) = (now(), pid);
        }
    }

    fn detached(&self, id: i32) {
        let pid = current().map_or(0, |task| task.group().pid());
        let gone = {
            let mut segments = self.lock();
            let Ok(segment) = segments.get_mut(id) else { return };
            segment.attached = segment.attached.saturating_sub(1);
            (segment.detached_at, segment.last) = (now(), pid);
            let over = segment.attached == 0 && segment.permissions.mode & SHM_DEST != 0;
            if over { segments.remove(id) } else { None }
        };
        // The pages are dropped without the lock.
        drop(gone);
    }

    /// Removes a segment, now or at the last detachment.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub(crate) fn remove(&self, credentials: &Credentials, id: i32) -> Result<(), Errno> {
        let gone = {
            let mut segments = self.lock();
            let segment = segments.get_mut(id)?;
            segment.permissions.check_owner(credentials)?;
            if segment.attached > 0 {
                segment.permissions.mode |= SHM_DEST;
                segments.take_key(id);
                None
            } else {
                segments.remove(id)
            }
        };
        drop(gone);
        Ok(())
    }

    /// Whether an object is a segment of this table.
    pub(crate) fn is_segment(&self, object: &Arc<dyn Mappable>) -> bool {
        self.lock().iter().any(|(_, segment)| std::ptr::addr_eq(Arc::as_ptr(&segment.pages), Arc::as_ptr(object)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts invalidations.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Mapping for Counter {
        fn invalidate(&self, _: &dyn Mappable, _: u64, _: u64, _: bool) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_change_invalidates_each_address_space_once() {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let pages = Arc::new_cyclic(|me| SegmentPages {
            me: me.clone(),
            cache: PageCache::lasting(memory, 4 * PAGE_SIZE, None),
            table: Weak::new(),
            id: OnceLock::new(),
            relays: Mutex::new(Rank::Leaf, Vec::new()),
            name: OnceLock::new(),
        });
        let counter = Arc::new(Counter::default());
        let mapping: Arc<dyn Mapping> = counter.clone();
        let invalidations = || {
            pages.punch_hole(0, PAGE_SIZE).unwrap();
            counter.0.swap(0, Ordering::Relaxed)
        };
        (0..3).for_each(|_| pages.attach(mapping.clone()));
        assert_eq!(invalidations(), 1);
        (0..2).for_each(|_| pages.detach(&mapping));
        assert_eq!(invalidations(), 1);
        pages.detach(&mapping);
        assert_eq!(invalidations(), 0);
    }
}
