//! Costs of this host without Amber, for what every guest needs: a VM exit, a ptrace stop, and the first store to a
//! page. They are lower bounds for the platforms.
//!
//!     cargo bench -p amber-platform-kvm

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use vm_memory::MmapRegion;

/// The result of a measurement.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bytes in a page.
const PAGE: u64 = 4096;
/// Operations in a round.
const REPETITIONS: u32 = 20_000;
/// Rounds, of which the best counts.
const ROUNDS: usize = 5;
/// Number of pages touched in a row. They are [`STRIDE`] pages apart, so that no kernel faults in the next one as well.
const TOUCHED: u64 = 256;
/// Pages from one touched page to the next.
const STRIDE: u64 = 32;

/// The layout of the machine's memory. Guest addresses are the same.
const TOP: u64 = 0x1000;
/// The task state segment.
const TASK: u64 = 0x4000;
/// The code that runs.
const CODE: u64 = 0x5000;
/// The page tables.
const TABLES: u64 = 0x1_0000;
/// The pages that are touched.
const DATA: u64 = 0x20_0000;
/// Bytes of memory.
const BYTES: u64 = DATA + TOUCHED * STRIDE * PAGE;

/// `out 0x10, eax`, forever.
const LEAVE: [u8; 4] = [0xe7, 0x10, 0xeb, 0xfc];
/// Stores rcx to [rdi] and advances rdi by [`STRIDE`] pages, rcx times; then exits: `mov [rdi], rcx`, `add rdi,
/// 0x20000`, `dec rcx`, `jnz`, `out 0x10, eax`.
const TOUCH: [u8; 17] = [0x48, 0x89, 0x0f, 0x48, 0x81, 0xc7, 0, 0, 2, 0, 0x48, 0xff, 0xc9, 0x75, 0xf1, 0xe7, 0x10];

/// A virtual machine with one vCPU in ring 3.
struct Bare {
    /// The vCPU.
    vcpu: VcpuFd,
    /// Keeps the machine.
    _machine: VmFd,
    /// The memory of the machine.
    memory: MmapRegion,
}

impl Bare {
    /// Makes the machine, ready to run at [`CODE`].
    fn new() -> Result<Bare> {
        let kvm = Kvm::new()?;
        let machine = kvm.create_vm()?;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let memory = MmapRegion::<()>::build(None, BYTES as usize, libc::PROT_READ | libc::PROT_WRITE, flags)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: BYTES,
            userspace_addr: memory.as_ptr() as u64,
        };
        // SAFETY: the mapping lives as long as the machine, and is only used by whole words.
        unsafe { machine.set_user_memory_region(region)? };
        let vcpu = machine.create_vcpu(0)?;
        vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
        let bare = Bare { vcpu, _machine: machine, memory };
        bare.set_up()?;
        Ok(bare)
    }

    /// The word at an offset in memory.
    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < BYTES);
        // SAFETY: an aligned word of the mapping, which lives as long as `self`.
        unsafe { &*self.memory.as_ptr().wrapping_add(offset as usize).cast() }
    }

    /// Makes four levels of page tables that map all memory for user code, and a TSS that permits the port.
    fn set_up(&self) -> Result<()> {
        const LINK: u64 = 0x67;
        let set = |at: u64, value: u64| self.word(at).store(value, Ordering::Relaxed);
        set(TOP, (TOP + PAGE) | LINK);
        set(TOP + PAGE, (TOP + 2 * PAGE) | LINK);
        for table in 0..BYTES.div_ceil(512 * PAGE) {
            set(TOP + 2 * PAGE + table * 8, (TABLES + table * PAGE) | LINK);
        }
        for page in 0..BYTES / PAGE {
            set(TABLES + page * 8, (page * PAGE) | LINK);
        }
        // The I/O permission bitmap follows the segment itself.
        set(TASK + 0x60, 0x68 << 48);
        set(TASK + 0x68, 0xff << 32);
        let segment = |selector: u16, kind: u8, long: u8| kvm_segment {
            limit: u32::MAX,
            selector,
            type_: kind,
            present: 1,
            dpl: 3,
            db: 1 - long,
            s: 1,
            l: long,
            g: 1,
            ..kvm_segment::default()
        };
        let mut s = self.vcpu.get_sregs()?;
        (s.cr0, s.cr3, s.cr4, s.efer) = (0x8005_0033, TOP, 0x620, 0xd01);
        s.cs = segment(0x33, 11, 1);
        (s.ss, s.ds, s.es) = (segment(0x2b, 3, 0), segment(0x2b, 3, 0), segment(0x2b, 3, 0));
        s.ldt = kvm_segment { unusable: 1, type_: 2, ..kvm_segment::default() };
        s.tr = kvm_segment { base: TASK, limit: 0x6c, selector: 0x40, type_: 11, present: 1, ..kvm_segment::default() };
        self.vcpu.set_sregs(&s)?;
        Ok(())
    }

    /// Sets the registers to run `code`.
    fn start(&self, code: &[u8]) -> Result<()> {
        for (i, chunk) in (0..).zip(code.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(CODE + i * 8).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        let registers = kvm_regs { rip: CODE, rflags: 0x202, rdi: DATA, rcx: TOUCHED, ..kvm_regs::default() };
        Ok(self.vcpu.set_regs(&registers)?)
    }

    /// Runs until the guest exits by the port.
    fn run(&mut self) -> Result<()> {
        match self.vcpu.run()? {
            VcpuExit::IoOut(..) => Ok(()),
            other => Err(format!("the guest left by {other:?}").into()),
        }
    }

    /// Returns the memory of the data pages to the host.
    fn drop_data(&self) -> Result<()> {
        let start = self.memory.as_ptr().wrapping_add(DATA as usize);
        // SAFETY: a part of the mapping, which nobody has a reference to.
        match unsafe { libc::madvise(start.cast(), (BYTES - DATA) as usize, libc::MADV_REMOVE) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// Stores to the pages that the guest will touch.
    fn touch_data(&self) {
        (0..TOUCHED).for_each(|i| self.word(DATA + i * STRIDE * PAGE).store(1, Ordering::Relaxed));
    }
}

/// The shortest of several rounds, divided by `count`.
fn measure(count: u64, mut round: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round()?);
    }
    Ok(best.as_secs_f64() * 1e6 / count as f64)
}

