//! Files of `/proc/PID` on memory: maps, smaps, mem and pagemap.
//!
//! A file is bound to the address space when it is opened and access is checked: it never shows that of a program
//! executed later, which may be more privileged. The file does not keep the address space alive.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;
use std::fmt::Write;

use super::links::shown;
use crate::fs::pseudo::{LongFile, Pieces, PseudoInode, Query, one_piece};
use crate::interruption::check_killed;
use crate::mm::{AreaUsage, Layout, MemoryManager, Vma, VmaFlags};
use crate::slices::at_most_mut;
use crate::vfs::{File, Inode};

/// The column before the name of a VMA.
const NAME_COLUMN: usize = 73;
/// The number of pages processed at a time.
const PAGES_AT_ONCE: u64 = 512;

/// The task's address space, if the opener may inspect it; none once the process has ended.
pub(super) fn bound(query: &Query<'_>) -> Result<Weak<MemoryManager>, Errno> {
    let (task, opener) = (query.task()?, query.reader);
    let memory = task.inspect(&opener.credentials, &opener.task, || task.memory())?;
    Ok(memory.as_ref().map(Arc::downgrade).unwrap_or_default())
}

fn layout(mm: &MemoryManager) -> Layout {
    mm.with_layout(|layout| layout.clone())
}

fn area_line(vma: &Vma, layout: &Layout, query: &Query<'_>) -> Vec<u8> {
    let flag = |on: bool, letter: char| if on { letter } else { '-' };
    let file = vma.object().and_then(|area| area.file.as_ref());
    let (mut major, mut minor, mut number) = (0, 0, 0);
    if let Some(metadata) = file.and_then(|file| file.file().inode().metadata().ok()) {
        (major, minor, number) = (metadata.device.major, metadata.device.minor, metadata.number);
    }
    let line = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {major:02x}:{minor:02x} {number} ",
        vma.start,
        vma.end,
        flag(vma.protection.read, 'r'),
        flag(vma.protection.write, 'w'),
        flag(vma.protection.execute, 'x'),
        if vma.is_shared() { 's' } else { 'p' },
        vma.offset,
    );
    let name = area_name(vma, layout, query);
    let mut line = line.into_bytes();
    if !name.is_empty() {
        line.resize(line.len().max(NAME_COLUMN), b' ');
        for byte in name {
            match byte {
                b'\n' => line.extend_from_slice(b"\\012"),
                byte => line.push(byte),
            }
        }
    }
    line.push(b'\n');
    line
}

fn area_name(vma: &Vma, layout: &Layout, query: &Query<'_>) -> Vec<u8> {
    if let Some(area) = vma.object() {
        if let Some(file) = &area.file {
            return match (file.file().link_text(), file.path()) {
                (Some(text), _) => text.into_bytes(),
                (None, Some(path)) => shown(path, query),
                (None, None) => Vec::new(),
            };
        }
        if let (true, Some(name)) = (vma.is_shared(), &vma.name) {
            return format!("[anon_shmem:{name}]").into_bytes();
        }
        if !area.label.is_empty() || vma.is_shared() {
            let label = if area.label.is_empty() { "/dev/zero (deleted)" } else { area.label };
            return label.as_bytes().to_vec();
        }
    }
    if vma.start < layout.brk && vma.end > layout.start_brk {
        return b"[heap]".to_vec();
    }
    if vma.start <= layout.start_stack && layout.start_stack < vma.end {
        return b"[stack]".to_vec();
    }
    vma.name.as_ref().map(|name| format!("[anon:{name}]").into_bytes()).unwrap_or_default()
}

/// Appends the text of some VMAs from an address on. Returns the address to continue at, or none at the end.
type Areas = fn(&Query<'_>, &MemoryManager, u64, &mut Vec<u8>) -> Option<u64>;

/// Opens a text on VMAs. It ends early if the address space is dropped.
fn open_areas(inode: &Arc<PseudoInode>, query: &Query<'_>, areas: Areas) -> Result<Arc<dyn File>, Errno> {
    let memory = bound(query)?;
    let begin = move |_: &Query<'_>| -> Result<Pieces, Errno> {
        let (memory, mut from) = (memory.clone(), 0);
        Ok(Box::new(move |query, text| {
            let next = memory.upgrade().and_then(|mm| areas(query, &mm, from, text));
            from = next.unwrap_or(from);
            Ok(next.is_some())
        }))
    };
    Ok(Arc::new(LongFile::new(inode.clone(), query.reader.clone(), begin)))
}

