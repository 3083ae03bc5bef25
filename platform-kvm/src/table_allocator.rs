//! Memory for page tables and the machine's own pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use amber_platform::{GuestMemory, KernelCharge, KernelPart, PAGE_SIZE, PlatformError};
use parking_lot::Mutex;

use crate::guest_phys_window::GuestPhysWindow;
use crate::layout::TABLES_BYTES;
use crate::platform_error;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// So many tables given back are worth making the host forget all it derived from tables …
const MAX_STALE: usize = 4096;
/// … and so many where memory is scarce.
const MIN_STALE: usize = 64;
/// What a host that remembers tables keeps for each one.
const HOST_COPY_BYTES: u64 = 16 << 10;
/// So many free tables keep their memory where memory is scarce.
const MAX_SPARE: usize = 64;

/// A page of table memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(u64);

impl Table {
    /// Where it is in table memory, in bytes.
    pub fn offset(self) -> u64 {
        self.0
    }
}

#[derive(Default)]
struct Stock {
    /// Everything from here on was never used.
    top: u64,
    free: Vec<Table>,
    /// The same, without memory.
    unbacked: Vec<Table>,
    /// Free, but the host may still know things it derived from what they held.
    stale: Vec<Table>,
}

impl Stock {
    fn pop(&mut self) -> Option<Table> {
        self.free.pop().or_else(|| self.unbacked.pop())
    }

    /// Bytes of the host's memory for all of it, where a table that is in use or stale costs `each`.
    fn bytes(&self, each: u64) -> u64 {
        let in_use = self.top / PAGE_SIZE - (self.free.len() + self.unbacked.len()) as u64;
        in_use * each + self.free.len() as u64 * PAGE_SIZE
    }
}

/// All tables of a machine.
pub struct TableAllocator {
    window: GuestPhysWindow,
    stock: Mutex<Stock>,
    /// How many tables lead to each one; 1 for those that are on their own.
    references: Box<[AtomicU32]>,
    /// Whether the host keeps what it derives from tables, until told otherwise.
    host_caches_tables: AtomicBool,
    memory: Arc<GuestMemory>,
    charge: KernelCharge,
}

impl TableAllocator {
    /// Table memory in a window whose first page is the stub; it is charged to `memory`.
    pub fn new(window: GuestPhysWindow, memory: &Arc<GuestMemory>) -> Result<Self, PlatformError> {
        let stock = Mutex::new(Stock { top: PAGE_SIZE, ..Stock::default() });
        // Zeroed by the host when it is first used, most of it never.
        let zeros = vec![0u32; (TABLES_BYTES / PAGE_SIZE) as usize].into_boxed_slice();
        // SAFETY: `AtomicU32` has the size, the alignment and the valid values of `u32`, and nobody else has the box.
        let references = unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [AtomicU32]) };
        let charge = memory.charge(KernelPart::PageTables, 0);
        let (memory, host_caches_tables) = (memory.clone(), AtomicBool::new(true));
        Ok(TableAllocator { window, stock, references, host_caches_tables, memory, charge })
    }

    /// The window through which the machine has it.
    pub fn window(&self) -> &GuestPhysWindow {
        &self.window
    }

    /// Says whether the host remembers what it derived from tables.
    pub fn set_host_caches_tables(&self, host_caches_tables: bool) {
        self.host_caches_tables.store(host_caches_tables, Ordering::Relaxed);
    }

    /// What the host has for a table in use, in bytes.
    pub fn bytes_each(&self) -> u64 {
        PAGE_SIZE + if self.host_caches_tables.load(Ordering::Relaxed) { HOST_COPY_BYTES } else { 0 }
    }

    /// How many tables given back are worth making the host forget.
    fn stale_limit(&self) -> usize {
        let soon = self.memory.ahead().saturating_mul(4) / self.bytes_each();
        (soon as usize).clamp(MIN_STALE, MAX_STALE)
    }

    /// Where memory is scarce, gives the host back what it has for tables that nobody uses. `forget` is as for
    /// [`take`](Self::take).
    pub fn tidy(&self, invalidate: impl FnOnce() -> Result<(), PlatformError>) {
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

    /// A zeroed table. `forget` makes the host forget what it derived from tables.
    ///
    /// # Errors
    /// All table memory is used.
    pub fn take(&self, invalidate: impl FnOnce() -> Result<(), PlatformError>) -> Result<Table, PlatformError> {
        let table = self.find(invalidate)?;
        self.references(table).store(1, Ordering::Relaxed);
        Ok(table)
    }

    fn references(&self, table: Table) -> &AtomicU32 {
        &self.references[(table.0 / PAGE_SIZE) as usize]
    }

    /// Lets one more table lead to this one.
    pub fn share(&self, table: Table) {
        self.references(table).fetch_add(1, Ordering::Relaxed);
    }

    /// Whether several tables lead to this one, so that it must not be changed.
    pub fn is_shared(&self, table: Table) -> bool {
        self.references(table).load(Ordering::Acquire) > 1
    }

    /// Says that one table less leads to this one. Returns whether it was the last.
    pub fn unshare(&self, table: Table) -> bool {
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

    /// Gives tables back that no processor uses any more.
    pub fn give_back(&self, tables: impl IntoIterator<Item = Table>) {
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

    /// The words of a table.
    pub fn entries(&self, table: Table) -> &[AtomicU64; ENTRIES] {
        let start = self.window.mapping().as_ptr().wrapping_add(table.0 as usize);
        // SAFETY: a page of the mapping, which lives as long as `self`; processors and the sentry use it by whole words.
        unsafe { &*start.cast() }
    }

    /// Guest-physical address of a table.
    pub fn address(&self, table: Table) -> u64 {
        self.window.address(table.0)
    }

    /// The table at a guest-physical address.
    pub fn at(&self, address: u64) -> Table {
        Table(self.window.offset(address).expect("entries above the last level name tables"))
    }

    /// A word of a page of the machine's own, by byte offset.
    pub fn word(&self, page: Table, offset: u64) -> &AtomicU64 {
        &self.entries(page)[offset as usize / 8]
    }
}
