//! Page tables of four levels (Intel SDM, volume 3, "4-Level Paging and 5-Level Paging").
//!
//! See docs/internals/tlb-generations.md.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_platform::{FrameRange, PAGE_SIZE, PlatformError, Protection};

use crate::layout::COMMON;
use crate::machine::Machine;
use crate::table_allocator::{ENTRIES, Table};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Accessed and dirty. They are set from the start, so that the processor need not set them; nothing reads them.
const USED: u64 = 3 << 5;
/// In tables above the last level: the entry maps a large page.
const LARGE: u64 = 1 << 7;
/// Ignored by the processor: the page is in the table, but not accessible.
const KEPT: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The bits of an entry that refers to a table. The entries of the last level decide on access.
const TABLE_ENTRY: u64 = PRESENT | WRITE | USER | USED;
/// Size of the region that a last-level table or a large page maps.
const REGION: u64 = PAGE_SIZE * ENTRIES as u64;
/// Index of the top-level entry for the kernel half.
pub(crate) const KERNEL_ENTRY: usize = 511;

/// The entry bits of the stub's code.
pub(crate) fn kernel_code() -> u64 {
    PRESENT | USED
}

/// The entry bits of the machine's own data.
pub(crate) fn kernel_data() -> u64 {
    PRESENT | WRITE | USED | NO_EXECUTE
}

/// The entry bits of the trampoline.
pub(crate) fn trampoline() -> u64 {
    PRESENT | USER | USED
}

/// The entry bits for a protection. On x86, write and execute permission imply read permission.
fn bits(protection: Protection) -> u64 {
    let Protection { read, write, execute } = protection;
    if !(read || write || execute) {
        return KEPT;
    }
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    PRESENT | USER | USED | bit(write, WRITE) | bit(!execute, NO_EXECUTE)
}

/// Index of the entry for an address in a table of `level` (3 at the top, 0 last).
fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % ENTRIES
}

/// Size of the region that one entry of a level maps.
fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * level)
}

/// Whether replacing one entry by another removes a right or a page that a TLB may hold.
fn needs_flush(old: u64, new: u64) -> bool {
    old & PRESENT != 0
        && (new & PRESENT == 0
            || old & ADDRESS != new & ADDRESS
            || old & WRITE > new & WRITE
            || old & NO_EXECUTE < new & NO_EXECUTE)
}

/// What a TLB or the host may still hold after a change.
#[derive(Debug, Default)]
pub(crate) struct FlushSet {
    /// Guest-physical ranges that were mapped.
    pub runs: Vec<Range<u64>>,
    /// Tables that were removed, with their levels.
    pub tables: Vec<TableRef>,
}

/// A reference from an entry to a table, and that table's level.
pub(crate) type TableRef = (Table, u32);

impl FlushSet {
    fn add(&mut self, start: u64, len: u64) {
        match self.runs.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => self.runs.push(start..start + len),
        }
    }

    /// Whether nothing was removed.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.tables.is_empty()
    }
}

/// The user half of one address space.
///
/// Where the processor walks the tables itself, a fork shares them, and a shared table is copied before it is changed.
pub(crate) struct PageTables {
    machine: Arc<Machine>,
    root: Table,
}

impl PageTables {
    /// Tables without mappings, below a top-level table.
    pub(crate) fn new(machine: Arc<Machine>, root: Table) -> Self {
        PageTables { machine, root }
    }

    fn entries(&self, table: Table) -> &[AtomicU64; ENTRIES] {
        self.machine.tables().entries(table)
    }

