//! The figures that `/proc` shows of an address space.

use std::ops::Range;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Touched};

use super::manager::{MemoryManager, State};
use super::runs::{Ownership, Piece};
use super::vma::{Sums, Vma, VmaFlags};
use crate::interruption::check_killed;

/// The lock of an address space is released after this many VMAs.
pub(super) const AREAS_AT_ONCE: usize = 256;

/// The lock of an address space is released after this many runs.
const RUNS_AT_ONCE: usize = 1024;

/// Resident memory of a VMA in bytes, as `/proc/PID/smaps` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AreaUsage {
    /// Resident pages (`Rss`).
    pub rss: u64,
    /// Resident pages, each divided by the number of its mappings (`Pss`).
    pub pss: u64,
    /// Clean pages that others map too.
    pub shared_clean: u64,
    /// Dirty pages that others map too.
    pub shared_dirty: u64,
    /// Clean pages that nothing else maps.
    pub private_clean: u64,
    /// Dirty pages that nothing else maps.
    pub private_dirty: u64,
    /// Pages that belong to no file.
    pub anonymous: u64,
    /// Locked pages, as in `pss`.
    pub locked: u64,
}

/// Sums over an address space in bytes, as `/proc/PID/status` and `statm` show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// `VmPeak`: the largest `size` so far.
    pub peak: u64,
    /// `VmSize`: bytes in all VMAs.
    pub size: u64,
    /// `VmLck`: bytes in locked VMAs.
    pub locked: u64,
    /// `VmHWM`: the largest `rss` so far.
    pub hwm: u64,
    /// `VmRSS`: resident memory.
    pub rss: u64,
    /// `RssAnon`: resident pages of no file.
    pub anon: u64,
    /// `RssFile`: resident pages of files.
    pub file: u64,
    /// `RssShmem`: resident shared memory and tmpfs.
    pub shmem: u64,
    /// `VmData`: bytes in private writable VMAs but the stack.
    pub data: u64,
    /// `VmStk`: bytes in the stack.
    pub stack: u64,
    /// `VmExe`: the code of the program.
    pub exe: u64,
    /// `VmLib`: the code of libraries.
    pub lib: u64,
    /// `VmPTE`: page tables.
    pub pte: u64,
}

/// Iterates over the VMAs of an address space.
pub(crate) struct Areas<'a> {
    mm: &'a MemoryManager,
    left: Range<u64>,
    found: std::vec::IntoIter<Vma>,
}

impl Iterator for Areas<'_> {
    type Item = Vma;

    fn next(&mut self) -> Option<Vma> {
        if self.found.len() == 0 && !self.left.is_empty() {
            let left = self.left.clone();
            let found = |state: &mut State| {
                state.areas.overlapping(left.clone()).take(AREAS_AT_ONCE).cloned().collect::<Vec<Vma>>()
            };
            self.found = self.mm.with(found).into_iter();
            self.left.start = self.found.as_slice().last().map_or(left.end, |last| last.end);
        }
        self.found.next()
    }
}

