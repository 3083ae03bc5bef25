//! Constant results of system calls, which the stub or the trampoline returns to the guest without an exit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_platform::{MAX_CONSTANT_RESULTS, PlatformError};
use parking_lot::Mutex;

use crate::layout::code;
use crate::machine::Machine;
use crate::table_allocator::Table;

/// A call number and its result.
pub(crate) type Answer = (u64, u64);

/// An unused pair: a number that no program calls, with Linux's result for it.
pub(crate) const NOTHING: Answer = (1 << 63, -libc::ENOSYS as i64 as u64);

/// Fills the rest of the pairs with [`NOTHING`].
pub(crate) fn pairs<const N: usize>(answers: &[Answer]) -> [Answer; N] {
    std::array::from_fn(|i| answers.get(i).copied().unwrap_or(NOTHING))
}

/// A page with the trampoline and the constant results it reads, of one address space.
///
/// All threads of the space use it. If there are several, it only contains what holds for all of them.
pub(crate) struct SharedAnswers {
    machine: Arc<Machine>,
    page: Table,
    current: Mutex<[Answer; MAX_CONSTANT_RESULTS]>,
}

impl SharedAnswers {
    /// A trampoline without constant results.
    pub(crate) fn new(machine: &Arc<Machine>) -> Result<SharedAnswers, PlatformError> {
        let page = machine.new_table()?;
        let (from, to) = (machine.tables().entries(machine.stub()), machine.tables().entries(page));
        let code = (code::TRAMPOLINE / 8) as usize..(code::TRAMPOLINE_ANSWERS / 8) as usize;
        for (from, to) in from[code.clone()].iter().zip(&to[code]) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let answers =
            SharedAnswers { machine: machine.clone(), page, current: Mutex::new([NOTHING; MAX_CONSTANT_RESULTS]) };
        for i in 0..MAX_CONSTANT_RESULTS {
            answers.write(i, NOTHING);
        }
        Ok(answers)
    }

    /// Guest-physical address of the page.
    pub(crate) fn address(&self) -> u64 {
        self.machine.tables().address(self.page)
    }

    fn write(&self, i: usize, (number, result): Answer) {
        let at = code::TRAMPOLINE_ANSWERS + i as u64 * 16;
        let tables = self.machine.tables();
        tables.word(self.page, at + 8).store(result, Ordering::SeqCst);
        tables.word(self.page, at).store(number.wrapping_neg(), Ordering::SeqCst);
    }

    /// Sets the results for a thread that is about to run. `alone`: no other context is attached to the space.
    pub(crate) fn update(&self, answers: &[Answer], alone: bool) {
        let wanted: [Answer; MAX_CONSTANT_RESULTS] = pairs(answers);
        let mut current = self.current.lock();
        for (i, (old, new)) in current.iter_mut().zip(wanted).enumerate() {
            if *old == new {
                continue;
            }
            if alone {
                *old = new;
                self.write(i, new);
            } else {
                // Another thread may have read the number and not yet the result, so the result stays.
                old.0 = NOTHING.0;
                let at = code::TRAMPOLINE_ANSWERS + i as u64 * 16;
                self.machine.tables().word(self.page, at).store(NOTHING.0.wrapping_neg(), Ordering::SeqCst);
            }
        }
    }
}

impl Drop for SharedAnswers {
    fn drop(&mut self) {
        self.machine.tables().give_back([self.page]);
    }
}
