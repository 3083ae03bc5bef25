//! A stub thread, driven by the host thread that traces it.

use std::io;
use std::sync::{Arc, Weak};

use amber_platform::{DebugRegisters, GuestMemory, PlatformError, Registers};

use crate::context_handle::ContextHandle;
use crate::image::LABELS;
use crate::layout::{CODE, COMMAND_BYTES, COMMAND_FD, COMMANDS};
use crate::platform_error;
use crate::stub::{Reservation, Stub};
use crate::trace::{self, SEGV_PKUERR, SignalInfo, Stop};

/// A system call for a stub to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The x86-64 number.
    pub number: i64,
    /// The arguments in the order of the calling convention.
    pub arguments: [u64; 6],
}

/// Size of a command in the command pages.
const CALL_BYTES: u64 = 56;
/// Number of commands that fit in the command pages.
const MAX_CALLS: usize = (COMMAND_BYTES / CALL_BYTES) as usize;
/// Maximum number of unrelated stops while the stub's code runs: late kicks, and signals from other processes.
const MAX_STRAYS: u32 = 10_000;
/// The same for faults: one of each kind can be pending from the guest code that ran before.
const MAX_FAULTS: u32 = 8;
/// Results from here on are negated error numbers (`IS_ERR_VALUE` in Linux).
const FIRST_ERROR: u64 = -4095i64 as u64;

/// Clone flags of a new stub: a child of the spawner, and not traced automatically.
const CLONE_PROCESS: i32 =
    libc::CLONE_PARENT | libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SYSVSEM | libc::CLONE_UNTRACED;
/// Clone flags of a new thread of a stub.
const CLONE_THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_UNTRACED;

/// A stopped stub thread that the calling host thread traces. When dropped, it becomes idle.
pub(crate) struct Tracee {
    stub: Arc<Stub>,
    tid: i32,
    /// Address of the stub's code page.
    code: u64,
    /// The contents of the thread's registers, if known.
    pub loaded: Option<Registers>,
    /// The contents of the thread's debug registers.
    breakpoints: DebugRegisters,
    /// Whether the thread stays attached when this is dropped.
    cached: bool,
}

/// A stopped, attached stub thread without a guest thread. It does not keep its stub alive.
pub(crate) struct CachedTracee {
    stub: Weak<Stub>,
    tid: i32,
}

impl CachedTracee {
    /// Whether it is a thread of `stub`.
    pub(crate) fn is_of(&self, stub: &Arc<Stub>) -> bool {
        std::ptr::eq(self.stub.as_ptr(), Arc::as_ptr(stub))
    }

    /// Makes it a tracee again, if its stub still exists.
    pub(crate) fn reuse(self) -> Option<Tracee> {
        let stub = self.stub.upgrade()?;
        Some(Tracee::new(stub, self.tid, CODE))
    }
}

impl Tracee {
    fn new(stub: Arc<Stub>, tid: i32, code: u64) -> Tracee {
        Tracee { stub, tid, code, loaded: None, breakpoints: DebugRegisters::default(), cached: false }
    }

