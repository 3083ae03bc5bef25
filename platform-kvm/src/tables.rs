//! Page tables of four levels: what a processor walks to find a guest's memory.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_platform::{FrameRange, HostFault, PAGE_SIZE, Protection};

use crate::layout::COMMON;
use crate::machine::Machine;
use crate::table_memory::{ENTRIES, Table};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Accessed and dirty are set from the start: nobody asks, and processors need not write them.
const USED: u64 = 3 << 5;
/// In a table above the last: the entry maps memory itself.
const LARGE: u64 = 1 << 7;
/// Not for processors: the page is kept, but may not be touched.
const KEPT: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry that leads to a further table; what may be done there, the last entry says.
const LINK: u64 = PRESENT | WRITE | USER | USED;
/// Bytes a last table maps: also what one large entry maps.
const REGION: u64 = PAGE_SIZE * ENTRIES as u64;
/// The entry of the top level that leads to the kernel half.
pub const KERNEL_ENTRY: usize = 511;

/// The entry bits of the stub's code.
pub fn kernel_code() -> u64 {
    PRESENT | USED
}

/// The entry bits of the machine's own data.
pub fn kernel_data() -> u64 {
    PRESENT | WRITE | USED | NO_EXECUTE
}

/// The entry bits of the trampoline.
pub fn trampoline() -> u64 {
    PRESENT | USER | USED
}

/// The entry bits for a protection. Whoever may write or execute may read: processors cannot tell these apart.
fn bits(protection: Protection) -> u64 {
    let Protection { read, write, execute } = protection;
    if !(read || write || execute) {
        return KEPT;
    }
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    PRESENT | USER | USED | bit(write, WRITE) | bit(!execute, NO_EXECUTE)
}

/// Which entry of a table of `level` (3 at the top, 0 last) leads to an address.
fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize % ENTRIES
}

/// Bytes that one entry of a level covers.
fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * level)
}

/// Whether going from one entry to another takes something away that a processor may remember.
fn takes_away(old: u64, new: u64) -> bool {
    old & PRESENT != 0
        && (new & PRESENT == 0
            || old & ADDRESS != new & ADDRESS
            || old & WRITE > new & WRITE
            || old & NO_EXECUTE < new & NO_EXECUTE)
}

/// What processors may still remember after a change: guest-physical runs.
#[derive(Debug, Default)]
pub struct Stale(pub Vec<Range<u64>>);

impl Stale {
    fn add(&mut self, start: u64, len: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => self.0.push(start..start + len),
        }
    }
}

/// The user half of one address space.
pub struct Tree {
    machine: Arc<Machine>,
    root: Table,
    /// Every table below the root.
    tables: Vec<Table>,
}

impl Tree {
    /// A tree without mappings under a root.
    pub fn new(machine: Arc<Machine>, root: Table) -> Self {
        Tree { machine, root, tables: Vec::new() }
    }

    fn entries(&self, table: Table) -> &[AtomicU64; ENTRIES] {
        self.machine.tables().entries(table)
    }

    /// The table an entry leads to, which is made if there is none. A large mapping is taken apart.
    fn descend(&mut self, table: Table, at: usize, level: u32) -> Result<Table, HostFault> {
        let entry = self.entries(table)[at].load(Ordering::SeqCst);
        if entry & PRESENT != 0 && entry & LARGE == 0 {
            return Ok(self.machine.tables().at(entry & ADDRESS));
        }
        let next = self.machine.new_table()?;
        self.tables.push(next);
        if entry & LARGE != 0 {
            for (i, small) in self.entries(next).iter().enumerate() {
                small.store((entry & !LARGE) + i as u64 * span(level - 1), Ordering::SeqCst);
            }
        }
        self.entries(table)[at].store(self.machine.tables().address(next) | LINK, Ordering::SeqCst);
        Ok(next)
    }

