//! A context: a guest thread that runs on a vCPU of the pool.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use amber_platform::{
    AddressSpace, Breakpoint, Context, DebugRegisters, FpuState, Interrupter, KernelCharge, KernelPart, PlatformError,
    Reason, Registers, ThreadReservation, Trap,
};

use crate::active_contexts::ActiveContexts;
use crate::answers::Answer;
use crate::context_handle::ContextHandle;
use crate::exits::{self, Decoded};
use crate::handover::{Attended, Handover, Waiting};
use crate::layout::ADDRESS_LIMIT;
use crate::pace::Pace;
use crate::quirks;
use crate::runner::{SPIN_LIMIT, Stay};
use crate::segments::are_loadable;
use crate::space::Space;
use crate::vcpu::{Core, ExitReason, STEPPING, Vcpu};
use crate::{Shared, fpu, platform_error};

/// `si_code` of a signal from the kernel without a particular cause.
const SI_KERNEL: i32 = 0x80;

/// How often kicks may interrupt a vCPU on its way from the guest to a trap.
const MAX_RESUMES: u32 = 10_000;

/// The context's relation to the space it last ran in.
struct Membership {
    active_contexts: Arc<ActiveContexts>,
    /// The epoch of the space when the constant results were last updated.
    epoch: u64,
    /// Whether this was then the only context attached to any space.
    sole: bool,
}

/// Stack of the host thread that a run uses beyond what other code does, in bytes.
const STACK_BYTES: u64 = 24 << 10;

/// See [`Context`].
pub struct KvmContext {
    shared: Arc<Shared>,
    handle: Arc<ContextHandle>,
    vcpu: Option<Arc<Vcpu>>,
    membership: Option<Membership>,
    /// The FPU state if it is not (yet) in the vCPU.
    fpu: Option<FpuState>,
    answers: Vec<Answer>,
    /// Whether the vCPU or the space does not have the current constant results yet.
    answers_changed: bool,
    breakpoints: DebugRegisters,
    /// Mask of the breakpoints that caused the last SIGTRAP.
    hit: u8,
    pace: Pace,
    handover: Option<Handover>,
    /// Charge for the stack of the host thread.
    _charge: KernelCharge,
}