    /// Attaches to an idle thread of `stub` for the context of `handle`. `prepare` is called with its thread ID first.
    pub(crate) fn attach(
        stub: &Arc<Stub>,
        handle: &Arc<ContextHandle>,
        prepare: impl FnOnce(i32),
    ) -> Result<Tracee, PlatformError> {
        let Some(tid) = stub.take_idle(handle) else {
            return Err(platform_error("no thread was prepared in the address space", io::ErrorKind::NotFound));
        };
        prepare(tid);
        trace::seize(tid).map_err(|e| platform_error("seizing a stub thread (was it killed from outside?)", e))?;
        let mut tracee = Tracee::new(stub.clone(), tid, CODE);
        trace::interrupt(tid).map_err(|e| platform_error("stopping a stub thread", e))?;
        let mut budget = StopBudget::default();
        loop {
            match tracee.wait()? {
                Stop::Event => break,
                stop => budget.charge(&tracee, stop)?,
            }
            tracee.resume()?;
        }
        let mut registers = Registers::default();
        tracee.read_registers(&mut registers)?;
        let ready = CODE + LABELS.park..=CODE + LABELS.parked;
        if tid == stub.pid() && !ready.contains(&registers.rip) {
            // The new process was stopped before it had set itself up: complete that here.
            tracee.call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64])?;
            tracee.map_commands()?;
        }
        handle.set_target(Some((stub.pid(), tid)));
        Ok(tracee)
    }

    /// Takes over a child that called `PTRACE_TRACEME` and stops by itself, with the stub's code at `code`.
    pub(crate) fn adopt(stub: &Arc<Stub>, handle: &Arc<ContextHandle>, code: u64) -> Result<Tracee, PlatformError> {
        let Some(tid) = stub.take_idle(handle) else {
            return Err(platform_error("the zygote has no thread", io::ErrorKind::NotFound));
        };
        let mut tracee = Tracee::new(stub.clone(), tid, code);
        tracee.wait()?;
        trace::set_options(tid).map_err(|e| platform_error("setting trace options", e))?;
        Ok(tracee)
    }

    /// Keeps the thread stopped and attached, without breakpoints, for a later [`reuse`](CachedTracee::reuse).
    ///
    /// # Errors
    /// The breakpoints could not be removed; the tracee is dropped.
    pub(crate) fn cache(mut self) -> Result<CachedTracee, PlatformError> {
        self.set_breakpoints(&DebugRegisters::default())?;
        self.cached = true;
        Ok(CachedTracee { stub: Arc::downgrade(&self.stub), tid: self.tid })
    }

    /// The stub that the thread belongs to.
    pub(crate) fn stub(&self) -> &Arc<Stub> {
        &self.stub
    }

    /// The thread ID.
    pub(crate) fn tid(&self) -> i32 {
        self.tid
    }

    /// Sets the address of the stub's code page, after the code was moved there.
    pub(crate) fn move_code(&mut self, code: u64) {
        self.code = code;
    }

    /// Waits for the next stop.
    ///
    /// # Errors
    /// The stub was killed or has exited.
    pub(crate) fn wait(&mut self) -> Result<Stop, PlatformError> {
        match trace::wait(self.tid).map_err(|e| platform_error("waiting for a stub", e))? {
            Stop::Gone(status) if libc::WIFSIGNALED(status) => {
                let signal = libc::WTERMSIG(status);
                let hint = if signal == libc::SIGKILL { " (is the host out of memory?)" } else { "" };
                Err(platform_error(format!("a stub was killed by signal {signal}{hint}"), io::ErrorKind::BrokenPipe))
            }
            Stop::Gone(status) => {
                let code = libc::WEXITSTATUS(status);
                Err(platform_error(format!("a stub exited with status {code}"), io::ErrorKind::BrokenPipe))
            }
            stop => Ok(stop),
        }
    }

    fn resume(&mut self) -> Result<(), PlatformError> {
        trace::resume(self.tid).map_err(|e| platform_error("resuming a stub", e))
    }

    /// Runs guest code until the thread stops.
    pub(crate) fn run_guest(&mut self) -> Result<Stop, PlatformError> {
        trace::resume_emulating(self.tid).map_err(|e| platform_error("resuming a guest", e))?;
        self.wait()
    }

    /// Reads the general registers.
    pub(crate) fn read_registers(&mut self, registers: &mut Registers) -> Result<(), PlatformError> {
        trace::registers(self.tid, registers).map_err(|e| platform_error("reading a stub's registers", e))?;
        self.loaded = Some(*registers);
        Ok(())
    }

    /// Writes the general registers if they have changed. Returns false if the host rejects the values.
    pub(crate) fn write_registers(&mut self, registers: &Registers) -> Result<bool, PlatformError> {
        // Without a call number the host has no system call to restart.
        let registers = Registers { orig_rax: u64::MAX, ..*registers };
        if self.loaded.as_ref() == Some(&registers) {
            return Ok(true);
        }
        match trace::set_registers(self.tid, &registers) {
            Ok(()) => {
                self.loaded = Some(registers);
                Ok(true)
            }
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                self.loaded = None;
                Ok(false)
            }
            Err(error) => Err(platform_error("writing a stub's registers", error)),
        }
    }

    /// Writes the breakpoints if they have changed.
    pub(crate) fn set_breakpoints(&mut self, breakpoints: &DebugRegisters) -> Result<(), PlatformError> {
        if self.breakpoints != *breakpoints {
            trace::set_debug_registers(self.tid, breakpoints).map_err(|e| platform_error("setting breakpoints", e))?;
            self.breakpoints = *breakpoints;
        }
        Ok(())
    }

    /// Mask of the breakpoints that caused the last debug exception.
    pub(crate) fn breakpoints_hit(&self) -> Result<u8, PlatformError> {
        if self.breakpoints.is_empty() {
            return Ok(0);
        }
        let status =
            trace::debug_status(self.tid).map_err(|e| platform_error("reading the debug status register", e))?;
        Ok(self.breakpoints.hits(status))
    }

    /// Runs the stub's code from the label `start` to `end`, or until it cannot read its commands.
    fn run_code(&mut self, start: u64, end: u64, registers: Registers) -> Result<StubStop, PlatformError> {
        let mut registers = Registers { rip: self.code + start, ..registers };
        trace::set_registers(self.tid, &registers).map_err(|e| platform_error("writing a stub's registers", e))?;
        self.loaded = None;
        let mut budget = StopBudget::default();
        loop {
            self.resume()?;
            let stop = self.wait()?;
            if let Stop::Signal(signal @ (libc::SIGTRAP | libc::SIGSEGV)) = stop {
                trace::registers(self.tid, &mut registers)
                    .map_err(|e| platform_error("reading a stub's registers", e))?;
                match signal {
                    libc::SIGTRAP if registers.rip == self.code + end => return Ok(StubStop::Done(registers)),
                    libc::SIGSEGV if self.signal_info()?.code == SEGV_PKUERR => return Ok(StubStop::Denied(registers)),
                    _ => (),
                }
            }
            budget.charge(self, stop)?;
        }
    }

    /// [`run_code`](Self::run_code) for code that accesses no memory; returns the registers.
    fn run_stub(&mut self, start: u64, end: u64, registers: Registers) -> Result<Registers, PlatformError> {
        match self.run_code(start, end, registers)? {
            StubStop::Done(registers) => Ok(registers),
            StubStop::Denied(registers) => Err(unexpected_stop(&registers)),
        }
    }

    /// The `siginfo_t` of the signal that stopped the thread.
    pub(crate) fn signal_info(&self) -> Result<SignalInfo, PlatformError> {
        trace::signal_info(self.tid).map_err(|e| platform_error("reading the siginfo_t of a stub", e))
    }

    /// Makes one system call in the stub.
    pub(crate) fn call(&mut self, number: i64, arguments: &[u64]) -> Result<u64, PlatformError> {
        let argument = |i: usize| arguments.get(i).copied().unwrap_or(0);
        let registers = Registers {
            rax: number as u64,
            rdi: argument(0),
            rsi: argument(1),
            rdx: argument(2),
            r10: argument(3),
            r8: argument(4),
            r9: argument(5),
            ..Registers::for_program(0, 0)
        };
        let result = self.run_stub(LABELS.call, LABELS.call_done, registers)?.rax;
        if result >= FIRST_ERROR {
            return Err(call_error(&Call { number, arguments: std::array::from_fn(argument) }, result));
        }
        Ok(result)
    }

    /// Makes system calls in the stub, in order, until one fails.
    pub(crate) fn calls(&mut self, memory: &GuestMemory, calls: &[Call]) -> Result<(), PlatformError> {
        for batch in calls.chunks(MAX_CALLS) {
            let done = if batch.len() > 1 { self.command(memory, batch)? } else { 0 };
            // By registers: single calls, and those that the thread's protection keys keep it from reading.
            for call in &batch[done..] {
                self.call(call.number, &call.arguments)?;
            }
        }
        Ok(())
    }

    /// Makes system calls through the command pages until one fails. Returns how many were made: fewer than all if the
    /// guest thread's protection keys, which apply to the stub's code as well, forbid reading.
    fn command(&mut self, memory: &GuestMemory, batch: &[Call]) -> Result<usize, PlatformError> {
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|call| std::iter::once(call.number as u64).chain(call.arguments))
            .flat_map(u64::to_ne_bytes)
            .collect();
        let page = self.stub.page().start;
        memory.write(page, &bytes);
        let end = COMMANDS + bytes.len() as u64;
        let registers = Registers { rbx: COMMANDS, r12: end, ..Registers::for_program(0, 0) };
        let work = self.run_code(LABELS.commands, LABELS.commands_done, registers);
        // The guest can read this page, and must not learn the offsets of its memory in the memory of all guests.
        memory.zero(page, bytes.len() as u64);
        let (StubStop::Done(registers) | StubStop::Denied(registers)) = &work?;
        let made = (registers.rbx.wrapping_sub(COMMANDS) / CALL_BYTES) as usize;
        match batch.get(made) {
            _ if registers.rbx == end => Ok(batch.len()),
            Some(_) if registers.rip != self.code + LABELS.commands_done => Ok(made),
            Some(call) => Err(call_error(call, registers.rax)),
            None => Err(unexpected_stop(registers)),
        }
    }

    /// Maps the stub's own command pages.
    pub(crate) fn map_commands(&mut self) -> Result<(), PlatformError> {
        let flags = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
        let offset = self.stub.page().start;
        let arguments = [COMMANDS, COMMAND_BYTES, libc::PROT_READ as u64, flags, COMMAND_FD as u64, offset];
        self.call(libc::SYS_mmap, &arguments).map(drop)
    }

    fn clone(&mut self, flags: i32, registers: Registers) -> Result<i32, PlatformError> {
        let registers = Registers { rax: libc::SYS_clone as u64, rdi: flags as u64, ..registers };
        let result = self.run_stub(LABELS.clone, LABELS.clone_done, registers)?.rax;
        if result >= FIRST_ERROR {
            let what = "no new stub process or thread (see `ulimit -u` and the pids limit of the control group)";
            return Err(platform_error(what, io::Error::from_raw_os_error(result.wrapping_neg() as i32)));
        }
        Ok(result as i32)
    }

    /// Forks the stub process. The new one waits until it is traced.
    pub(crate) fn clone_process(&mut self, commands: &Arc<GuestMemory>) -> Result<Stub, PlatformError> {
        let page = commands
            .allocate_to_fill(COMMAND_BYTES, 0)
            .map_err(|_| platform_error("too many address spaces", io::ErrorKind::OutOfMemory))?;
        // The guest must not read what the previous owner of the page left.
        commands.zero(page.range().start, COMMAND_BYTES);
        let registers = Registers {
            r13: page.range().start,
            r14: std::process::id().into(),
            r15: 1,
            ..Registers::for_program(0, 0)
        };
        Ok(Stub::new(self.clone(CLONE_PROCESS, registers)?, page, self.stub.dying().clone()))
    }

    /// Reserves an idle thread of the stub, and creates one if necessary.
    pub(crate) fn reserve_thread(&mut self) -> Result<Reservation, PlatformError> {
        let (reserve, there) = self.stub.reserve();
        if !there {
            let tid = self.clone(CLONE_THREAD, Registers::for_program(0, 0))?;
            self.stub.add_idle(tid);
        }
        Ok(reserve)
    }
}

