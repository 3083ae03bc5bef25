//! A context: a guest thread, run by a stub thread that the context's host thread traces.

use std::io;
use std::sync::Arc;

use amber_platform::{
    Access, AddressSpace, Breakpoint, Context, DebugRegisters, FpuState, Interrupter, KernelCharge, KernelPart,
    PAGE_SIZE, PlatformError, Reason, Registers, ThreadReservation, Trap,
};

use crate::context_handle::{ContextHandle, KICK};
use crate::cpu_affinity::Affinity;
use crate::layout::ADDRESS_LIMIT;
use crate::space::Space;
use crate::trace::{self, SEGV_PKUERR, SignalInfo, Stop};
use crate::tracee::{CachedTracee, Tracee};
use crate::{Shared, fpu, platform_error};

/// The 64-bit user code segment (`__USER_CS`).
const USER_CS: u64 = 0x33;
/// `si_code` of a signal from the kernel without a particular cause.
const SI_KERNEL: i32 = 0x80;
/// `si_code` of SIGSYS raised by a seccomp filter.
const SYS_SECCOMP: i32 = 1;
/// `si_code` of a SIGTRAP after a single step.
const TRAP_TRACE: i32 = 2;
/// `si_code` of a SIGTRAP from a debug register.
const TRAP_HWBKPT: i32 = 4;
/// The longest x86 instruction.
const MAX_INSTRUCTION_BYTES: u64 = 15;
/// The entries of the vsyscall page and their system calls.
const VSYSCALLS: [(u64, i64); 3] = [
    (0xffff_ffff_ff60_0000, libc::SYS_gettimeofday),
    (0xffff_ffff_ff60_0400, libc::SYS_time),
    (0xffff_ffff_ff60_0800, libc::SYS_getcpu),
];

/// Host kernel memory of a stub's thread, in bytes.
const THREAD_BYTES: u64 = 24 << 10;

/// See [`Context`].
pub(crate) struct TracedContext {
    shared: Arc<Shared>,
    handle: Arc<ContextHandle>,
    affinity: Option<Arc<Affinity>>,
    tracee: Option<Tracee>,
    /// The tracee of the previous guest thread, for reuse in the same space.
    cached: Option<CachedTracee>,
    /// The FPU state if it is not (yet) in the tracee.
    fpu: Option<FpuState>,
    breakpoints: DebugRegisters,
    /// Mask of the breakpoints that caused the last SIGTRAP.
    hit: u8,
    /// Charge for the stub thread.
    _charge: KernelCharge,
}