impl MemoryManager {
    /// The VMAs of a range by address. They are copied in batches, so those of later batches show later changes.
    pub(crate) fn areas_in(&self, range: Range<u64>) -> Areas<'_> {
        Areas { mm: self, left: range, found: Vec::new().into_iter() }
    }

    /// The first VMA that ends above an address.
    pub(crate) fn area_from(&self, address: u64) -> Option<Vma> {
        self.with(|state| state.areas.find_from(address).cloned())
    }

    /// A batch of VMAs by address, from the first that ends above `start` on; empty after the last.
    pub(crate) fn areas_from(&self, start: u64) -> Vec<Vma> {
        self.with(|state| state.areas.overlapping(start..self.limit).take(AREAS_AT_ONCE).cloned().collect())
    }

    /// Like [`areas_from`](Self::areas_from), with the resident memory of each.
    pub(crate) fn usage_from(&self, start: u64) -> Vec<(Vma, AreaUsage)> {
        self.with(|state| {
            let areas: Vec<Vma> = state.areas.overlapping(start..self.limit).take(AREAS_AT_ONCE).cloned().collect();
            let Some(last) = areas.last() else { return Vec::new() };
            let touched = self.touched(state, start..last.end);
            let with_usage = |vma: Vma| {
                let usage = usage_of(state, &vma, &touched);
                (vma, usage)
            };
            areas.into_iter().map(with_usage).collect()
        })
    }

    /// The frames of an address range that are resident.
    fn touched(&self, state: &State, range: Range<u64>) -> Touched {
        self.memory.touched(state.runs.pieces(range).map(|piece| piece.frames))
    }

    /// The sums. The lock is taken for one batch of runs at a time.
    pub(crate) fn totals(&self) -> Totals {
        let (mut totals, mut from) = (self.area_totals(), 0);
        while let Some(next) = self.add_resident(&mut totals, from) {
            from = next;
        }
        self.complete(totals)
    }

    /// Like [`totals`](Self::totals), for a caller that may be killed meanwhile.
    ///
    /// # Errors
    /// `EINTR` if the caller is killed.
    pub(crate) fn totals_unless_killed(&self) -> Result<Totals, Errno> {
        let (mut totals, mut from) = (self.area_totals(), 0);
        while let Some(next) = self.add_resident(&mut totals, from) {
            check_killed()?;
            from = next;
        }
        Ok(self.complete(totals))
    }

    /// The sums over VMAs, without resident memory.
    fn area_totals(&self) -> Totals {
        self.with(|state| {
            let Sums { all: size, data, locked } = state.areas.sums();
            let mut totals = Totals { peak: state.peak, size, data, locked, ..Totals::default() };
            for vma in state.areas.iter() {
                if vma.flags.contains(VmaFlags::GROWS_DOWN) {
                    totals.stack += vma.size();
                }
                if vma.protection.execute && !vma.protection.write && vma.object().is_some() {
                    totals.lib += vma.size();
                }
            }
            totals
        })
    }

    /// Adds the resident memory of a batch of runs from an address on. Returns the start of the next batch.
    fn add_resident(&self, totals: &mut Totals, from: u64) -> Option<u64> {
        self.with(|state| {
            let pieces: Vec<Piece> = state.runs.pieces(from..self.limit).take(RUNS_AT_ONCE).collect();
            let next = pieces.last()?.range().end;
            let touched = self.memory.touched(pieces.iter().map(|piece| piece.frames));
            for vma in state.areas.overlapping(from..next) {
                let file = vma.object().is_some_and(|area| area.file.is_some());
                for piece in state.runs.pieces(vma.clip(&(from..next))) {
                    let bytes: u64 = touched.parts(piece.frames).map(|part| part.len).sum();
                    *match (piece.ownership.is_of_object(), file) {
                        (false, _) => &mut totals.anon,
                        (true, true) => &mut totals.file,
                        (true, false) => &mut totals.shmem,
                    } += bytes;
                }
            }
            Some(next)
        })
    }

    /// Adds the figures that are computed from others.
    fn complete(&self, mut totals: Totals) -> Totals {
        self.with(|state| {
            let layout = &state.layout;
            let code = layout.end_code.next_multiple_of(PAGE_SIZE).saturating_sub(layout.start_code & !(PAGE_SIZE - 1));
            totals.exe = code;
            totals.lib = totals.lib.saturating_sub(code);
            totals.rss = totals.anon + totals.file + totals.shmem;
            state.resident_peak = state.resident_peak.max(totals.rss);
            totals.hwm = state.resident_peak;
            // Page tables: a page for each resident 2 MiB, and the higher levels.
            totals.pte = (3 + totals.rss.div_ceil(2 << 20)) * PAGE_SIZE;
            totals
        })
    }

    /// An upper bound of the resident bytes: all pages in runs. Much cheaper than [`totals`](Self::totals).
    pub(crate) fn most_resident(&self) -> u64 {
        self.with(|state| {
            state.runs.pieces(0..self.limit).map(|piece| piece.frames.len).sum::<u64>().max(state.resident_peak)
        })
    }

    /// mincore(2): whether each page of a range is resident; none if the range has holes.
    pub(crate) fn residency(&self, address: u64, pages: u64) -> Option<Vec<bool>> {
        self.with(|state| {
            let end = address.checked_add(pages.checked_mul(PAGE_SIZE)?)?;
            if !state.areas.covers(address..end) {
                return None;
            }
            let mut present = vec![false; pages as usize];
            let mut mark = |at: u64, len: u64| {
                let first = ((at - address) / PAGE_SIZE) as usize;
                let count = len.div_ceil(PAGE_SIZE) as usize;
                present.iter_mut().skip(first).take(count).for_each(|page| *page = true);
            };
            for vma in state.areas.overlapping(address..end) {
                if let Some(area) = vma.object() {
                    let part = vma.clip(&(address..end));
                    for at in part.step_by(PAGE_SIZE as usize).filter(|&at| area.object.is_resident(vma.offset_of(at)))
                    {
                        mark(at, PAGE_SIZE);
                    }
                }
            }
            let touched = self.touched(state, address..end);
            for piece in state.runs.pieces(address..end) {
                for part in touched.parts(piece.frames) {
                    mark(piece.start + (part.start - piece.frames.start), part.len);
                }
            }
            Some(present)
        })
    }

    /// Whether a VMA contains an address or lies above it.
    pub(crate) fn is_area_from(&self, address: u64) -> bool {
        self.with(|state| state.areas.find_from(address).is_some())
    }

    /// Whether a file is mapped.
    pub(crate) fn maps_file(&self, inode: &dyn crate::vfs::Inode) -> bool {
        let files: Vec<_> = self.with(|state| {
            state.areas.iter().filter_map(|vma| vma.object().and_then(|area| area.file.clone())).collect()
        });
        files.iter().any(|file| std::ptr::addr_eq(Arc::as_ptr(&file.file().inode()), inode))
    }

    /// Names an anonymous range for `/proc/PID/maps`, or removes its name (prctl(2) `PR_SET_VMA_ANON_NAME`).
    ///
    /// # Errors
    /// `EBADF` for a VMA of a file, `ENOMEM` for a hole; VMAs before it are named.
    pub(crate) fn name_range(&self, address: u64, len: u64, name: Option<&str>) -> Result<(), Errno> {
        let len = len.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::EINVAL.here())?;
        let end = address.checked_add(len).ok_or_else(|| Errno::EINVAL.here())?;
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL.here());
        }
        let name: Option<Arc<str>> = name.map(Arc::from);
        self.with(|state| {
            let is_of_file = |vma: &&Vma| vma.object().is_some_and(|area| area.file.is_some());
            let file = state.areas.overlapping(address..end).find(is_of_file).map(|vma| vma.start.max(address));
            let range = address..file.unwrap_or(end);
            self.check_splits(state, &range)?;
            let whole = state.areas.covers(range.clone());
            let joined = state.areas.change(range, |vma| vma.name = name.clone());
            state.garbage.extend(joined);
            match file {
                Some(_) => Err(Errno::EBADF.here()),
                None if whole => Ok(()),
                None => Err(Errno::ENOMEM.here()),
            }
        })
    }
}

fn usage_of(state: &State, vma: &Vma, touched: &Touched) -> AreaUsage {
    let mut usage = AreaUsage::default();
    for piece in state.runs.pieces(vma.range()) {
        let holders = state
            .runs
            .find(piece.start)
            .map_or(1, |(start, run)| u64::from(run.frames.holders(piece.start - start, piece.frames.len)).max(1));
        for part in touched.parts(piece.frames) {
            usage.rss += part.len;
            let cached = piece.ownership.is_of_object();
            // The page cache is one of the holders, but not a process.
            let processes = if cached { holders.saturating_sub(1).max(1) } else { holders };
            usage.pss += part.len / processes;
            let dirty = piece.ownership != Ownership::Cached && piece.ownership != Ownership::SharedRead;
            *match (processes > 1, dirty) {
                (true, true) => &mut usage.shared_dirty,
                (true, false) => &mut usage.shared_clean,
                (false, true) => &mut usage.private_dirty,
                (false, false) => &mut usage.private_clean,
            } += part.len;
            if !cached {
                usage.anonymous += part.len;
            }
        }
    }
    if vma.flags.contains(VmaFlags::LOCKED) {
        usage.locked = usage.pss;
    }
    usage
}