    /// The table an entry leads to, for changes: allocated if there is none, copied if it is shared, and split from a large
    /// mapping.
    fn descend(&mut self, table: Table, at: usize, level: u32, flush: &mut FlushSet) -> Result<Table, PlatformError> {
        let tables = self.machine.tables();
        let entry = tables.entries(table)[at].load(Ordering::SeqCst);
        let linked = (entry & PRESENT != 0 && entry & LARGE == 0).then(|| tables.at(entry & ADDRESS));
        if let Some(next) = linked.filter(|next| !tables.is_shared(*next)) {
            return Ok(next);
        }
        let next = self.machine.new_table()?;
        if let Some(shared) = linked {
            for (to, from) in tables.entries(next).iter().zip(tables.entries(shared)) {
                let entry = from.load(Ordering::SeqCst);
                to.store(entry, Ordering::SeqCst);
                if level > 1 && entry & PRESENT != 0 && entry & LARGE == 0 {
                    tables.share(tables.at(entry & ADDRESS));
                }
            }
            flush.tables.push((shared, level - 1));
        } else if entry & LARGE != 0 {
            for (i, small) in tables.entries(next).iter().enumerate() {
                small.store((entry & !LARGE) + i as u64 * span(level - 1), Ordering::SeqCst);
            }
        }
        tables.entries(table)[at].store(tables.address(next) | TABLE_ENTRY, Ordering::SeqCst);
        Ok(next)
    }