impl TracedContext {
    /// A context that has not run yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let fpu = Some(shared.fpu.initial());
        let _charge = shared.memory.charge(KernelPart::Stacks, THREAD_BYTES);
        TracedContext {
            shared,
            handle: Arc::default(),
            affinity: None,
            tracee: None,
            cached: None,
            fpu,
            breakpoints: DebugRegisters::default(),
            hit: 0,
            _charge,
        }
    }

    /// The stub thread that runs this context in `space`; takes one if necessary.
    fn enter(&mut self, space: &Space) -> Result<&mut Tracee, PlatformError> {
        if self.tracee.as_ref().is_none_or(|tracee| !Arc::ptr_eq(tracee.stub(), space.stub())) {
            if self.fpu.is_none()
                && let Some(tracee) = &self.tracee
            {
                self.fpu = Some(fpu::state_of(tracee.tid(), &self.shared.fpu)?);
            }
            self.move_to(space)?;
        }
        self.tracee.as_mut().ok_or_else(|| platform_error("no stub thread", io::ErrorKind::NotFound))
    }

    /// Replaces the stub thread by one of `space`.
    fn move_to(&mut self, space: &Space) -> Result<(), PlatformError> {
        let cpus = &self.shared.cpus;
        let stub = space.stub();
        let unassigned = self.tracee.is_none();
        self.handle.set_target(None);
        self.tracee = None;
        // A new or recycled context starts on the CPU of the thread that created it: most of them wait for each other.
        let affinity = match &self.affinity {
            Some(affinity) => {
                if unassigned {
                    cpus.reactivate(affinity, stub.home());
                }
                affinity
            }
            None => self.affinity.insert(cpus.register(stub.home())),
        };
        if let Some(tracee) = self.cached.take().and_then(CachedTracee::reuse)
            && Arc::ptr_eq(tracee.stub(), stub)
        {
            self.handle.set_target(Some((stub.pid(), tracee.tid())));
            self.tracee = Some(tracee);
        } else {
            self.tracee = Some(Tracee::attach(stub, &self.handle, |thread| cpus.bind_stub(affinity, thread))?);
        }
        Ok(())
    }

    /// Loads the guest thread's state into its stub thread and applies pending changes. Returns false if the host
    /// rejects the registers.
    fn load(&mut self, space: &Space, registers: &Registers) -> Result<bool, PlatformError> {
        let shared = self.shared.clone();
        self.enter(space)?;
        let fpu = self.fpu.take();
        let breakpoints = self.breakpoints;
        let tracee = self.enter(space)?;
        if space.applied_change().is_none() {
            space.apply(tracee, &shared.commands)?;
        }
        if let Some(state) = fpu {
            trace::set_fpu_state(tracee.tid(), &state.0).map_err(|e| platform_error("writing the FPU state", e))?;
        }
        tracee.set_breakpoints(&breakpoints)?;
        tracee.write_registers(registers)
    }

    /// Runs the guest code that [`load`](Self::load) prepared.
    fn run_guest(&mut self) -> Result<Stop, PlatformError> {
        let tracee = self.tracee.as_mut().ok_or_else(|| platform_error("no stub thread", io::ErrorKind::NotFound))?;
        let stop = tracee.run_guest();
        if let Some(affinity) = &self.affinity {
            tracee.stub().set_home(affinity.cpu());
        }
        stop
    }

    /// The trap that a stop means, if any. `applied_change` is the last change that was in effect when the guest ran.
    fn trap(
        &mut self,
        stop: Stop,
        space: &Space,
        registers: &mut Registers,
        applied_change: u64,
    ) -> Result<Option<Trap>, PlatformError> {
        let tracee = self.enter(space)?;
        tracee.read_registers(registers)?;
        if stop == Stop::Syscall {
            return call_trap(tracee.tid(), registers).map(Some);
        }
        registers.orig_rax = u64::MAX;
        let Stop::Signal(signal) = stop else { return Ok(None) };
        if signal == KICK {
            return Ok(self.handle.run_state.take_interrupt().then_some(Trap::Interrupted));
        }
        let tid = tracee.tid();
        let info = tracee.signal_info()?;
        // Signals sent by processes have codes up to zero.
        if info.code <= 0 {
            return Ok(None);
        }
        let SignalInfo { code, address, syscall } = info;
        if signal == libc::SIGTRAP {
            let stepped = code == TRAP_TRACE || code == TRAP_HWBKPT;
            self.hit = if stepped { tracee.breakpoints_hit()? } else { 0 };
        }
        Ok(match signal {
            libc::SIGSYS if code == SYS_SECCOMP => {
                registers.orig_rax = syscall as u64;
                Some(Trap::Syscall)
            }
            libc::SIGSEGV if code == SI_KERNEL => Some(Trap::Exception { signal, code, address: 0 }),
            libc::SIGSEGV if code == SEGV_PKUERR => Some(Trap::Exception { signal, code, address }),
            libc::SIGSEGV => fault_trap(tid, space, registers, address, applied_change),
            libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP => {
                Some(Trap::Exception { signal, code, address })
            }
            _ => None,
        })
    }
}

/// The trap of a thread that is in a system call stop.
fn call_trap(tid: i32, registers: &Registers) -> Result<Trap, PlatformError> {
    // The `syscall` instruction sets rcx and r11. A guest that forges these before `int $0x80` only gets a call of the
    // 64-bit table, which it could make anyway.
    if registers.rcx == registers.rip && registers.r11 == registers.eflags && registers.cs == USER_CS {
        return Ok(Trap::Syscall);
    }
    let i386 = trace::is_i386_call(tid).map_err(|e| platform_error("reading the kind of a system call", e))?;
    Ok(if i386 { Trap::Syscall32 } else { Trap::Syscall })
}

/// The trap of a page fault; `None` if the page has changed since, so that the cause is unknown: the guest then runs
/// again.
fn fault_trap(tid: i32, space: &Space, registers: &mut Registers, address: u64, applied_change: u64) -> Option<Trap> {
    let rip = registers.rip;
    if rip == address
        && let Some((_, number)) = VSYSCALLS.iter().find(|(entry, _)| *entry == rip)
        && let Ok(caller) = trace::read_word(tid, registers.rsp)
    {
        // The host has no vsyscall page. Return to the caller, as the page's code would.
        registers.rip = caller;
        registers.rsp = registers.rsp.wrapping_add(8);
        registers.orig_rax = *number as u64;
        return Some(Trap::Syscall);
    }
    let access = match space.extent_at(address) {
        _ if rip == address => Access::Execute,
        None => Access::Read,
        Some(extent) if extent.change > applied_change => return None,
        Some(extent) => {
            let may = extent.protection;
            // The fault may be on the second page of an instruction that crosses a page boundary.
            let straddles = address.is_multiple_of(PAGE_SIZE)
                && rip < address
                && address - rip < MAX_INSTRUCTION_BYTES
                && !may.execute;
            match may {
                _ if may.write && straddles => Access::Execute,
                _ if may.read || may.write || may.execute => Access::Write,
                _ => Access::Read,
            }
        }
    };
    Some(Trap::PageFault { address, access })
}