/// How the stub's code stopped.
enum StubStop {
    /// At the expected label.
    Done(Registers),
    /// At the read of a command, which the thread's protection keys forbid.
    Denied(Registers),
}

/// Limits the unrelated stops of a stub that executes its own code.
#[derive(Default)]
struct StopBudget {
    strays: u32,
    faults: u32,
}

impl StopBudget {
    /// Counts a stop: a late kick, a signal from another process, or a fault.
    ///
    /// # Errors
    /// There were more than these causes explain, so the stub makes no progress.
    fn charge(&mut self, tracee: &Tracee, stop: Stop) -> Result<(), PlatformError> {
        let Stop::Signal(signal) = stop else { return self.count(tracee, "a stop") };
        let info = tracee.signal_info()?;
        // Signals sent by processes have codes up to zero.
        if info.code <= 0 {
            return self.count(tracee, "a signal");
        }
        self.faults += 1;
        if self.faults <= MAX_FAULTS {
            return Ok(());
        }
        let mut registers = Registers::default();
        trace::registers(tracee.tid, &mut registers).map_err(|e| platform_error("reading a stub's registers", e))?;
        let what = format!(
            "a stub's own code raised signal {signal} (code {}, address {:#x}) at {:#x}",
            info.code, info.address, registers.rip
        );
        Err(platform_error(what, io::ErrorKind::InvalidData))
    }

