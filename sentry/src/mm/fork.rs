//! Copies an address space for a forked child: VMAs and runs, and only those pages that will certainly be stored to.

use std::ops::Range;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{Context, Frames, PlatformError};

use super::fork_precopy::without;
use super::manager::{MemoryManager, State};
use super::runs::{Ownership, Piece, Run, RunMap};
use super::vma::{Backing, Vma, VmaFlags, VmaMap};
use crate::interruption::check_killed;

/// After this many pieces or VMAs, the fork checks for a kill and for the memory limit.
const PIECES_AT_ONCE: usize = 256;

impl MemoryManager {
    /// A copy of the address space for clone(2) without `CLONE_VM`. Private pages become copy-on-write. `platform` is
    /// the context of the calling task; `soon` are addresses that both sides are about to store to.
    ///
    /// # Errors
    /// `ENOMEM` if the platform cannot create an address space or memory is used up; `EINTR` if the caller is killed.
    pub(crate) fn fork(&self, platform: &mut dyn Context, soon: &[u64]) -> Result<Arc<MemoryManager>, Errno> {
        // A failed child has a lock of the same rank, so it is dropped after this lock is released.
        let (child, made) = self.with(|state| -> Result<_, Errno> {
            soon.iter().for_each(|&address| state.precopy.note(address));
            let copied = state.precopy.at_fork();
            self.share_private(state, &copied);
            let space = platform.fork_space(&*self.space).map_err(|fault: PlatformError| {
                log::warn!("fork: {fault}");
                Errno::ENOMEM.here()
            })?;
            let mut gone = Vec::new();
            let mut runs = RunMap::default();
            let mut looked_at = 0_usize;
            for vma in state.areas.iter() {
                if vma.flags.intersects(VmaFlags::DONT_FORK | VmaFlags::WIPE_ON_FORK) {
                    gone.push(vma.range());
                    continue;
                }
                for piece in state.runs.pieces(vma.range()) {
                    looked_at += 1;
                    if looked_at.is_multiple_of(PIECES_AT_ONCE) {
                        // A killed caller does not use the child.
                        check_killed()?;
                        self.memory.admit(0)?;
                    }
                    if piece.ownership == Ownership::Owned {
                        let frames = self.copy_for_child(&runs, &piece)?;
                        space.map(piece.start, frames.range(), vma.protection);
                        runs.insert(piece.start, Run { frames, ownership: Ownership::Owned });
                    } else if let Some(frames) = state.runs.share(&piece) {
                        runs.insert(piece.start, Run { frames, ownership: piece.ownership });
                    }
                }
            }
            for range in gone {
                if state.runs.pieces(range.clone()).next().is_some() {
                    space.unmap(range, Vec::new());
                }
            }
            let (layout, precopy) = (state.layout.clone(), state.precopy.clone());
            let mut failed = Ok(());
            let (limits, flags) = (self.limits.clone(), self.flags().inherited());
            let child = Self::with_state(space, self.memory.clone(), self.limit, limits, flags, |link| {
                let mut areas = VmaMap::default();
                for (index, vma) in state.areas.iter().enumerate() {
                    if index % PIECES_AT_ONCE == 0 {
                        failed = check_killed().and_then(|()| Ok(self.memory.admit(0)?));
                    }
                    if failed.is_err() {
                        break;
                    }
                    if vma.flags.contains(VmaFlags::DONT_FORK) {
                        continue;
                    }
                    let backing = match &vma.backing {
                        Backing::Anonymous => Backing::Anonymous,
                        Backing::Object(area) => match area.for_child(link.clone()) {
                            Ok(area) => Backing::Object(area),
                            Err(errno) => {
                                failed = Err(errno);
                                break;
                            }
                        },
                    };
                    // Memory locks are not inherited.
                    let flags = vma.flags - VmaFlags::LOCKED - VmaFlags::LOCK_ON_FAULT;
                    areas.insert(Vma { backing, flags, ..vma.clone() });
                }
                let peak = areas.sums().all;
                State { areas, runs, layout, precopy, peak, ..State::default() }
            });
            Ok((child, failed))
        })?;
        made.map(|()| child)
    }

    /// Copies private pages, adjacent to the previous copy if possible.
    fn copy_for_child(&self, runs: &RunMap, piece: &Piece) -> Result<Frames, Errno> {
        let before = piece.start.checked_sub(1).and_then(|before| runs.find(before));
        let hint = before.map_or(u64::MAX, |(_, run)| run.frames.range().end());
        let copy = self.memory.allocate_to_fill(piece.frames.len, hint).map_err(|_| Errno::ENOMEM.here())?;
        self.memory.copy(piece.frames.start, copy.range().start, piece.frames.len);
        Ok(copy)
    }

    /// Makes private pages copy-on-write, in the platform too, except those in `copied`.
    fn share_private(&self, state: &mut State, copied: &[Range<u64>]) {
        let State { areas, runs, generation, .. } = state;
        let is_copied = |vma: &&Vma| !vma.flags.intersects(VmaFlags::DONT_FORK | VmaFlags::WIPE_ON_FORK);
        for vma in areas.iter().filter(|vma| !vma.is_shared()).filter(is_copied) {
            let mut owned = runs.pieces(vma.range()).filter(|piece| piece.ownership == Ownership::Owned);
            let Some(first) = owned.next() else { continue };
            let end = owned.last().unwrap_or(first).range().end;
            let copied = if vma.protection.write { copied } else { &[] };
            for range in without(first.start..end, copied) {
                if vma.protection.write {
                    // Other private pages in between are not writable anyway.
                    self.space.protect(range.clone(), Ownership::CopyOnWrite.limit(vma.protection));
                }
                runs.set_ownership(range, |ownership| match ownership {
                    Ownership::Owned => Ownership::CopyOnWrite,
                    other => other,
                });
            }
        }
        *generation += 1;
    }
}