fn downcast(space: &dyn AddressSpace) -> Result<&Space, PlatformError> {
    space
        .as_any()
        .downcast_ref()
        .ok_or_else(|| platform_error("an address space of another platform", io::ErrorKind::InvalidInput))
}

impl Context for TracedContext {
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, PlatformError> {
        let space = downcast(space)?;
        // Also where an interrupt is pending: after a run the caller gives up its reservation of the thread.
        self.enter(space)?;
        loop {
            if self.handle.run_state.take_interrupt() {
                return Ok(Trap::Interrupted);
            }
            if !self.load(space, registers)? {
                return Ok(Trap::Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 });
            }
            if !self.handle.run_state.start() {
                continue;
            }
            // From here on, threads that change the space see that the guest may be running.
            let stop = match space.applied_change() {
                Some(applied_change) => self.run_guest().map(|stop| Some((stop, applied_change))),
                None => Ok(None),
            };
            self.handle.run_state.stop();
            space.notify_waiters();
            let Some((stop, applied_change)) = stop? else { continue };
            let trap = self.trap(stop, space, registers, applied_change)?;
            self.shared.counters.count(Reason::of(trap.as_ref()));
            if let Some(trap) = trap {
                return Ok(trap);
            }
        }
    }

    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let space = downcast(space)?;
        let shared = self.shared.clone();
        let child = space.fork(self.enter(space)?, &shared.commands)?;
        if let Some(affinity) = &self.affinity {
            child.stub().set_home(affinity.cpu());
        }
        Ok(Arc::new(child))
    }

    fn prepare_thread(&mut self, space: &dyn AddressSpace) -> Result<ThreadReservation, PlatformError> {
        self.enter(downcast(space)?)?.reserve_thread().map(ThreadReservation::new)
    }

    fn recycle(&mut self, space: &dyn AddressSpace) -> bool {
        self.set_waiting(true);
        self.handle.set_target(None);
        self.handle.run_state.take_interrupt();
        if let Some(tracee) = self.tracee.take() {
            self.cached = tracee.cache().inspect_err(|error| log::warn!("{error}")).ok();
        }
        (self.breakpoints, self.hit) = (DebugRegisters::default(), 0);
        self.fpu = Some(self.shared.fpu.initial());
        let cached = self.cached.as_ref().zip(downcast(space).ok());
        cached.is_some_and(|(cached, space)| cached.is_of(space.stub()))
    }

    fn set_waiting(&self, waiting: bool) {
        if let Some(affinity) = &self.affinity {
            self.shared.cpus.set_waiting(affinity, waiting);
        }
    }

    fn fpu_state(&mut self) -> Result<FpuState, PlatformError> {
        match (&self.fpu, &self.tracee) {
            (Some(state), _) => Ok(state.clone()),
            (None, Some(tracee)) => fpu::state_of(tracee.tid(), &self.shared.fpu),
            (None, None) => Ok(self.shared.fpu.initial()),
        }
    }

    fn set_fpu_state(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        if !self.shared.fpu.accepts(state) {
            return Err(platform_error("an FPU state that the processor would not load", io::ErrorKind::InvalidInput));
        }
        self.fpu = Some(self.shared.fpu.with_legacy_components(state));
        Ok(())
    }

    fn reset_fpu_state(&mut self) -> Result<(), PlatformError> {
        self.fpu = Some(self.shared.fpu.initial());
        Ok(())
    }

    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), PlatformError> {
        self.breakpoints = DebugRegisters::of(breakpoints, ADDRESS_LIMIT)
            .map_err(|e| platform_error("breakpoints that no processor supports", e))?;
        Ok(())
    }

    fn breakpoints_hit(&self) -> u8 {
        self.hit
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.handle.clone()
    }
}

impl Drop for TracedContext {
    fn drop(&mut self) {
        if let Some(affinity) = &self.affinity {
            self.shared.cpus.unregister(affinity);
        }
        self.handle.set_target(None);
        // A dropped tracee gives its thread back to the stub. Left attached, the host would kill the stub with its
        // tracer.
        self.tracee = self.tracee.take().or_else(|| self.cached.take()?.reuse());
    }
}
