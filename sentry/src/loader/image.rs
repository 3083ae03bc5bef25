//! Mapping the segments of an ELF file.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{PAGE_SIZE, Protection};

use super::elf::{Image, Segment};
use crate::mm::{Backed, Layout, MapRequest, Mappable, MemoryManager, Place, Randomness, VmaFlags};
use crate::vfs::FileDescription;

/// Where a program came to stand.
pub(super) struct Placed {
    /// Where it starts.
    pub entry: u64,
    /// Where its program headers are; 0 if nowhere.
    pub headers: u64,
}

fn page_floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Maps the program itself and sets the heap behind it.
pub(super) fn map_program(
    mm: &Arc<MemoryManager>,
    file: &Arc<FileDescription>,
    image: &Image,
    has_interpreter: bool,
    randomness: &Randomness,
) -> Result<Placed, Errno> {
    let limit = mm.address_limit();
    // A program without segments is mapped, and dies at its first instruction, on Linux as here.
    let span = image.span().unwrap_or(0..0);
    let bias = if !image.movable {
        0
    } else if has_interpreter {
        let base = Layout::program_base(limit).wrapping_add(randomness.program_shift()) & !(image.align() - 1);
        base.wrapping_sub(span.start)
    } else {
        // What needs no interpreter may be one: it stands where an interpreter would.
        find_place(mm, image)?.wrapping_sub(span.start)
    };
    map_segments(mm, file, image, bias)?;
    let moved = |address: u64| address.wrapping_add(bias);
    let loads = &image.segments;
    let end = loads.iter().map(Segment::end).max().map_or(0, moved);
    let heap = if image.movable && !has_interpreter { Layout::program_base(limit) } else { end };
    let heap = heap.checked_next_multiple_of(PAGE_SIZE).ok_or_else(|| Errno::ENOMEM.here())?;
    let code = loads.iter().filter(|segment| segment.protection.execute);
    mm.with_layout(|layout| {
        layout.start_code = loads.iter().map(|segment| segment.address).min().map_or(0, moved);
        layout.end_code = code.map(|segment| segment.address + segment.file_len).max().map_or(0, moved);
        layout.start_data = loads.iter().map(|segment| segment.address).max().map_or(0, moved);
        layout.end_data = loads.iter().map(|segment| segment.address + segment.file_len).max().map_or(0, moved);
        layout.start_brk = heap.saturating_add(randomness.heap_shift());
        layout.brk = layout.start_brk;
    });
    let headers = if image.header_address == 0 { 0 } else { moved(image.header_address) };
    Ok(Placed { entry: moved(image.entry), headers })
}

/// Maps the interpreter; returns by how much it was moved.
pub(super) fn map_interpreter(
    mm: &Arc<MemoryManager>,
    file: &Arc<FileDescription>,
    image: &Image,
) -> Result<u64, Errno> {
    let span = image.span().ok_or_else(|| Errno::EINVAL.here())?;
    let bias = if image.movable { find_place(mm, image)?.wrapping_sub(span.start) } else { 0 };
    map_segments(mm, file, image, bias)?;
    Ok(bias)
}

/// Room for the whole image in the mmap area.
fn find_place(mm: &MemoryManager, image: &Image) -> Result<u64, Errno> {
    let span = image.span().ok_or_else(|| Errno::EINVAL.here())?;
    let align = image.align();
    let len = (span.end - span.start).checked_add(align - PAGE_SIZE).ok_or_else(|| Errno::ENOMEM.here())?;
    let room = mm.free_room(len)?;
    Ok(room.next_multiple_of(align))
}

fn map_segments(mm: &Arc<MemoryManager>, file: &Arc<FileDescription>, image: &Image, bias: u64) -> Result<(), Errno> {
    let object = file.file().mappable().map_err(|_| Errno::ENOEXEC.here())?;
    for (index, segment) in image.segments.iter().enumerate() {
        let address = segment.address.wrapping_add(bias);
        // Segments may share pages with each other, but not with what was there before.
        let at = if index == 0 { Place::FixedFree(page_floor(address)) } else { Place::Fixed(page_floor(address)) };
        map_segment(mm, file, &object, segment, address, at)?;
    }
    Ok(())
}

fn map_segment(
    mm: &Arc<MemoryManager>,
    file: &Arc<FileDescription>,
    object: &Arc<dyn Mappable>,
    segment: &Segment,
    address: u64,
    at: Place,
) -> Result<(), Errno> {
    let start = page_floor(address);
    let inset = address - start;
    let end = address.checked_add(segment.memory_len).ok_or_else(|| Errno::ENOMEM.here())?;
    let file_end = address.checked_add(segment.file_len).ok_or_else(|| Errno::ENOMEM.here())?;
    let mut anonymous_from = start;
    if segment.file_len > 0 {
        let offset = segment.offset - inset;
        let backed = Backed::Object(object.clone(), offset, Some(file.clone()), "");
        place(mm, at, segment.file_len + inset, segment.protection, backed)?;
        anonymous_from = file_end.next_multiple_of(PAGE_SIZE);
        // The rest of the last page is zero where the program can tell.
        let tail = anonymous_from.min(end).saturating_sub(file_end);
        let zeros = [0; PAGE_SIZE as usize];
        if segment.memory_len > segment.file_len && segment.protection.write && tail > 0 {
            // All of the page behind the file's part, as Linux does.
            let whole = (anonymous_from - file_end) as usize;
            mm.write(file_end, zeros.get(..whole).unwrap_or_default())?;
        }
    }
    if end > anonymous_from {
        place(mm, Place::Fixed(anonymous_from), end - anonymous_from, segment.protection, Backed::Anonymous)?;
    }
    Ok(())
}

fn place(mm: &MemoryManager, place: Place, len: u64, protection: Protection, backed: Backed) -> Result<(), Errno> {
    let request =
        MapRequest { place, len, protection, flags: VmaFlags::MAY_ALL, backed, populate: false, may_lock_any: true };
    mm.map(request).map(|_| ())
}
