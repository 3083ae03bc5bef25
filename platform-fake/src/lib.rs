//! A platform without a processor: guest threads do what a [`Program`] says, so that the whole kernel runs in the process
//! of a test or of the fuzzer, without guest code and host privileges.
#![forbid(unsafe_code)]

mod program;

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::host_call::HostCall;
use amber_abi::{Errno, Signal};
use amber_platform::{
    Access, AddressSpace, Breakpoint, Context, DebugRegisters, FpuFormat, FpuState, FrameRange, Frames, GuestMemory,
    Interrupter, PAGE_SIZE, Platform, PlatformError, Protection, Registers, RunState, ThreadReservation, Trap,
};
use parking_lot::Mutex;

pub use program::smallest_program;

/// The first address a guest may not map.
const LIMIT: u64 = 0x7fff_ffff_f000;
/// Bytes of a `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;
/// Bytes of the floating-point state: the legacy part, the header of XSAVE and AVX.
const STATE_SIZE: usize = 832;
/// x87, SSE and AVX.
const COMPONENTS: u64 = 7;
/// How often a store is tried again after a fault.
const MOST_FAULTS: u32 = 3;

/// What a guest thread does next.
pub enum Step {
    /// This system call. The result is in `rax` at the next step.
    Call(u64, [u64; 6]),
    /// Stores bytes at an address, with the faults that a processor would raise.
    Store(u64, Vec<u8>),
    /// Loads the byte at an address: a page that is not mapped yet is there at the next step, for
    /// [`load`](Processor::load).
    Load(u64),
    /// An exception, as the signal that Linux makes of it.
    Exception(Signal),
    /// Nothing.
    Pass,
}

/// The code of a guest thread.
pub trait Program: Send {
    /// Decides what is next.
    fn step(&mut self, processor: &mut Processor<'_>) -> Step;
}

/// What a guest thread sees.
pub struct Processor<'a> {
    /// Its registers.
    pub registers: &'a mut Registers,
    /// Its address space.
    space: &'a Space,
}

impl Processor<'_> {
    /// Reads what is mapped at an address; false if not all of it is.
    pub fn load(&self, at: u64, buf: &mut [u8]) -> bool {
        let mapped = self.space.mapped.lock();
        mapped.access(
            at,
            buf.len(),
            |protection| protection.read,
            |frame, range| {
                self.space.memory.read(frame, &mut buf[range]);
            },
        ) == buf.len()
    }
}

/// The platform. Each new guest thread gets its program from `programs`.
pub struct Machine {
    /// The memory of guests.
    memory: Arc<GuestMemory>,
    /// Makes the program of the next guest thread.
    programs: Arc<Mutex<Programs>>,
    /// The steps of all threads.
    steps: Arc<AtomicU64>,
    /// The layout of the FPU state.
    format: FpuFormat,
}

/// Makes the program of the next guest thread.
pub type Programs = dyn FnMut() -> Box<dyn Program> + Send;

impl Machine {
    /// A platform whose guest threads do what `programs` says.
    pub fn new(memory: Arc<GuestMemory>, programs: impl FnMut() -> Box<dyn Program> + Send + 'static) -> Arc<Machine> {
        let mut initial = vec![0; STATE_SIZE];
        initial[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        initial[464..472].copy_from_slice(&COMPONENTS.to_le_bytes());
        let format = FpuFormat::from_initial(initial).expect("the state is large enough");
        let programs = Arc::new(Mutex::new(programs));
        Arc::new(Machine { memory, programs, steps: Arc::default(), format })
    }

    /// How many steps were taken so far.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}

impl Platform for Machine {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn host_calls(&self) -> &'static [HostCall] {
        &[]
    }

    fn address_limit(&self) -> u64 {
        LIMIT
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Space { memory: self.memory.clone(), mapped: Mutex::default() }))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(Thread {
            programs: self.programs.clone(),
            steps: self.steps.clone(),
            state: Arc::default(),
            program: None,
            pending: None,
            call_site: None,
            fpu_state: self.format.initial(),
            format: self.format.clone(),
        }))
    }
}

/// A guest address space.
struct Space {
    /// The memory that its frames are in.
    memory: Arc<GuestMemory>,
    /// The mapped pages.
    mapped: Mutex<Mapped>,
}

/// A run of mapped pages.
#[derive(Clone, Copy)]
struct Run {
    /// The first address behind it.
    end: u64,
    /// Its first frame.
    frame: u64,
    /// The permitted kinds of access.
    protection: Protection,
}