    fn count(&mut self, tracee: &Tracee, what: &str) -> Result<(), PlatformError> {
        self.strays += 1;
        if self.strays <= MAX_STRAYS {
            return Ok(());
        }
        let what = format!("thread {} of a stub makes no progress: {what} occurred {MAX_STRAYS} times", tracee.tid);
        Err(platform_error(what, io::ErrorKind::TimedOut))
    }
}

/// The error of a stub that stopped at an unexpected address.
fn unexpected_stop(registers: &Registers) -> PlatformError {
    platform_error(format!("a stub stopped at the unexpected address {:#x}", registers.rip), io::ErrorKind::InvalidData)
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.cached || Arc::strong_count(&self.stub) == 1 {
            // This is the last reference, or a cached tracee: the process is killed, or the thread stays attached.
            return;
        }
        let registers = Registers::for_program(self.code + LABELS.park, 0);
        let plain = self.set_breakpoints(&DebugRegisters::default()).is_ok();
        self.stub.release(self.tid, || {
            plain && trace::set_registers(self.tid, &registers).is_ok() && trace::detach(self.tid).is_ok()
        });
    }
}

fn call_error(call: &Call, result: u64) -> PlatformError {
    let source = io::Error::from_raw_os_error(result.wrapping_neg() as i32);
    let [first, second, ..] = call.arguments;
    let (name, hint) = match call.number {
        libc::SYS_mmap => ("mmap", " (too many mappings? then raise the sysctl vm.max_map_count)"),
        libc::SYS_munmap => ("munmap", " (too many mappings? then raise the sysctl vm.max_map_count)"),
        libc::SYS_mprotect => ("mprotect", " (too many mappings? then raise the sysctl vm.max_map_count)"),
        libc::SYS_seccomp => return platform_error("installing the seccomp filter of stubs", source),
        number => return platform_error(format!("system call {number} of a stub"), source),
    };
    let hint = if source.raw_os_error() == Some(libc::ENOMEM) { hint } else { "" };
    platform_error(format!("{name} of {second:#x} bytes at {first:#x} in a stub{hint}"), source)
}
