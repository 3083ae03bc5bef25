//! Memory for page tables and the machine's own pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use amber_platform::{GuestMemory, KernelCharge, KernelPart, PAGE_SIZE, PlatformError};
use parking_lot::Mutex;

use crate::fault;
use crate::guest_phys_window::GuestPhysWindow;
use crate::layout::TABLES_BYTES;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// So many tables given back are worth making the host forget all it derived from tables …
const WORTH_FORGETTING: usize = 4096;
/// … and so many where memory is scarce.
const WORTH_FORGETTING_SOON: usize = 64;
/// What a host that remembers tables keeps for each one.
const REMEMBERED_BYTES: u64 = 16 << 10;
/// So many free tables keep their memory where memory is scarce.
const MOST_SPARE: usize = 64;

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
    bare: Vec<Table>,
    /// Free, but the host may still know things it derived from what they held.
    stale: Vec<Table>,
}

impl Stock {
    fn pop(&mut self) -> Option<Table> {
        self.free.pop().or_else(|| self.bare.pop())
    }

    /// Bytes of the host's memory for all of it, where a table that is in use or stale costs `each`.
    fn bytes(&self, each: u64) -> u64 {
        let known = self.top / PAGE_SIZE - (self.free.len() + self.bare.len()) as u64;
        known * each + self.free.len() as u64 * PAGE_SIZE
    }
}

/// All tables of a machine.
pub struct TableAllocator {
    window: GuestPhysWindow,
    stock: Mutex<Stock>,
    /// How many tables lead to each one; 1 for those that are on their own.
    holders: Box<[AtomicU32]>,
    /// Whether the host keeps what it derives from tables, until told otherwise.
    remembered: AtomicBool,
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
        let holders = unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [AtomicU32]) };
        let charge = memory.charge(KernelPart::PageTables, 0);
        let (memory, remembered) = (memory.clone(), AtomicBool::new(true));
        Ok(TableAllocator { window, stock, holders, remembered, memory, charge })
    }

    /// The window through which the machine has it.
    pub fn window(&self) -> &GuestPhysWindow {
        &self.window
    }

    /// Says whether the host remembers what it derived from tables.
    pub fn set_remembered(&self, remembered: bool) {
        self.remembered.store(remembered, Ordering::Relaxed);
    }

    /// What the host has for a table in use, in bytes.
    pub fn bytes_each(&self) -> u64 {
        PAGE_SIZE + if self.remembered.load(Ordering::Relaxed) { REMEMBERED_BYTES } else { 0 }
    }

    /// How many tables given back are worth making the host forget.
    fn worth_forgetting(&self) -> usize {
        let soon = self.memory.ahead().saturating_mul(4) / self.bytes_each();
        (soon as usize).clamp(WORTH_FORGETTING_SOON, WORTH_FORGETTING)
    }

    /// Where memory is scarce, gives the host back what it has for tables that nobody uses. `forget` is as for
    /// [`take`](Self::take).
    pub fn tidy(&self, forget: impl FnOnce() -> Result<(), PlatformError>) {
        let worth = self.worth_forgetting();
        if worth == WORTH_FORGETTING {
            return;
        }
        let mut stock = self.stock.lock();
        if stock.stale.len() >= worth {
            match forget() {
                Ok(()) => {
                    let stale = std::mem::take(&mut stock.stale);
                    stock.free.extend(stale);
                }
                Err(error) => log::debug!("tables stay remembered: {error}"),
            }
        }
        if stock.free.len() > 2 * MOST_SPARE {
            let mut rest = stock.free.split_off(MOST_SPARE);
            rest.sort_unstable_by_key(|table| table.0);
            for run in rest.chunk_by(|one, next| one.0 + PAGE_SIZE == next.0) {
                self.window.forget(run[0].0, run.len() as u64 * PAGE_SIZE);
            }
            stock.bare.append(&mut rest);
        }
        self.charge.set(stock.bytes(self.bytes_each()));
    }

    /// A zeroed table. `forget` makes the host forget what it derived from tables.
    ///
    /// # Errors
    /// All table memory is used.
    pub fn take(&self, forget: impl FnOnce() -> Result<(), PlatformError>) -> Result<Table, PlatformError> {
        let table = self.find(forget)?;
        self.holders(table).store(1, Ordering::Relaxed);
        Ok(table)
    }

    fn holders(&self, table: Table) -> &AtomicU32 {
        &self.holders[(table.0 / PAGE_SIZE) as usize]
    }

    /// Lets one more table lead to this one.
    pub fn share(&self, table: Table) {
        self.holders(table).fetch_add(1, Ordering::Relaxed);
    }

    /// Whether several tables lead to this one, so that it must not be changed.
    pub fn is_shared(&self, table: Table) -> bool {
        self.holders(table).load(Ordering::Acquire) > 1
    }

    /// Says that one table less leads to this one. Returns whether it was the last.
    pub fn unshare(&self, table: Table) -> bool {
        self.holders(table).fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn find(&self, forget: impl FnOnce() -> Result<(), PlatformError>) -> Result<Table, PlatformError> {
        let mut stock = self.stock.lock();
        let found = self.find_in(&mut stock, forget);
        self.charge.set(stock.bytes(self.bytes_each()));
        found
    }

    fn find_in(
        &self,
        stock: &mut Stock,
        forget: impl FnOnce() -> Result<(), PlatformError>,
    ) -> Result<Table, PlatformError> {
        if let Some(table) = stock.pop() {
            return Ok(table);
        }
        let fresh = stock.top + PAGE_SIZE <= TABLES_BYTES;
        if stock.stale.len() >= self.worth_forgetting() || !fresh && !stock.stale.is_empty() {
            forget()?;
            stock.free = std::mem::take(&mut stock.stale);
        }
        if let Some(table) = stock.pop() {
            return Ok(table);
        }
        if !fresh {
            return Err(fault("all memory for page tables is used", std::io::ErrorKind::OutOfMemory));
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
        if self.remembered.load(Ordering::Relaxed) { &mut stock.stale } else { &mut stock.free }.extend(tables);
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