impl KvmContext {
    /// A context that has not run yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let fpu = Some(shared.pool.format().initial());
        let pace = Pace::new(shared.always_hands_over);
        let _charge = shared.machine.memory().charge(KernelPart::Stacks, STACK_BYTES);
        KvmContext {
            shared,
            handle: ContextHandle::new(),
            vcpu: None,
            membership: None,
            fpu,
            answers: Vec::new(),
            answers_changed: true,
            breakpoints: DebugRegisters::default(),
            hit: 0,
            pace,
            handover: None,
            _charge,
        }
    }

    /// Sets breakpoints without a check that the host supports them.
    pub fn try_breakpoints(&mut self, breakpoints: &DebugRegisters) {
        self.breakpoints = *breakpoints;
    }

    /// Attaches the context to a space, if that is not the one of the last run.
    fn attach_to(&mut self, space: &Space) -> Result<(), PlatformError> {
        let is_attached = |membership: &Membership| Arc::ptr_eq(&membership.active_contexts, space.active_contexts());
        if !self.membership.as_ref().is_some_and(is_attached) {
            self.take_back()?;
            self.detach_membership();
            space.active_contexts().enter(&self.handle);
            self.shared.attached_contexts.fetch_add(1, Ordering::SeqCst);
            self.membership =
                Some(Membership { active_contexts: space.active_contexts().clone(), epoch: 0, sole: false });
            self.answers_changed = true;
        }
        if let (Some(shared), Some(membership)) = (space.answers(), &mut self.membership) {
            let epoch = membership.active_contexts.epoch();
            let sole = self.shared.attached_contexts.load(Ordering::SeqCst) == 1;
            if self.answers_changed || membership.epoch != epoch || membership.sole != sole {
                (membership.epoch, membership.sole) = (epoch, sole);
                shared.update(&self.answers, membership.active_contexts.count() == 1, sole);
            }
        }
        space.check()
    }

    /// Detaches from the space and releases the vCPU.
    fn release(&mut self) {
        if let Err(error) = self.take_back() {
            log::error!("{error}");
        }
        self.detach_membership();
        self.handle.set_vcpu(None);
        if let Some(vcpu) = self.vcpu.take() {
            self.shared.pool.give_back(vcpu, &self.handle);
        }
        self.handle.saved.lock().take();
    }

    fn detach_membership(&mut self) {
        if let Some(Membership { active_contexts, .. }) = self.membership.take() {
            active_contexts.leave(&self.handle);
            self.shared.attached_contexts.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The vCPU of this context, or one from the pool. Until its core is locked, it may be taken away again.
    fn find_vcpu(&mut self, space: &Space) -> Result<Arc<Vcpu>, PlatformError> {
        match &self.vcpu {
            Some(vcpu) if vcpu.belongs_to(&self.handle) => Ok(vcpu.clone()),
            _ => {
                let vcpu = self.shared.pool.take(&self.handle, space.root())?;
                let saved = self.handle.saved.lock().take();
                self.fpu = self.fpu.take().or(saved);
                self.answers_changed = true;
                self.vcpu = Some(vcpu.clone());
                Ok(vcpu)
            }
        }
    }

    /// Runs guest code until it traps.
    fn run_to_trap(&mut self, space: &Space, registers: &mut Registers) -> Result<Trap, PlatformError> {
        loop {
            if self.handle.run_state.take_interrupt() {
                registers.orig_rax = u64::MAX;
                return Ok(Trap::Interrupted);
            }
            if !are_loadable(registers) {
                return Ok(Trap::Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 });
            }
            if let Some(trap) = self.run_once(space, registers)? {
                return Ok(trap);
            }
        }
    }

    /// Runs guest code once. Returns `None` if there was no trap.
    fn run_once(&mut self, space: &Space, r: &mut Registers) -> Result<Option<Trap>, PlatformError> {
        self.attach_to(space)?;
        let quick = self.pace.goes_in();
        if let Some(waiting) = self.handover.as_ref().and_then(|handover| handover.waiting.as_ref()) {
            if !self.is_answerable(waiting, r) {
                self.take_back()?;
            } else if !self.handle.run_state.start() {
                return Ok(None);
            } else if let Some(stay) = self.answer(r)? {
                return self.attend(stay, quick, space, r);
            }
        }
        if !quick {
            self.end_handover();
        }
        let vcpu = self.find_vcpu(space)?;
        let mut core = vcpu.core.lock();
        vcpu.reserved.store(false, Ordering::SeqCst);
        if !vcpu.belongs_to(&self.handle) {
            return Ok(None);
        }
        if let Some(state) = self.fpu.take() {
            fpu::write(&core.fd, &state, self.shared.pool.keys_at())?;
        }
        if self.answers_changed {
            core.set_answers(&self.answers);
            self.answers_changed = false;
        }
        core.set_breakpoints(&self.breakpoints)?;
        self.listen(space, r);
        vcpu.immediate_exit().store(0, Ordering::SeqCst);
        self.handle.set_runner(self.handover.as_ref().map(|handover| handover.runner.thread()));
        if !self.handle.run_state.start() {
            return Ok(None);
        }
        if let Some(mailbox) = space.mailbox() {
            mailbox.pass(&self.handle);
        }
        // From here on, threads that change the space see that the guest may be running, and with which generation.
        let generation = space.tlb_generation();
        self.handle.set_tlb_generation(generation);
        core.load(r, space.root(), generation);
        if let Some(handover) = &self.handover {
            let stay = Stay::new(&vcpu, &self.handle, &handover.mailbox);
            // The runner must find the vCPU with the registers just loaded.
            vcpu.reserved.store(true, Ordering::SeqCst);
            drop(core);
            handover.runner.run(stay.clone());
            return self.attend(stay, quick, space, r);
        }
        let exit = core.run();
        self.after_exit(exit, &mut core, &vcpu, quick, space, r)
    }

    /// Prepares the hand-over of calls to the mailbox, if the guest calls often enough, and ends it where the state of
    /// the context does not allow it.
    fn listen(&mut self, space: &Space, r: &Registers) {
        let Some(mailbox) = space.mailbox().filter(|_| self.shared.machine.quirks().users_read_bases) else {
            return;
        };
        if self.handover.is_none() && !self.pace.is_quick() {
            if self.pace.is_nearly_quick() {
                self.shared.runners.wake();
            }
            return;
        }
        let plain = self.breakpoints.is_empty() && r.eflags & STEPPING == 0 && !self.shared.pool.is_scarce();
        if !plain || !self.shared.has_spare_cpu() || !mailbox.listen(&self.handle, space.active_contexts()) {
            self.end_handover();
        } else if self.handover.is_none() {
            match self.shared.runners.engage() {
                Some(runner) => self.handover = Some(Handover { runner, mailbox: mailbox.clone(), waiting: None }),
                None => mailbox.give_up(&self.handle),
            }
        }
    }

    /// Whether a guest that waits at the mailbox can continue with these registers: only the result of its call has
    /// changed, and no other context needs its vCPU.
    fn is_answerable(&self, waiting: &Waiting, r: &Registers) -> bool {
        self.fpu.is_none()
            && !self.answers_changed
            && self.breakpoints.is_empty()
            && !self.handle.is_requested()
            && !self.shared.pool.is_scarce()
            && self.shared.has_spare_cpu()
            && waiting.fits(r)
    }

    /// Returns the result to a guest that waits at the mailbox. `None` if the guest no longer waits.
    fn answer(&mut self, r: &Registers) -> Result<Option<Arc<Stay>>, PlatformError> {
        let Some(handover) = &mut self.handover else { return Ok(None) };
        let Some(Waiting { stay, .. }) = handover.waiting.take() else { return Ok(None) };
        if stay.go_on() {
            handover.mailbox.answer(r.rax);
            return Ok(Some(stay));
        }
        self.handle.run_state.stop();
        self.gone(&stay)?;
        Ok(None)
    }

    /// Watches the mailbox while a runner runs the guest, until there is a call or the guest has exited.
    fn attend(
        &mut self,
        stay: Arc<Stay>,
        quick: bool,
        space: &Space,
        r: &mut Registers,
    ) -> Result<Option<Trap>, PlatformError> {
        let Some(handover) = &mut self.handover else { return Ok(None) };
        let attended = handover.wait(&stay);
        if let Attended::Call = attended {
            *r = handover.mailbox.registers();
            self.handle.run_state.stop();
            handover.waiting = Some(Waiting { stay, call: *r });
            self.pace.handed_over();
            self.shared.machine.counters.count_handed_over();
            space.after_run();
            return Ok(Some(Trap::Syscall));
        }
        let vcpu = stay.vcpu();
        let outcome = stay.outcome();
        let mut core = vcpu.core.lock();
        vcpu.reserved.store(false, Ordering::SeqCst);
        self.handle.set_runner(None);
        let trap = match outcome {
            Ok(Some(exit)) => self.after_exit(Ok(exit), &mut core, vcpu, quick, space, r)?,
            Err(error) => self.after_exit(Err(error), &mut core, vcpu, quick, space, r)?,
            // Another context took the vCPU before it ran. The registers are unchanged.
            Ok(None) => {
                self.handle.run_state.stop();
                None
            }
        };
        // The call came by an exit because the mailbox was not watched in time.
        if matches!(attended, Attended::Left { late: true }) || trap == Some(Trap::Syscall) {
            self.end_handover();
        }
        Ok(trap)
    }

    /// Handles an exit; the calling thread owns the vCPU again.
    fn after_exit(
        &mut self,
        exit: Result<ExitReason, PlatformError>,
        core: &mut Core,
        vcpu: &Arc<Vcpu>,
        quick: bool,
        space: &Space,
        r: &mut Registers,
    ) -> Result<Option<Trap>, PlatformError> {
        let decoded = self.decode(exit, core, vcpu, space, r).inspect_err(|_| {
            vcpu.broken.store(true, Ordering::SeqCst);
        });
        let hit = core.take_hit();
        self.handle.run_state.stop();
        space.after_run();
        self.pace.left(quick, matches!(decoded, Ok(Decoded::Trap(Trap::Syscall))));
        // Switching the thread of a vCPU can take the host longer than other contexts wait, so a context that has not
        // run yet keeps its vCPU. Otherwise none might make progress.
        let started = !matches!(decoded, Ok(Decoded::NotStarted) | Err(_));
        if (self.handle.take_request() || self.shared.pool.is_scarce()) && started {
            self.vcpu = None;
            self.shared.pool.give_way(vcpu.clone(), core)?;
        }
        match decoded? {
            Decoded::Trap(trap) => {
                self.hit = hit;
                Ok(Some(trap))
            }
            Decoded::NoTrap | Decoded::NotStarted | Decoded::Resume => Ok(None),
        }
    }

    /// Decodes an exit. Runs the vCPU on until the guest's registers are known.
    fn decode(
        &self,
        mut exit: Result<ExitReason, PlatformError>,
        core: &mut Core,
        vcpu: &Vcpu,
        space: &Space,
        r: &mut Registers,
    ) -> Result<Decoded, PlatformError> {
        for _ in 0..MAX_RESUMES {
            let decoded = exits::decode(core, exit?, space, &self.shared.machine, r)?;
            self.shared.machine.counters.count(Reason::of(match &decoded {
                Decoded::Trap(trap) => Some(trap),
                Decoded::NoTrap | Decoded::NotStarted | Decoded::Resume => None,
            }));
            if decoded != Decoded::Resume {
                return Ok(decoded);
            }
            vcpu.immediate_exit().store(0, Ordering::SeqCst);
            exit = core.run();
        }
        Err(platform_error(format_args!("vCPU at {:#x} makes no progress", core.state().0.rip), ErrorKind::TimedOut))
    }

    /// Makes a guest that waits at the mailbox exit. Its registers are those of its call.
    fn take_back(&mut self) -> Result<(), PlatformError> {
        let Some(handover) = &mut self.handover else { return Ok(()) };
        if let Some(Waiting { stay, .. }) = handover.waiting.take() {
            handover.mailbox.dismiss(&self.handle);
            let asked = Instant::now();
            while !stay.is_over() && asked.elapsed() < SPIN_LIMIT {
                std::hint::spin_loop();
            }
            if !stay.is_over() {
                self.handle.kick();
            }
            self.gone(&stay)?;
        } else {
            self.end_handover();
        }
        Ok(())
    }

    /// Cleans up after a guest has exited from the mailbox by itself. Only host errors matter.
    fn gone(&mut self, stay: &Stay) -> Result<(), PlatformError> {
        let outcome = stay.outcome();
        // The runner is free already.
        if let Some(handover) = self.handover.take() {
            handover.mailbox.give_up(&self.handle);
            self.pace.ended();
        }
        self.handle.set_runner(None);
        outcome.map(drop)
    }

    /// Ends the hand-over, while no runner runs the vCPU.
    fn end_handover(&mut self) {
        if let Some(handover) = self.handover.take() {
            handover.mailbox.give_up(&self.handle);
            handover.runner.dismiss();
            self.pace.ended();
        }
    }

    /// Calls `work` on the vCPU if it holds the state of this context.
    fn with_vcpu<T>(
        &mut self,
        work: impl FnOnce(&Core) -> Result<T, PlatformError>,
    ) -> Option<Result<T, PlatformError>> {
        if let Err(error) = self.take_back() {
            return Some(Err(error));
        }
        let vcpu = self.vcpu.as_ref()?;
        let core = vcpu.core.lock();
        vcpu.belongs_to(&self.handle).then(|| work(&core))
    }
}