/// What is mapped, by the first address of each run.
#[derive(Clone, Default)]
struct Mapped(BTreeMap<u64, Run>);

impl Mapped {
    /// Cuts the run that goes over `at`, so that none does.
    fn cut(&mut self, at: u64) {
        if let Some((&start, run)) = self.0.range_mut(..at).next_back()
            && run.end > at
        {
            let tail = Run { frame: run.frame + (at - start), ..*run };
            run.end = at;
            self.0.insert(at, tail);
        }
    }

    /// Unmaps a range.
    fn remove(&mut self, range: &Range<u64>) {
        self.cut(range.start);
        self.cut(range.end);
        let gone: Vec<u64> = self.0.range(range.clone()).map(|(&start, _)| start).collect();
        for start in gone {
            self.0.remove(&start);
        }
    }

    /// Goes through memory as far as it is mapped and allowed; returns how many bytes that are.
    fn access(
        &self,
        at: u64,
        len: usize,
        allowed: impl Fn(Protection) -> bool,
        mut piece: impl FnMut(u64, Range<usize>),
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(here) = at.checked_add(done as u64) else { break };
            let Some((&start, run)) = self.0.range(..=here).next_back() else { break };
            if run.end <= here || !allowed(run.protection) {
                break;
            }
            let some = (run.end - here).min((len - done) as u64) as usize;
            piece(run.frame + (here - start), done..done + some);
            done += some;
        }
        done
    }
}

impl AddressSpace for Space {
    fn map(&self, at: u64, frames: FrameRange, protection: Protection) {
        assert!(
            at.is_multiple_of(PAGE_SIZE)
                && frames.start.is_multiple_of(PAGE_SIZE)
                && frames.len.is_multiple_of(PAGE_SIZE),
            "whole pages"
        );
        assert!(frames.end() <= self.memory.limit(), "frames lie inside guest memory");
        let end = at.checked_add(frames.len).filter(|&end| end <= LIMIT).expect("mappings lie below the limit");
        let mut mapped = self.mapped.lock();
        mapped.remove(&(at..end));
        if end > at {
            mapped.0.insert(at, Run { end, frame: frames.start, protection });
        }
    }