/// Opens `/proc/PID/maps`.
pub(super) fn open_maps(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    open_areas(inode, query, |query, mm, from, text| {
        let layout = layout(mm);
        let areas = mm.areas_from(from);
        for vma in &areas {
            text.extend(area_line(vma, &layout, query));
        }
        areas.last().map(|vma| vma.end)
    })
}

fn usage_lines(text: &mut String, usage: &AreaUsage) {
    let dirty = (usage.private_dirty + usage.shared_dirty).min(usage.pss);
    for (name, bytes) in [
        ("Rss", usage.rss),
        ("Pss", usage.pss),
        ("Pss_Dirty", dirty),
        ("Shared_Clean", usage.shared_clean),
        ("Shared_Dirty", usage.shared_dirty),
        ("Private_Clean", usage.private_clean),
        ("Private_Dirty", usage.private_dirty),
        ("Referenced", usage.rss),
        ("Anonymous", usage.anonymous),
        ("KSM", 0),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", usage.locked),
    ] {
        let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), bytes / 1024);
    }
}

fn flag_letters(vma: &Vma) -> String {
    let flags = vma.flags;
    let shared = vma.is_shared();
    let all = [
        (vma.protection.read, "rd"),
        (vma.protection.write, "wr"),
        (vma.protection.execute, "ex"),
        (shared, "sh"),
        (flags.contains(VmaFlags::MAY_READ), "mr"),
        (flags.contains(VmaFlags::MAY_WRITE), "mw"),
        (flags.contains(VmaFlags::MAY_EXECUTE), "me"),
        (shared && flags.contains(VmaFlags::MAY_WRITE), "ms"),
        (flags.contains(VmaFlags::GROWS_DOWN), "gd"),
        (flags.contains(VmaFlags::LOCKED), "lo"),
        (flags.contains(VmaFlags::SEQUENTIAL_ACCESS), "sr"),
        (flags.contains(VmaFlags::RANDOM_ACCESS), "rr"),
        (flags.contains(VmaFlags::DONT_FORK), "dc"),
        (flags.contains(VmaFlags::SPECIAL), "de"),
        (vma.object().is_none() && vma.protection.write && !flags.contains(VmaFlags::NO_RESERVE), "ac"),
        (flags.contains(VmaFlags::NO_RESERVE), "nr"),
        (flags.contains(VmaFlags::WIPE_ON_FORK), "wf"),
        (flags.contains(VmaFlags::DONT_DUMP), "dd"),
        (flags.contains(VmaFlags::HUGE_PAGES), "hg"),
        (flags.contains(VmaFlags::NO_HUGE_PAGES), "nh"),
        (flags.contains(VmaFlags::MERGEABLE), "mg"),
        (flags.contains(VmaFlags::SEALED), "sl"),
    ];
    all.iter().filter(|(on, _)| *on).fold(String::new(), |text, (_, letters)| text + letters + " ")
}

/// Opens `/proc/PID/smaps`.
pub(super) fn open_smaps(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    open_areas(inode, query, |query, mm, from, text| {
        let layout = layout(mm);
        let areas = mm.usage_from(from);
        for (vma, usage) in &areas {
            text.extend(area_line(vma, &layout, query));
            text.extend_from_slice(area_details(vma, usage).as_bytes());
        }
        areas.last().map(|(vma, _)| vma.end)
    })
}

/// The lines below the header of a VMA.
fn area_details(vma: &Vma, usage: &AreaUsage) -> String {
    let mut text = String::new();
    let page = PAGE_SIZE / 1024;
    let _ = writeln!(text, "{:<16}{:8} kB", "Size:", vma.size() / 1024);
    let _ = writeln!(text, "{:<16}{page:8} kB\n{:<16}{page:8} kB", "KernelPageSize:", "MMUPageSize:");
    usage_lines(&mut text, usage);
    let _ = writeln!(text, "THPeligible:           0\nVmFlags: {}", flag_letters(vma));
    text
}

/// Opens `/proc/PID/smaps_rollup`.
pub(super) fn open_smaps_rollup(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    let memory = bound(query)?;
    let begin = move |_: &Query<'_>| {
        let mm = memory.upgrade().ok_or_else(|| Errno::ESRCH.here())?;
        Ok(one_piece(rollup(&mm)?))
    };
    Ok(Arc::new(LongFile::new(inode.clone(), query.reader.clone(), begin)))
}

