//! A context: a guest thread that runs on a vCPU of the pool.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_platform::{
    AddressSpace, Breakpoint, Context, DebugRegisters, FpuState, Interrupter, KernelCharge, KernelPart, PlatformError,
    Reason, Registers, ThreadReservation, Trap,
};

use crate::active_contexts::ActiveContexts;
use crate::answers::Answer;
use crate::context_handle::ContextHandle;
use crate::exits::{self, Decoded};
use crate::layout::ADDRESS_LIMIT;
use crate::quirks;
use crate::segments::are_loadable;
use crate::space::Space;
use crate::vcpu::{Core, ExitReason, Vcpu};
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
}

/// Stack of the host thread that a run uses beyond what other code does, in bytes.
const STACK_BYTES: u64 = 24 << 10;

/// See [`Context`].
pub(crate) struct KvmContext {
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
    /// Charge for the stack of the host thread.
    _charge: KernelCharge,
}

impl KvmContext {
    /// A context that has not run yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let fpu = Some(shared.pool.format().initial());
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
            _charge,
        }
    }

    /// Sets breakpoints without a check that the host supports them.
    pub(crate) fn try_breakpoints(&mut self, breakpoints: &DebugRegisters) {
        self.breakpoints = *breakpoints;
    }

    /// Attaches the context to a space, if that is not the one of the last run.
    fn attach_to(&mut self, space: &Space) -> Result<(), PlatformError> {
        let is_attached = |membership: &Membership| Arc::ptr_eq(&membership.active_contexts, space.active_contexts());
        if !self.membership.as_ref().is_some_and(is_attached) {
            self.detach_membership();
            space.active_contexts().enter(&self.handle);
            self.membership = Some(Membership { active_contexts: space.active_contexts().clone(), epoch: 0 });
            self.answers_changed = true;
        }
        if let (Some(shared), Some(membership)) = (space.answers(), &mut self.membership) {
            let epoch = membership.active_contexts.epoch();
            if self.answers_changed || membership.epoch != epoch {
                membership.epoch = epoch;
                shared.update(&self.answers, membership.active_contexts.count() == 1);
            }
        }
        space.check()
    }

    /// Detaches from the space and releases the vCPU.
    fn release(&mut self) {
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
        vcpu.immediate_exit().store(0, Ordering::SeqCst);
        if !self.handle.run_state.start() {
            return Ok(None);
        }
        // From here on, threads that change the space see that the guest may be running, and with which generation.
        let generation = space.tlb_generation();
        self.handle.set_tlb_generation(generation);
        core.load(r, space.root(), generation);
        let exit = core.run();
        self.after_exit(exit, &mut core, &vcpu, space, r)
    }

    /// Handles an exit of the vCPU, and gives it up if other contexts need it.
    fn after_exit(
        &mut self,
        exit: Result<ExitReason, PlatformError>,
        core: &mut Core,
        vcpu: &Arc<Vcpu>,
        space: &Space,
        r: &mut Registers,
    ) -> Result<Option<Trap>, PlatformError> {
        let decoded = self.decode(exit, core, vcpu, space, r).inspect_err(|_| {
            vcpu.broken.store(true, Ordering::SeqCst);
        });
        let hit = core.take_hit();
        self.handle.run_state.stop();
        space.after_run();
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

    /// Calls `work` on the vCPU if it holds the state of this context.
    fn with_vcpu<T>(&self, work: impl FnOnce(&Core) -> Result<T, PlatformError>) -> Option<Result<T, PlatformError>> {
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
        self.run_to_trap(downcast(space)?, registers)
    }

    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(downcast(space)?.copy()?))
    }

    fn prepare_thread(&mut self, _: &dyn AddressSpace) -> Result<ThreadReservation, PlatformError> {
        Ok(ThreadReservation::unlimited())
    }

    fn detach(&mut self) -> Result<(), PlatformError> {
        self.detach_membership();
        Ok(())
    }

    fn recycle(&mut self, _: &dyn AddressSpace) -> bool {
        self.release();
        self.handle.run_state.take_interrupt();
        self.fpu = Some(self.shared.pool.format().initial());
        self.answers = Vec::new();
        self.answers_changed = true;
        (self.breakpoints, self.hit) = (DebugRegisters::default(), 0);
        true
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
        self.fpu = Some(self.shared.pool.format().with_legacy_components(state));
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
