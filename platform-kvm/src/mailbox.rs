//! The page in which user code hands over a system call without an exit, on hosts where `syscall` stays in ring 3. The
//! trampoline (`stub/stub.S`) and the sentry share it.
//!
//! The guest can write to the page, as it can to its registers. So its contents are validated like registers, and only
//! the thread that serves the call reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_platform::{PlatformError, Registers};
use parking_lot::Mutex;

use crate::active_contexts::ActiveContexts;
use crate::context_handle::ContextHandle;
use crate::layout::selector;
use crate::machine::Machine;
use crate::table_allocator::Table;
use crate::vcpu::user_flags;

/// Offsets in the page.
mod word {
    /// Not 0 if the sentry listens.
    pub const LISTENING: u64 = 0;
    /// See [`state`](super::state).
    pub const STATE: u64 = 8;
    /// The result of the call.
    pub const RESULT: u64 = 0x10;
    /// The flags of the caller.
    pub const FLAGS: u64 = 0x20;
    /// The other registers of the caller, in the order of [`registers`](super::Mailbox::registers).
    pub const REGISTERS: u64 = 0x28;
    /// The stack pointer of the caller.
    pub const STACK: u64 = REGISTERS + 14 * 8;
}

/// The states of a call.
mod state {
    /// There is no call.
    pub const NOTHING: u64 = 0;
    /// It waits for its result. The guest sets this state.
    pub const HANDED_OVER: u64 = 1;
    /// The result is there.
    pub const ANSWERED: u64 = 2;
    /// There will be no result; the guest must exit.
    pub const DISMISSED: u64 = 3;
}

/// The mailbox of one address space. One thread at a time owns it, and uses it while no other runs in the space.
pub struct Mailbox {
    machine: Arc<Machine>,
    page: Table,
    /// The owner. Locked while `LISTENING` changes.
    owner: Mutex<Option<Arc<ContextHandle>>>,
}

impl Mailbox {
    /// A mailbox where the sentry does not listen.
    ///
    /// # Errors
    /// There is no memory for the page.
    pub fn new(machine: &Arc<Machine>) -> Result<Mailbox, PlatformError> {
        Ok(Mailbox { machine: machine.clone(), page: machine.new_table()?, owner: Mutex::new(None) })
    }

    /// Guest-physical address of the page.
    pub fn address(&self) -> u64 {
        self.machine.tables().address(self.page)
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.machine.tables().word(self.page, offset)
    }

    fn load(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Makes the context of this handle the owner, and listens. Returns false if another context owns the mailbox or
    /// runs guest code in the space, since two could not share the page.
    pub fn listen(&self, handle: &Arc<ContextHandle>, active_contexts: &ActiveContexts) -> bool {
        let mut owner = self.owner.lock();
        if owner.is_some() && !handle.is(owner.as_ref()) {
            return false;
        }
        let alone = active_contexts.is_sole_running(handle);
        if alone {
            *owner = Some(handle.clone());
            // An old call must not be taken for a new one.
            self.word(word::STATE).store(state::NOTHING, Ordering::SeqCst);
        }
        self.set_listening(alone);
        alone
    }

    /// Called before the context of this handle runs guest code. If it does not own the mailbox, listening stops; a
    /// call of the owner may still arrive.
    pub fn pass(&self, handle: &Arc<ContextHandle>) {
        let owner = self.owner.lock();
        if !handle.is(owner.as_ref()) {
            self.set_listening(false);
        }
    }

    /// Stops listening. A call may still arrive.
    pub fn turn_away(&self) {
        let _owner = self.owner.lock();
        self.set_listening(false);
    }

    /// Stops listening and gives up ownership, if the context of this handle is the owner.
    pub fn give_up(&self, handle: &Arc<ContextHandle>) {
        let mut owner = self.owner.lock();
        if handle.is(owner.as_ref()) {
            *owner = None;
            self.set_listening(false);
        }
    }

    fn set_listening(&self, listening: bool) {
        self.word(word::LISTENING).store(u64::from(listening), Ordering::SeqCst);
    }

    /// Whether a call waits for its result.
    pub fn has_call(&self) -> bool {
        self.load(word::STATE) == state::HANDED_OVER
    }

    /// Returns the result to the caller.
    pub fn answer(&self, result: u64) {
        self.word(word::RESULT).store(result, Ordering::Relaxed);
        self.word(word::STATE).store(state::ANSWERED, Ordering::SeqCst);
    }

    /// Makes the caller exit, if the context of this handle is still the owner.
    pub fn dismiss(&self, handle: &Arc<ContextHandle>) {
        let owner = self.owner.lock();
        if handle.is(owner.as_ref()) {
            self.word(word::STATE).store(state::DISMISSED, Ordering::SeqCst);
        }
    }

    /// The stack pointer of a caller that is writing its call.
    pub fn stack(&self) -> u64 {
        self.load(word::STACK)
    }

    /// The flags of the caller.
    pub fn flags(&self) -> u64 {
        user_flags(self.load(word::FLAGS))
    }

    /// The registers of the caller, as after `syscall`.
    pub fn registers(&self) -> Registers {
        let at = |i: u64| self.load(word::REGISTERS + i * 8);
        let (rax, rip, flags) = (at(9), at(13), self.flags());
        Registers {
            r15: at(0),
            r14: at(1),
            r13: at(2),
            r12: at(3),
            rbp: at(4),
            rbx: at(5),
            r11: flags,
            r10: at(6),
            r9: at(7),
            r8: at(8),
            rax,
            rcx: rip,
            rdx: at(10),
            rsi: at(11),
            rdi: at(12),
            orig_rax: rax,
            rip,
            cs: u64::from(selector::USER_CODE),
            eflags: flags,
            rsp: at(14),
            ss: u64::from(selector::USER_DATA),
            fs_base: at(15),
            gs_base: at(16),
            ds: at(17),
            es: at(18),
            fs: at(19),
            gs: at(20),
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.machine.tables().give_back([self.page]);
    }
}