fn rollup(mm: &MemoryManager) -> Result<Vec<u8>, Errno> {
    let (mut start, mut end) = (None, 0);
    let mut sum = AreaUsage::default();
    let (mut anon, mut file, mut shmem) = (0, 0, 0);
    let mut some = mm.usage_from(end);
    while let Some((last, _)) = some.last() {
        check_killed()?;
        end = last.end;
        start = start.or_else(|| some.first().map(|(vma, _)| vma.start));
        for (vma, usage) in &some {
            sum.rss += usage.rss;
            sum.pss += usage.pss;
            sum.shared_clean += usage.shared_clean;
            sum.shared_dirty += usage.shared_dirty;
            sum.private_clean += usage.private_clean;
            sum.private_dirty += usage.private_dirty;
            sum.anonymous += usage.anonymous;
            sum.locked += usage.locked;
            *match vma.object() {
                None => &mut anon,
                Some(area) if area.file.is_some() => &mut file,
                Some(_) => &mut shmem,
            } += usage.pss;
        }
        some = mm.usage_from(end);
    }
    let start = start.unwrap_or(0);
    let head = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 ");
    let mut text = format!("{head:<NAME_COLUMN$}[rollup]\n");
    let mut lines = String::new();
    usage_lines(&mut lines, &sum);
    for line in lines.lines() {
        let _ = writeln!(text, "{line}");
        if line.starts_with("Pss_Dirty:") {
            for (name, bytes) in [("Pss_Anon", anon), ("Pss_File", file), ("Pss_Shmem", shmem)] {
                let _ = writeln!(text, "{:<16}{:8} kB", format!("{name}:"), bytes / 1024);
            }
        }
    }
    Ok(text.into_bytes())
}

/// Opens `/proc/PID/auxv`, which remains readable after the address space is dropped.
pub(super) fn open_auxv(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    let memory = bound(query)?;
    let bytes = |mm: &MemoryManager| -> Vec<u8> {
        mm.with_layout(|layout| layout.auxv.iter().flat_map(|word| word.to_le_bytes()).collect())
    };
    let at_open = memory.upgrade().map(|mm| bytes(&mm)).unwrap_or_default();
    let begin = move |_: &Query<'_>| {
        let now = memory.upgrade().map(|mm| bytes(&mm));
        Ok(one_piece(now.unwrap_or_else(|| at_open.clone())))
    };
    Ok(Arc::new(LongFile::new(inode.clone(), query.reader.clone(), begin)))
}

/// `/proc/PID/mem`: the memory, at its addresses.
struct Mem {
    inode: Arc<PseudoInode>,
    memory: Weak<MemoryManager>,
}

/// Opens `/proc/PID/mem`.
pub(super) fn open_mem(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    Ok(Arc::new(Mem { inode: inode.clone(), memory: bound(query)? }))
}

impl File for Mem {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        match mm.read_forced(offset, buf) {
            0 if !buf.is_empty() => Err(Errno::EIO.here()),
            count => Ok(count),
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        match mm.write_forced(offset, buf) {
            0 if !buf.is_empty() => Err(Errno::EIO.here()),
            count => Ok(count),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `/proc/PID/pagemap`: whether each page is present. Frame numbers are not shown.
struct Pagemap {
    inode: Arc<PseudoInode>,
    memory: Weak<MemoryManager>,
}

/// Opens `/proc/PID/pagemap`.
pub(super) fn open_pagemap(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    Ok(Arc::new(Pagemap { inode: inode.clone(), memory: bound(query)? }))
}

impl File for Pagemap {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        /// The page is present.
        const PRESENT: u64 = 1 << 63;
        /// The page belongs to a file or is shared.
        const OF_FILE: u64 = 1 << 61;
        if !offset.is_multiple_of(8) || !buf.len().is_multiple_of(8) {
            return Err(Errno::EINVAL.here());
        }
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        let last = mm.address_limit() / PAGE_SIZE;
        let first = (offset / 8).min(last);
        let pages = (last - first).min(buf.len() as u64 / 8);
        let words = at_most_mut(buf, pages as usize * 8);
        words.fill(0);
        let end = first + pages;
        for from in (first..end).step_by(PAGES_AT_ONCE as usize) {
            check_killed()?;
            let range = from * PAGE_SIZE..end.min(from + PAGES_AT_ONCE) * PAGE_SIZE;
            for vma in mm.areas_in(range.clone()) {
                let present = PRESENT | if vma.object().is_some() { OF_FILE } else { 0 };
                let part = vma.clip(&range);
                let at = (part.start / PAGE_SIZE - first) as usize;
                // VMAs unmapped in the meantime have no pages.
                let pages = mm.residency(part.start, (part.end - part.start) / PAGE_SIZE).unwrap_or_default();
                for (word, _) in words.chunks_exact_mut(8).skip(at).zip(pages).filter(|(_, here)| *here) {
                    word.copy_from_slice(&present.to_le_bytes());
                }
            }
        }
        Ok(words.len())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
