//! Allocates page tables and other pages of the platform.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use amber_platform::{GuestMemory, KernelCharge, KernelPart, PAGE_SIZE, PlatformError};
use parking_lot::Mutex;

use crate::guest_phys_window::GuestPhysWindow;
use crate::layout::TABLES_BYTES;
use crate::platform_error;

/// Number of entries of a table.
pub(crate) const ENTRIES: usize = 512;
/// Invalidate the host's copies of all page tables when this many stale tables have accumulated …
const MAX_STALE: usize = 4096;
/// … or only this many if memory is scarce.
const MIN_STALE: usize = 64;
/// Host memory for the copy of one table, on hosts that cache page tables.
const HOST_COPY_BYTES: u64 = 16 << 10;
/// Number of free tables that keep their memory if memory is scarce.
const MAX_SPARE: usize = 64;

/// A page of table memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table(u64);

impl Table {
    /// Offset in table memory, in bytes.
    pub(crate) fn offset(self) -> u64 {
        self.0
    }
}

#[derive(Default)]
struct Stock {
    /// Offset of the first table that was never used.
    top: u64,
    free: Vec<Table>,
    /// Free tables whose memory was returned to the host.
    unbacked: Vec<Table>,
    /// Free tables of which the host may still have copies.
    stale: Vec<Table>,
}

impl Stock {
    fn pop(&mut self) -> Option<Table> {
        self.free.pop().or_else(|| self.unbacked.pop())
    }

    /// Host memory of all tables, if a table that is in use or stale costs `each` bytes.
    fn bytes(&self, each: u64) -> u64 {
        let in_use = self.top / PAGE_SIZE - (self.free.len() + self.unbacked.len()) as u64;
        in_use * each + self.free.len() as u64 * PAGE_SIZE
    }
}

/// The page tables of a machine.
pub(crate) struct TableAllocator {
    window: GuestPhysWindow,
    stock: Mutex<Stock>,
    /// The number of entries that refer to each table; 1 for tables that are used by themselves.
    references: Box<[AtomicU32]>,
    /// Whether the host caches page tables; assumed until [`set_host_caches_tables`](Self::set_host_caches_tables).
    host_caches_tables: AtomicBool,
    memory: Arc<GuestMemory>,
    charge: KernelCharge,
}