    /// The last-level table for an address, for changes.
    fn leaf(&mut self, address: u64, flush: &mut FlushSet) -> Result<Table, PlatformError> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            table = self.descend(table, index(address, level), level, flush)?;
        }
        Ok(table)
    }

    /// Maps a page of the platform's own, at an address where nothing is mapped.
    pub(crate) fn map_own(&mut self, at: u64, page: u64, bits: u64) -> Result<(), PlatformError> {
        let leaf = self.leaf(at, &mut FlushSet::default())?;
        self.entries(leaf)[index(at, 0)].store(page | bits, Ordering::SeqCst);
        Ok(())
    }

    /// Maps frames and replaces what was mapped.
    pub(crate) fn map(
        &mut self,
        at: u64,
        frames: FrameRange,
        protection: Protection,
        flush: &mut FlushSet,
    ) -> Result<(), PlatformError> {
        let physical = self.machine.guest_address(frames)?;
        let bits = bits(protection);
        // A host that caches tables would keep its copy of a large entry when that is split.
        let large = bits & PRESENT != 0 && !self.machine.quirks().host_caches_tables;
        let (mut done, len) = (0, frames.len);
        while done < len {
            let (address, page) = (at + done, physical + done);
            let part = (REGION - address % REGION).min(len - done);
            if large && part == REGION && page.is_multiple_of(REGION) && self.map_large(address, page | bits, flush)? {
                done += part;
                continue;
            }
            let leaf = self.leaf(address, flush)?;
            let first = index(address, 0);
            for i in 0..(part / PAGE_SIZE) as usize {
                let new = (page + i as u64 * PAGE_SIZE) | bits;
                let old = self.entries(leaf)[first + i].swap(new, Ordering::SeqCst);
                if needs_flush(old, new) {
                    flush.add(old & ADDRESS, PAGE_SIZE);
                }
            }
            done += part;
        }
        Ok(())
    }

    /// Maps a region by one large page, if it has no table yet. Returns whether it did.
    fn map_large(&mut self, address: u64, entry: u64, flush: &mut FlushSet) -> Result<bool, PlatformError> {
        let mut table = self.root;
        for level in [3, 2] {
            table = self.descend(table, index(address, level), level, flush)?;
        }
        let place = &self.entries(table)[index(address, 1)];
        Ok(place.compare_exchange(0, entry | LARGE, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }

    /// Removes all mappings in a range.
    pub(crate) fn unmap(&mut self, range: Range<u64>, flush: &mut FlushSet) -> Result<(), PlatformError> {
        self.change(self.root, 3, 0, range, flush, &|_| 0)
    }

    /// Changes the protection of the mappings in a range.
    pub(crate) fn protect(
        &mut self,
        range: Range<u64>,
        protection: Protection,
        flush: &mut FlushSet,
    ) -> Result<(), PlatformError> {
        let bits = bits(protection);
        self.change(self.root, 3, 0, range, flush, &|old| old & (ADDRESS | LARGE) | bits)
    }

    /// Replaces every present mapping entry in a range by `new(old)`. `base` is the address where the table begins.
    fn change(
        &mut self,
        table: Table,
        level: u32,
        base: u64,
        range: Range<u64>,
        flush: &mut FlushSet,
        new: &impl Fn(u64) -> u64,
    ) -> Result<(), PlatformError> {
        let span = span(level);
        for (i, part, whole) in parts(level, base, range) {
            let entry = self.entries(table)[i].load(Ordering::SeqCst);
            if entry == 0 {
                continue;
            }
            if is_last(entry, level) && (level == 0 || whole) {
                let wanted = new(entry);
                self.entries(table)[i].store(wanted, Ordering::SeqCst);
                if needs_flush(entry, wanted) {
                    flush.add(entry & ADDRESS, span);
                }
                continue;
            }
            let at = base + i as u64 * span;
            if !is_last(entry, level) {
                let next = self.machine.tables().at(entry & ADDRESS);
                // A table that is removed as a whole need not be walked, unless the host caches its contents.
                if whole && new(PRESENT) == 0 && !self.machine.quirks().host_caches_tables {
                    self.entries(table)[i].store(0, Ordering::SeqCst);
                    flush.tables.push((next, level - 1));
                    continue;
                }
                if self.machine.tables().is_shared(next) && !self.would_change(next, level - 1, at, part.clone(), new) {
                    continue;
                }
            }
            let next = self.descend(table, i, level, flush)?;
            self.change(next, level - 1, at, part, flush, new)?;
        }
        Ok(())
    }

    /// Whether [`change`](Self::change) would change anything.
    fn would_change(&self, table: Table, level: u32, base: u64, range: Range<u64>, new: &impl Fn(u64) -> u64) -> bool {
        parts(level, base, range).any(|(i, part, _)| {
            let entry = self.entries(table)[i].load(Ordering::SeqCst);
            if entry == 0 || is_last(entry, level) {
                return entry != 0 && new(entry) != entry;
            }
            self.would_change(
                self.machine.tables().at(entry & ADDRESS),
                level - 1,
                base + i as u64 * span(level),
                part,
                new,
            )
        })
    }

    /// Copies all mappings below `limit` to empty tables. Parent and child then map the same pages.
    pub(crate) fn copy_into(&self, child: &mut PageTables, limit: u64) -> Result<(), PlatformError> {
        if self.machine.quirks().host_caches_tables {
            return self.copy_below(self.root, child, child.root, 3, 0, limit);
        }
        for (to, from) in self.entries(child.root)[..ENTRIES / 2].iter().zip(self.entries(self.root)) {
            let entry = from.load(Ordering::SeqCst);
            if entry != 0 {
                self.machine.tables().share(self.machine.tables().at(entry & ADDRESS));
                to.store(entry, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    fn copy_below(
        &self,
        from: Table,
        child: &mut PageTables,
        to: Table,
        level: u32,
        base: u64,
        limit: u64,
    ) -> Result<(), PlatformError> {
        for (i, part, _) in parts(level, base, base..limit) {
            let entry = self.entries(from)[i].load(Ordering::SeqCst);
            if entry == 0 {
                continue;
            }
            if is_last(entry, level) {
                self.entries(to)[i].store(entry, Ordering::Relaxed);
                continue;
            }
            let next = child.descend(to, i, level, &mut FlushSet::default())?;
            self.copy_below(self.machine.tables().at(entry & ADDRESS), child, next, level - 1, part.start, limit)?;
        }
        Ok(())
    }

    /// Empties the user half and returns the tables it referred to.
    pub(crate) fn clear(&mut self) -> Vec<TableRef> {
        let entries = self.entries(self.root)[..ENTRIES / 2].iter().map(|entry| entry.swap(0, Ordering::SeqCst));
        entries.filter(|entry| *entry != 0).map(|entry| (self.machine.tables().at(entry & ADDRESS), 2)).collect()
    }

    /// The number of tables, shared ones included.
    pub(crate) fn count(&self) -> u64 {
        1 + self.count_below(&self.entries(self.root)[..ENTRIES / 2], 3)
    }

    fn count_below(&self, entries: &[AtomicU64], level: u32) -> u64 {
        let links = entries.iter().map(|entry| entry.load(Ordering::Relaxed)).filter(|entry| entry & PRESENT != 0);
        let links = links.filter(|entry| !is_last(*entry, level));
        let count = |entry: u64| match level {
            1 => 1,
            _ => 1 + self.count_below(self.entries(self.machine.tables().at(entry & ADDRESS)), level - 1),
        };
        links.map(count).sum()
    }

    /// The guest-physical address of a byte at `address` that user code may read.
    pub(crate) fn find(&self, address: u64) -> Option<u64> {
        let mut table = self.root;
        for level in [3, 2, 1, 0] {
            let entry = self.entries(table)[index(address, level)].load(Ordering::SeqCst);
            if entry & (PRESENT | USER) != PRESENT | USER {
                return None;
            }
            if is_last(entry, level) {
                return Some((entry & ADDRESS) + address % span(level));
            }
            table = self.machine.tables().at(entry & ADDRESS);
        }
        None
    }
}

/// Whether an entry of a table of `level` maps a page.
fn is_last(entry: u64, level: u32) -> bool {
    level == 0 || entry & LARGE != 0
}

/// The entries that overlap `range` in a table of `level` that begins at `base`: index, overlap, and whether that is
/// the whole region of the entry. The kernel half is left out.
fn parts(level: u32, base: u64, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>, bool)> {
    let span = span(level);
    let end = if level == 3 { ENTRIES / 2 } else { ENTRIES };
    let first = (range.start.saturating_sub(base) / span) as usize;
    (first..end).map_while(move |i| {
        let at = base + i as u64 * span;
        let part = range.start.max(at)..range.end.min(at + span);
        (at < range.end).then(|| (i, part.clone(), part == (at..at + span)))
    })
}

/// Drops a reference to a table, and frees what is no longer referenced.
pub(crate) fn release(machine: &Machine, (table, level): TableRef) {
    let tables = machine.tables();
    if !tables.unshare(table) {
        return;
    }
    if level > 0 {
        for entry in tables.entries(table) {
            let entry = entry.load(Ordering::Relaxed);
            if entry & PRESENT != 0 && !is_last(entry, level) {
                release(machine, (tables.at(entry & ADDRESS), level - 1));
            }
        }
    }
    tables.give_back([table]);
}

/// The kernel half, which all address spaces share.
#[derive(Default)]
pub(crate) struct Kernel {
    /// The tables of the two levels below the top level, and the last-level tables in order.
    upper: Option<(Table, Table)>,
    leaves: Vec<Table>,
}

impl Kernel {
    /// The top-level entry for the kernel half.
    pub(crate) fn entry(&self, machine: &Machine) -> u64 {
        self.upper.map_or(0, |(top, _)| machine.tables().address(top) | PRESENT | WRITE | USED)
    }

    /// Maps a page.
    pub(crate) fn map(&mut self, machine: &Machine, at: u64, page: u64, bits: u64) -> Result<(), PlatformError> {
        let tables = machine.tables();
        let link = |table: Table| tables.address(table) | PRESENT | WRITE | USED;
        let (_, directory) = match self.upper {
            Some(upper) => upper,
            None => {
                let (top, directory) = (machine.new_table()?, machine.new_table()?);
                tables.entries(top)[index(COMMON, 2)].store(link(directory), Ordering::SeqCst);
                *self.upper.insert((top, directory))
            }
        };
        while self.leaves.len() <= index(at, 1) {
            let leaf = machine.new_table()?;
            tables.entries(directory)[self.leaves.len()].store(link(leaf), Ordering::SeqCst);
            self.leaves.push(leaf);
        }
        tables.entries(self.leaves[index(at, 1)])[index(at, 0)].store(page | bits, Ordering::SeqCst);
        Ok(())
    }
}
