//! mremap(2): grows, shrinks and moves mappings.

use std::ops::Range;

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;

use super::address::Region;
use super::manager::{MemoryManager, State};
use super::map::whole_pages;
use super::vma::{Backing, Vma, VmaFlags};

/// The arguments of mremap(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemapRequest {
    /// The old address.
    pub address: u64,
    /// The old length; 0 adds a second mapping of a shared one.
    pub old_len: u64,
    /// The new length.
    pub new_len: u64,
    /// Whether it may move (`MREMAP_MAYMOVE`).
    pub may_move: bool,
    /// The new address (`MREMAP_FIXED`).
    pub fixed: Option<u64>,
    /// A hint for the new address, if the mapping moves (`MREMAP_DONTUNMAP` takes one).
    pub hint: u64,
    /// Whether the old range stays mapped, without pages (`MREMAP_DONTUNMAP`).
    pub keep_old: bool,
    /// Whether `RLIMIT_MEMLOCK` does not apply (`CAP_IPC_LOCK`).
    pub may_lock_any: bool,
}

impl MemoryManager {
    /// mremap(2). The caller has checked that the flags are a valid combination.
    ///
    /// # Errors
    /// As in the man page.
    pub(crate) fn remap(&self, request: RemapRequest) -> Result<u64, Errno> {
        let RemapRequest { address, fixed, .. } = request;
        if !address.is_multiple_of(PAGE_SIZE) || fixed.is_some_and(|to| !to.is_multiple_of(PAGE_SIZE)) {
            return Err(Errno::EINVAL.here());
        }
        let old_len = whole_pages(request.old_len).map_err(|_| Errno::EINVAL.here())?;
        let new_len = whole_pages(request.new_len).map_err(|_| Errno::EINVAL.here())?;
        if new_len == 0 {
            return Err(Errno::EINVAL.here());
        }
        let old_end = address.checked_add(old_len).ok_or_else(|| Errno::EINVAL.here())?;
        if let Some(to) = fixed {
            let end = to.checked_add(new_len).filter(|&end| end <= self.limit).ok_or_else(|| Errno::EINVAL.here())?;
            if to < old_end && address < end {
                return Err(Errno::EINVAL.here());
            }
        }
        let (result, populate) = self.with(|state| {
            let vma = state.areas.find(address).cloned().ok_or_else(|| Errno::EFAULT.here())?;
            if old_len == 0 && !vma.is_shared() {
                return Err(Errno::EINVAL.here());
            }
            let moves = fixed.is_some() || request.keep_old;
            if !moves && new_len <= old_len {
                // Shrinking works across VMAs.
                let tail = address + new_len..old_end;
                self.check_sealed(state, &tail)?;
                self.check_splits(state, &tail)?;
                self.remove(state, tail);
                return Ok((address, None));
            }
            self.check_sealed(state, &(address..old_end.max(address + 1)))?;
            if request.keep_old && vma.flags.contains(VmaFlags::SPECIAL) {
                return Err(Errno::EINVAL.here());
            }
            if let Some(to) = fixed {
                self.check_fixed(to, new_len)?;
                self.check_sealed(state, &(to..to + new_len))?;
                if state.areas.count() + 4 > self.most_areas() {
                    return Err(Errno::ENOMEM.here());
                }
                self.remove(state, to..to + new_len);
            }
            if fixed.is_some() && new_len < old_len {
                self.remove(state, address + new_len..old_end);
            }
            let old_len = if fixed.is_some() { old_len.min(new_len) } else { old_len };
            let old_end = address + old_len;
            if old_end > vma.end {
                return Err(Errno::EFAULT.here());
            }
            let grows = new_len - old_len.min(new_len);
            let extra = if request.keep_old || old_len == 0 { new_len } else { grows };
            self.check_expansion(state, &vma, extra, grows, request.may_lock_any)?;
            let locked = vma.flags.contains(VmaFlags::LOCKED) && !vma.flags.contains(VmaFlags::LOCK_ON_FAULT);
            if !moves && old_len > 0 && old_end == vma.end && self.room_behind(state, &vma, old_end, grows) {
                self.extend(state, &vma, old_end, grows);
                return Ok((address, locked.then_some(old_end..address + new_len)));
            }
            if !request.may_move {
                return Err(Errno::ENOMEM.here());
            }
            let to = match fixed {
                Some(to) => to,
                None => self.find_room(state, request.hint, new_len, Region::Usual)?,
            };
            self.check_splits(state, &(address..old_end))?;
            self.move_pages(state, &vma, address..old_end, to, new_len, request.keep_old);
            Ok((to, locked.then_some(to..to + new_len)))
        })?;
        if let Some(range) = populate {
            self.populate_range(range);
        }
        Ok(result)
    }

    fn check_expansion(&self, state: &State, vma: &Vma, extra: u64, grows: u64, unlimited: bool) -> Result<(), Errno> {
        if vma.flags.contains(VmaFlags::SPECIAL) && grows > 0 {
            return Err(Errno::EFAULT.here());
        }
        if vma.flags.contains(VmaFlags::LOCKED) && !self.may_lock(state, grows, unlimited) {
            return Err(Errno::EAGAIN.here());
        }
        if let Backing::Object(_) = &vma.backing {
            vma.offset
                .checked_add(vma.size())
                .and_then(|end| end.checked_add(grows))
                .ok_or_else(|| Errno::EINVAL.here())?;
        }
        if extra == 0 { Ok(()) } else { self.check_growth(state, vma, extra, 0) }
    }

    fn room_behind(&self, state: &State, vma: &Vma, end: u64, grows: u64) -> bool {
        !vma.flags.contains(VmaFlags::SPECIAL)
            && end
                .checked_add(grows)
                .is_some_and(|new_end| new_end <= self.limit && state.areas.is_free(&(end..new_end)))
    }

    fn extend(&self, state: &mut State, vma: &Vma, end: u64, grows: u64) {
        let offset = if vma.object().is_some() { vma.offset_of(end) } else { 0 };
        self.add(state, Vma { start: end, end: end + grows, offset, ..vma.clone() });
    }

    /// Moves the pages of `from` to `to`, to a VMA like `vma` with `new_len` bytes.
    fn move_pages(&self, state: &mut State, vma: &Vma, from: Range<u64>, to: u64, new_len: u64, keep_old: bool) {
        let offset = if vma.object().is_some() { vma.offset_of(from.start) } else { 0 };
        let area = Vma { start: to, end: to + new_len, offset, ..vma.clone() };
        let runs = state.runs.take(from.clone());
        let mut moved = Vec::new();
        if let (Some((first, _)), Some((last, run))) = (runs.first(), runs.last()) {
            moved.push(*first..last + run.frames.range().len);
        }
        // Unmap first: a private page must never be mapped at two addresses.
        for range in moved {
            self.space.unmap(range, Vec::new());
        }
        if !keep_old {
            let gone = state.areas.take(from.clone());
            state.garbage.extend(gone);
        } else {
            // As on Linux, the old VMA is no longer locked.
            let joined =
                state.areas.change(from.clone(), |vma| vma.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT);
            state.garbage.extend(joined);
        }
        let shown = area.clone();
        state.areas.insert(area);
        for (at, run) in runs {
            self.install(state, &shown, to + (at - from.start), run);
        }
        let joined = state.areas.join(to..to + new_len);
        state.garbage.extend(joined);
        state.peak = state.peak.max(state.areas.sums().all);
        state.generation += 1;
    }
}