    fn unmap(&self, range: Range<u64>, released: Vec<Frames>) {
        assert!(range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE), "whole pages");
        self.mapped.lock().remove(&range);
        drop(released);
    }

    fn protect(&self, range: Range<u64>, protection: Protection) {
        let mut mapped = self.mapped.lock();
        mapped.cut(range.start);
        mapped.cut(range.end);
        for (_, run) in mapped.0.range_mut(range) {
            run.protection = protection;
        }
    }

    fn synchronize(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Space {
    /// Stores bytes as a processor does, up to the first page that cannot be written.
    fn store(&self, at: u64, bytes: &[u8]) -> usize {
        let mapped = self.mapped.lock();
        mapped.access(
            at,
            bytes.len(),
            |protection| protection.write,
            |frame, range| {
                self.memory.write(frame, &bytes[range]);
            },
        )
    }
}

/// A store that is not done yet.
struct Pending {
    /// The address of the first byte.
    at: u64,
    /// The bytes.
    bytes: Vec<u8>,
    /// The page faults so far.
    faults: u32,
}

/// Where a guest thread runs.
struct Thread {
    /// Makes its program.
    programs: Arc<Mutex<Programs>>,
    /// The steps of all threads.
    steps: Arc<AtomicU64>,
    /// Whether it runs, and interrupts.
    state: Arc<RunState>,
    /// Its program; none before the first step.
    program: Option<Box<dyn Program>>,
    /// A store that faulted and is tried again.
    pending: Option<Pending>,
    /// The address of the last call's instruction. A return to it repeats the call.
    call_site: Option<u64>,
    /// The FPU state.
    fpu_state: FpuState,
    /// The layout of the FPU state.
    format: FpuFormat,
}

impl Thread {
    /// Takes a step; returns the trap that ends it, if any.
    fn next(&mut self, space: &Space, registers: &mut Registers) -> Option<Trap> {
        if let Some(pending) = self.pending.take() {
            return self.store(space, pending);
        }
        if registers.rip >= LIMIT {
            return Some(exception(Signal::SIGSEGV, registers.rip));
        }
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.call_site == Some(registers.rip) {
            return Some(self.call(registers));
        }
        let program = self.program.get_or_insert_with(|| (self.programs.lock())());
        match program.step(&mut Processor { registers, space }) {
            Step::Call(number, [rdi, rsi, rdx, r10, r8, r9]) => {
                *registers = Registers { rax: number, rdi, rsi, rdx, r10, r8, r9, ..*registers };
                Some(self.call(registers))
            }
            Step::Store(at, bytes) => self.store(space, Pending { at, bytes, faults: 0 }),
            Step::Load(address) => {
                (!Processor { registers, space }.load(address, &mut [0])).then(|| missing(address, Access::Read))
            }
            Step::Exception(signal) => Some(exception(signal, registers.rip)),
            Step::Pass => None,
        }
    }

    /// Sets the registers as the `syscall` instruction does.
    fn call(&mut self, registers: &mut Registers) -> Trap {
        self.call_site = Some(registers.rip);
        registers.orig_rax = registers.rax;
        registers.rax = Errno::ENOSYS.to_register();
        registers.rcx = registers.rip + SYSCALL_LENGTH;
        registers.rip += SYSCALL_LENGTH;
        registers.r11 = registers.eflags;
        Trap::Syscall
    }

    /// Stores to guest memory; a missing page is a trap, after which the store goes on.
    fn store(&mut self, space: &Space, mut pending: Pending) -> Option<Trap> {
        let done = space.store(pending.at, &pending.bytes);
        if done == pending.bytes.len() {
            return None;
        }
        pending.bytes.drain(..done);
        pending.at = pending.at.wrapping_add(done as u64);
        pending.faults = if done > 0 { 1 } else { pending.faults + 1 };
        let address = pending.at;
        if pending.faults < MOST_FAULTS {
            self.pending = Some(pending);
        }
        if address >= LIMIT {
            self.pending = None;
        }
        Some(missing(address, Access::Write))
    }
}

/// What an access to a page that is not mapped results in.
fn missing(address: u64, access: Access) -> Trap {
    if address >= LIMIT { exception(Signal::SIGSEGV, 0) } else { Trap::PageFault { address, access } }
}

/// The trap of a processor exception.
fn exception(signal: Signal, address: u64) -> Trap {
    // SI_KERNEL
    Trap::Exception { signal: signal.raw(), code: 0x80, address }
}

impl Context for Thread {
    fn run(&mut self, space: &dyn AddressSpace, registers: &mut Registers) -> Result<Trap, PlatformError> {
        let space = space.as_any().downcast_ref::<Space>().expect("a space of this platform");
        loop {
            if self.state.take_interrupt() {
                return Ok(Trap::Interrupted);
            }
            if let Some(trap) = self.next(space, registers) {
                return Ok(trap);
            }
        }
    }

    fn fork_space(&mut self, space: &dyn AddressSpace) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let space = space.as_any().downcast_ref::<Space>().expect("a space of this platform");
        let mapped = space.mapped.lock().clone();
        Ok(Arc::new(Space { memory: space.memory.clone(), mapped: Mutex::new(mapped) }))
    }

    fn prepare_thread(&mut self, _space: &dyn AddressSpace) -> Result<ThreadReservation, PlatformError> {
        Ok(ThreadReservation::unlimited())
    }

    fn recycle(&mut self, _: &dyn AddressSpace) -> bool {
        self.program = None;
        self.pending = None;
        self.call_site = None;
        self.fpu_state = self.format.initial();
        true
    }

    fn fpu_state(&mut self) -> Result<FpuState, PlatformError> {
        Ok(self.fpu_state.clone())
    }

    fn set_fpu_state(&mut self, state: &FpuState) -> Result<(), PlatformError> {
        if !self.format.accepts(state) {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(PlatformError { what: "setting the floating-point state".to_owned(), source });
        }
        self.fpu_state = state.clone();
        Ok(())
    }

    fn reset_fpu_state(&mut self) -> Result<(), PlatformError> {
        self.fpu_state = self.format.initial();
        Ok(())
    }

    fn set_breakpoints(&mut self, breakpoints: &[Breakpoint]) -> Result<(), PlatformError> {
        let set = DebugRegisters::of(breakpoints, LIMIT);
        set.map(|_| ()).map_err(|source| PlatformError { what: "setting breakpoints".to_owned(), source })
    }

    fn breakpoints_hit(&self) -> u8 {
        0
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        Arc::new(Bell(self.state.clone()))
    }
}

/// Makes a thread come back from its program.
struct Bell(Arc<RunState>);

impl Interrupter for Bell {
    fn interrupt(&self) {
        self.0.interrupt();
    }
}