impl TableAllocator {
    /// Table memory in a window that begins with the stub. It is charged to `memory`.
    pub(crate) fn new(window: GuestPhysWindow, memory: &Arc<GuestMemory>) -> Result<Self, PlatformError> {
        let stock = Mutex::new(Stock { top: PAGE_SIZE, ..Stock::default() });
        // Zero pages, most of which are never touched.
        let zeros = vec![0u32; (TABLES_BYTES / PAGE_SIZE) as usize].into_boxed_slice();
        // SAFETY: `AtomicU32` has the size, the alignment and the valid values of `u32`, and nobody else has the box.
        let references = unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [AtomicU32]) };
        memory.set_tables_inside();
        let charge = memory.charge(KernelPart::PageTables, 0);
        let (memory, host_caches_tables) = (memory.clone(), AtomicBool::new(true));
        Ok(TableAllocator { window, stock, references, host_caches_tables, memory, charge })
    }

    /// The window through which the machine accesses it.
    pub(crate) fn window(&self) -> &GuestPhysWindow {
        &self.window
    }

    /// Sets whether the host caches page tables.
    pub(crate) fn set_host_caches_tables(&self, host_caches_tables: bool) {
        self.host_caches_tables.store(host_caches_tables, Ordering::Relaxed);
    }

    /// Host memory of a table in use, in bytes.
    pub(crate) fn bytes_each(&self) -> u64 {
        PAGE_SIZE + if self.host_caches_tables.load(Ordering::Relaxed) { HOST_COPY_BYTES } else { 0 }
    }

    /// The number of stale tables at which an invalidation pays off.
    fn stale_limit(&self) -> usize {
        let soon = self.memory.ahead().saturating_mul(4) / self.bytes_each();
        (soon as usize).clamp(MIN_STALE, MAX_STALE)
    }

    /// If memory is scarce, returns the memory of unused tables to the host. `invalidate` is as for
    /// [`take`](Self::take).
    pub(crate) fn tidy(&self, invalidate: impl FnOnce() -> Result<(), PlatformError>) {
        let limit = self.stale_limit();
        if limit == MAX_STALE {
            return;
        }
        let mut stock = self.stock.lock();
        if stock.stale.len() >= limit {
            match invalidate() {
                Ok(()) => {
                    let stale = std::mem::take(&mut stock.stale);
                    stock.free.extend(stale);
                }
                Err(error) => log::debug!("keeping the host's copies of page tables: {error}"),
            }
        }
        if stock.free.len() > 2 * MAX_SPARE {
            let mut rest = stock.free.split_off(MAX_SPARE);
            rest.sort_unstable_by_key(|table| table.0);
            for run in rest.chunk_by(|one, next| one.0 + PAGE_SIZE == next.0) {
                self.window.invalidate(run[0].0, run.len() as u64 * PAGE_SIZE);
            }
            stock.unbacked.append(&mut rest);
        }
        self.charge.set(stock.bytes(self.bytes_each()));
    }

    /// Allocates a zeroed table. `invalidate` drops the host's copies of page tables.
    ///
    /// # Errors
    /// All table memory is in use, or `invalidate` failed.
    pub(crate) fn take(&self, invalidate: impl FnOnce() -> Result<(), PlatformError>) -> Result<Table, PlatformError> {
        let table = self.find(invalidate)?;
        self.references(table).store(1, Ordering::Relaxed);
        Ok(table)
    }

    fn references(&self, table: Table) -> &AtomicU32 {
        &self.references[(table.0 / PAGE_SIZE) as usize]
    }

    /// Adds a reference from another table.
    pub(crate) fn share(&self, table: Table) {
        self.references(table).fetch_add(1, Ordering::Relaxed);
    }

    /// Whether several entries refer to the table, so that it must be copied before a change.
    pub(crate) fn is_shared(&self, table: Table) -> bool {
        self.references(table).load(Ordering::Acquire) > 1
    }

    /// Removes a reference. Returns whether it was the last.
    pub(crate) fn unshare(&self, table: Table) -> bool {
        self.references(table).fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn find(&self, invalidate: impl FnOnce() -> Result<(), PlatformError>) -> Result<Table, PlatformError> {
        let mut stock = self.stock.lock();
        let found = self.find_in(&mut stock, invalidate);
        self.charge.set(stock.bytes(self.bytes_each()));
        found
    }

    fn find_in(
        &self,
        stock: &mut Stock,
        invalidate: impl FnOnce() -> Result<(), PlatformError>,
    ) -> Result<Table, PlatformError> {
        if let Some(table) = stock.pop() {
            return Ok(table);
        }
        let has_unused = stock.top + PAGE_SIZE <= TABLES_BYTES;
        if stock.stale.len() >= self.stale_limit() || !has_unused && !stock.stale.is_empty() {
            invalidate()?;
            stock.free = std::mem::take(&mut stock.stale);
        }
        if let Some(table) = stock.pop() {
            return Ok(table);
        }
        if !has_unused {
            return Err(platform_error("the memory for page tables is exhausted", std::io::ErrorKind::OutOfMemory));
        }
        let table = Table(stock.top);
        stock.top += PAGE_SIZE;
        Ok(table)
    }

    /// Frees tables that no vCPU uses any more.
    pub(crate) fn give_back(&self, tables: impl IntoIterator<Item = Table>) {
        let tables: Vec<Table> = tables.into_iter().collect();
        for table in &tables {
            for entry in self.entries(*table) {
                entry.store(0, Ordering::Relaxed);
            }
        }
        let mut stock = self.stock.lock();
        if self.host_caches_tables.load(Ordering::Relaxed) { &mut stock.stale } else { &mut stock.free }.extend(tables);
        self.charge.set(stock.bytes(self.bytes_each()));
    }

    /// The entries of a table.
    pub(crate) fn entries(&self, table: Table) -> &[AtomicU64; ENTRIES] {
        let start = self.window.mapping().as_ptr().wrapping_add(table.0 as usize);
        // SAFETY: a page of the mapping, which lives as long as `self`; vCPUs and the sentry use it by whole words.
        unsafe { &*start.cast() }
    }

    /// Guest-physical address of a table.
    pub(crate) fn address(&self, table: Table) -> u64 {
        self.window.address(table.0)
    }

    /// The table at a guest-physical address.
    pub(crate) fn at(&self, address: u64) -> Table {
        Table(self.window.offset(address).expect("entries above the last level name tables"))
    }

    /// A word of a page by byte offset.
    pub(crate) fn word(&self, page: Table, offset: u64) -> &AtomicU64 {
        &self.entries(page)[offset as usize / 8]
    }
}