fn downcast(space: &dyn AddressSpace) -> Result<&Space, PlatformError> {
    space
        .as_any()
        .downcast_ref()
        .ok_or_else(|| platform_error("an address space of another platform", ErrorKind::InvalidInput))
}

impl Context for KvmContext {
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, PlatformError> {
        let space = downcast(space)?;
        self.shared.running.fetch_add(1, Ordering::Relaxed);
        let trap = self.run_to_trap(space, registers);
        self.shared.running.fetch_sub(1, Ordering::Relaxed);
        trap
    }

    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(downcast(space)?.copy()?))
    }

    fn prepare_thread(&mut self, _: &dyn AddressSpace) -> Result<ThreadReservation, PlatformError> {
        Ok(ThreadReservation::unlimited())
    }

    fn detach(&mut self) -> Result<(), PlatformError> {
        let back = self.take_back();
        self.detach_membership();
        back
    }

    fn recycle(&mut self) {
        self.release();
        self.handle.run_state.take_interrupt();
        self.fpu = Some(self.shared.pool.format().initial());
        self.answers = Vec::new();
        self.answers_changed = true;
        (self.breakpoints, self.hit) = (DebugRegisters::default(), 0);
        self.pace = Pace::new(self.shared.always_hands_over);
    }

    fn fpu_state(&mut self) -> Result<FpuState, PlatformError> {
        if let Some(state) = &self.fpu {
            return Ok(state.clone());
        }
        let shared = self.shared.clone();
        let format = shared.pool.format();
        if let Some(state) = self.with_vcpu(|core| fpu::state_of(&core.fd, format)) {
            return state;
        }
        let saved = self.handle.saved.lock().take().unwrap_or_else(|| format.initial());
        Ok(self.fpu.insert(saved).clone())
    }

    fn set_fpu_state(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        if !self.shared.pool.format().accepts(state) {
            return Err(platform_error("an FPU state that the processor would not load", ErrorKind::InvalidInput));
        }
        self.fpu = Some(state.clone());
        Ok(())
    }

    fn reset_fpu_state(&mut self) -> Result<(), PlatformError> {
        self.fpu = Some(self.shared.pool.format().initial());
        Ok(())
    }

    fn set_constant_results(&mut self, answers: &[Answer]) {
        self.answers = answers.to_vec();
        self.answers_changed = true;
    }

    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), PlatformError> {
        let wanted = DebugRegisters::of(breakpoints, ADDRESS_LIMIT)
            .map_err(|e| platform_error("breakpoints that no processor supports", e))?;
        if !wanted.is_empty() && !quirks::has_breakpoints(&self.shared)? {
            return Err(platform_error(
                "the host's KVM does not support breakpoints in guests",
                ErrorKind::Unsupported,
            ));
        }
        self.breakpoints = wanted;
        Ok(())
    }

    fn breakpoints_hit(&self) -> u8 {
        self.hit
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.handle.clone()
    }
}

impl Drop for KvmContext {
    fn drop(&mut self) {
        self.release();
    }
}