    /// The last table for an address, which is made if there is none.
    fn leaf(&mut self, address: u64) -> Result<Table, HostFault> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            table = self.descend(table, index(address, level), level)?;
        }
        Ok(table)
    }

    /// Maps a page of the machine's own.
    pub fn map_own(&mut self, at: u64, page: u64, bits: u64) -> Result<(), HostFault> {
        let leaf = self.leaf(at)?;
        self.entries(leaf)[index(at, 0)].store(page | bits, Ordering::SeqCst);
        Ok(())
    }

    /// Maps frames.
    pub fn map(
        &mut self,
        at: u64,
        frames: FrameRange,
        protection: Protection,
        stale: &mut Stale,
    ) -> Result<(), HostFault> {
        let physical = self.machine.guest_address(frames)?;
        let bits = bits(protection);
        // Where the host remembers tables, it would remember what a large entry led to when it is taken apart.
        let large = bits & PRESENT != 0 && !self.machine.behaviour().host_remembers_tables;
        let (mut done, len) = (0, frames.len);
        while done < len {
            let (address, page) = (at + done, physical + done);
            let part = (REGION - address % REGION).min(len - done);
            if large && part == REGION && page.is_multiple_of(REGION) && self.map_large(address, page | bits)? {
                done += part;
                continue;
            }
            let leaf = self.leaf(address)?;
            let first = index(address, 0);
            for i in 0..(part / PAGE_SIZE) as usize {
                let new = (page + i as u64 * PAGE_SIZE) | bits;
                let old = self.entries(leaf)[first + i].swap(new, Ordering::SeqCst);
                if takes_away(old, new) {
                    stale.add(old & ADDRESS, PAGE_SIZE);
                }
            }
            done += part;
        }
        Ok(())
    }

    /// Maps a whole region by one entry, where there is no table yet.
    fn map_large(&mut self, address: u64, entry: u64) -> Result<bool, HostFault> {
        let mut table = self.root;
        for level in [3, 2] {
            table = self.descend(table, index(address, level), level)?;
        }
        let place = &self.entries(table)[index(address, 1)];
        Ok(place.compare_exchange(0, entry | LARGE, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }

    /// Calls `work` with every entry in a range that is not empty, and its length. Large entries that reach over the end
    /// are taken apart before.
    fn each(&mut self, range: Range<u64>, work: &mut impl FnMut(&AtomicU64, u64)) -> Result<(), HostFault> {
        self.each_below(self.root, 3, 0, range, work)
    }

    fn each_below(
        &mut self,
        table: Table,
        level: u32,
        base: u64,
        range: Range<u64>,
        work: &mut impl FnMut(&AtomicU64, u64),
    ) -> Result<(), HostFault> {
        let span = span(level);
        let first = (range.start.saturating_sub(base) / span) as usize;
        for i in first..ENTRIES {
            let at = base + i as u64 * span;
            if at >= range.end {
                break;
            }
            let entry = self.entries(table)[i].load(Ordering::SeqCst);
            let whole = range.start <= at && at + span <= range.end;
            if entry == 0 || level == 3 && i >= ENTRIES / 2 {
                continue;
            }
            if level == 0 || entry & LARGE != 0 && level == 1 && whole {
                work(&self.entries(table)[i], span);
                continue;
            }
            let next = self.descend(table, i, level)?;
            let part = range.start.max(at)..range.end.min(at + span);
            self.each_below(next, level - 1, at, part, work)?;
        }
        Ok(())
    }

    /// Removes all mappings in a range.
    pub fn unmap(&mut self, range: Range<u64>, stale: &mut Stale) -> Result<(), HostFault> {
        self.each(range, &mut |entry, len| {
            let old = entry.swap(0, Ordering::SeqCst);
            if takes_away(old, 0) {
                stale.add(old & ADDRESS, len);
            }
        })
    }

    /// Changes what may be done with what is mapped in a range.
    pub fn protect(&mut self, range: Range<u64>, protection: Protection, stale: &mut Stale) -> Result<(), HostFault> {
        let bits = bits(protection);
        self.each(range, &mut |entry, len| {
            let old = entry.load(Ordering::SeqCst);
            let new = old & (ADDRESS | LARGE) | bits;
            entry.store(new, Ordering::SeqCst);
            if takes_away(old, new) {
                stale.add(old & ADDRESS, len);
            }
        })
    }

    /// Copies all mappings below `limit` into an empty tree, with the tables as they are. Pages are shared; whether that
    /// means anything to who writes, the protections say.
    pub fn copy_into(&self, child: &mut Tree, limit: u64) -> Result<(), HostFault> {
        self.copy_below(self.root, child, child.root, 3, 0, limit)
    }

    fn copy_below(
        &self,
        from: Table,
        child: &mut Tree,
        to: Table,
        level: u32,
        base: u64,
        limit: u64,
    ) -> Result<(), HostFault> {
        let count = if level == 3 { ENTRIES / 2 } else { ENTRIES };
        for i in 0..count {
            let entry = self.entries(from)[i].load(Ordering::SeqCst);
            let at = base + i as u64 * span(level);
            if entry == 0 || at >= limit {
                continue;
            }
            if level == 0 || entry & LARGE != 0 && level == 1 {
                self.entries(to)[i].store(entry, Ordering::Relaxed);
                continue;
            }
            let next = child.descend(to, i, level)?;
            self.copy_below(self.machine.tables().at(entry & ADDRESS), child, next, level - 1, at, limit)?;
        }
        Ok(())
    }

    /// Empties the user half and returns the tables, for when no processor uses them any more.
    pub fn clear(&mut self) -> Vec<Table> {
        for entry in &self.entries(self.root)[..ENTRIES / 2] {
            entry.store(0, Ordering::SeqCst);
        }
        std::mem::take(&mut self.tables)
    }

    /// How many tables there are.
    pub fn size(&self) -> usize {
        self.tables.len()
    }

    /// Guest-physical address of what a user may read at `address`.
    pub fn find(&self, address: u64) -> Option<u64> {
        let mut table = self.root;
        for level in [3, 2, 1, 0] {
            let entry = self.entries(table)[index(address, level)].load(Ordering::SeqCst);
            if entry & (PRESENT | USER) != PRESENT | USER {
                return None;
            }
            if level == 0 || level == 1 && entry & LARGE != 0 {
                return Some((entry & ADDRESS) + address % span(level));
            }
            table = self.machine.tables().at(entry & ADDRESS);
        }
        None
    }
}

/// The kernel half, which all address spaces share.
#[derive(Default)]
pub struct Kernel {
    /// The tables of the two upper levels below the root, and the last ones in order.
    upper: Option<(Table, Table)>,
    leaves: Vec<Table>,
}

impl Kernel {
    /// The root's entry for it.
    pub fn entry(&self, machine: &Machine) -> u64 {
        self.upper.map_or(0, |(top, _)| machine.tables().address(top) | PRESENT | WRITE | USED)
    }

    /// Maps a page.
    pub fn map(&mut self, machine: &Machine, at: u64, page: u64, bits: u64) -> Result<(), HostFault> {
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