/// How long something takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// A system call of a traced process on the tracer's CPU, for which the tracer reads all registers and sets the result.
fn stop() -> Result<f64> {
    // SAFETY: this process has one thread, and the child only traps and calls.
    let child = match unsafe { fork()? } {
        ForkResult::Child => {
            if ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP)).is_err() {
                // SAFETY: ends the child, whose parent then finds nobody to trace.
                unsafe { libc::_exit(1) };
            }
            loop {
                // SAFETY: a call without arguments.
                unsafe { libc::getppid() };
            }
        }
        ForkResult::Parent { child } => child,
    };
    waitpid(child, None)?;
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL)?;
    let result = measure(u64::from(REPETITIONS), || {
        timed(|| {
            for _ in 0..REPETITIONS {
                ptrace::sysemu(child, None)?;
                waitpid(child, None)?;
                let mut registers = ptrace::getregs(child)?;
                registers.rax = 1;
                ptrace::setregs(child, registers)?;
            }
            Ok(())
        })
    });
    ptrace::kill(child)?;
    waitpid(child, None)?;
    result
}

fn main() -> ExitCode {
    match measure_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measuring the host: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints all figures.
fn measure_all() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    println!("{:6.2} µs  a stop of a traced process", stop()?);

    let mut bare = Bare::new().map_err(|e| format!("a virtual machine cannot be made by /dev/kvm: {e}"))?;
    bare.start(&LEAVE)?;
    let exit = measure(u64::from(REPETITIONS), || timed(|| (0..REPETITIONS).try_for_each(|_| bare.run())))?;
    println!("{exit:6.2} µs  an exit of a virtual machine");

    let native = measure(TOUCHED, || {
        bare.drop_data()?;
        timed(|| {
            bare.touch_data();
            Ok(())
        })
    })?;
    println!("{native:6.2} µs  the first store to a page of shared memory");
    for (present, what) in [(false, "by a guest"), (true, "by a guest, where the host has it already")] {
        let touch = measure(TOUCHED, || {
            bare.drop_data()?;
            if present {
                bare.touch_data();
            }
            bare.start(&TOUCH)?;
            timed(|| bare.run())
        })?;
        println!("{:6.2} µs  the same {what}", touch - exit / TOUCHED as f64);
    }
    Ok(())
}
