//! A vCPU: its setup, the transfer of guest registers, and its execution.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use amber_platform::{DebugRegisters, MAX_CONSTANT_RESULTS, PAGE_SIZE, PlatformError, Reason, Registers, processor};
use kvm_bindings::{
    KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, Msrs, kvm_debugregs, kvm_device_attr, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_sregs, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use parking_lot::Mutex;

use crate::answers::{Answer, pairs};
use crate::context_handle::ContextHandle;
use crate::cpuid::Features;
use crate::layout::{ADDRESS_LIMIT, AREA_BYTES, AREAS, GDT, IDT, PORT, TRAMPOLINE, code, data, selector};
use crate::machine::Machine;
use crate::platform_error;
use crate::segments::{code_segment, data_segment};
use crate::space::TopLevelTable;
use crate::table_allocator::Table;

/// Paging, write protection in ring 0, alignment checks, the FPU with native errors, protected mode.
const CR0: u64 = 0x8005_0033;
/// `syscall` enabled, long mode enabled and active, no-execute enabled.
const EFER: u64 = 0xd01;
/// `_IOW(KVMIO, 0xe1, struct kvm_device_attr)` of `linux/kvm.h`.
const KVM_SET_DEVICE_ATTR: libc::c_ulong = 0x4018_aee1;
const MSR_TSC: u32 = 0x10;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SFMASK: u32 = 0xc000_0084;
/// Flags that `syscall` clears: trap, interrupt, direction, I/O privilege, nested task, alignment check.
const ENTRY_FLAGS: u64 = 0x4_7700;
/// Maximum number of attempts to complete one access to a port.
const MAX_PORT_ACCESSES: u32 = 64;
/// RFLAGS in ring 0.
const KERNEL_FLAGS: u64 = 2;
/// RFLAGS bits that user code may change, and those that are always set there.
const USER_FLAGS: u64 = 0x25_4dd5;
const FIXED_FLAGS: u64 = 0x202;

/// DR6 without a cause, its single-step bit, and DR7 without breakpoints.
const NO_STATUS: u64 = 0xffff_0ff0;
const SINGLE_STEP: u64 = 1 << 14;
const FIXED_CONTROL: u64 = 0x400;
/// `si_code` of SIGTRAP: `int3` or `icebp`, a single step, a debug register.
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const TRAP_HWBKPT: i32 = 4;
/// Trap flag and resume flag. `sysretq` must not be used to return with either of them.
pub(crate) const STEPPING: u64 = 0x100 | RESUME;
/// Suppresses instruction breakpoints for the next instruction.
const RESUME: u64 = 1 << 16;

/// Exit reason for a failure of KVM itself.
const INTERNAL_ERROR: &str = "KVM_EXIT_INTERNAL_ERROR";

/// The data of an exit for `in` or `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortAccess {
    /// The port number.
    pub port: u16,
    /// The number of bytes written; 0 for `in`.
    pub out: usize,
}

/// Why a vCPU stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitReason {
    /// `hlt`, in the stub.
    Halted,
    /// `in` or `out`.
    Port(PortAccess),
    /// A signal for the thread.
    Kicked,
    /// A signal, while an exception was being delivered. The host completes the delivery in the next run, whichever
    /// guest that is.
    KickedInException,
}

/// RFLAGS of user code, restricted to the bits that user code can change.
pub(crate) fn user_flags(flags: u64) -> u64 {
    flags & USER_FLAGS | FIXED_FLAGS
}

/// Describes an exit that the platform cannot handle.
fn describe_exit(exit: &VcpuExit) -> String {
    match exit {
        VcpuExit::Shutdown => "a triple fault: no exception could be delivered".to_owned(),
        VcpuExit::InternalError => INTERNAL_ERROR.to_owned(),
        VcpuExit::FailEntry(reason, cpu) => {
            format!("host CPU {cpu} rejects the guest state: hardware reason {reason:#x}")
        }
        VcpuExit::MmioRead(address, _) | VcpuExit::MmioWrite(address, _) => {
            format!("an access to guest-physical address {address:#x}, which is not mapped")
        }
        other => format!("unexpected exit: {other:?}"),
    }
}

/// A vCPU.
pub(crate) struct Vcpu {
    immediate_exit: *const AtomicU8,
    /// The context whose state the vCPU holds.
    pub owner: Mutex<Option<Arc<ContextHandle>>>,
    /// Thread ID of the host thread that ran it last. A change of thread is slow on the host.
    pub thread: AtomicI32,
    /// Whether its context has not run on it yet; until then it must not be taken away.
    pub reserved: AtomicBool,
    /// Whether it stopped for a reason that leaves its state unknown, so that it must not be used again.
    pub broken: AtomicBool,
    /// Locked while the vCPU runs.
    pub core: Mutex<Core>,
}

// SAFETY: the pointer is into the area shared with the host, which is mapped as long as the core's descriptor lives, and
// is used as an atomic.
unsafe impl Send for Vcpu {}
// SAFETY: as above.
unsafe impl Sync for Vcpu {}

/// The part of a vCPU that only the thread running it uses.
pub(crate) struct Core {
    machine: Arc<Machine>,
    index: u64,
    data: Table,
    /// The KVM vCPU.
    pub fd: VcpuFd,
    /// The loaded page tables, and the TLB generation at the last flush.
    root: Arc<TopLevelTable>,
    tlb_generation: u64,
    /// Previous page tables, which may be loaded until the stub has run.
    old_roots: Vec<Arc<TopLevelTable>>,
    breakpoints: DebugRegisters,
    /// Mask of the breakpoints that caused the last debug exception.
    hit: u8,
    /// The guest's registers at the last start.
    started: Registers,
}

impl Vcpu {
    /// Creates vCPU `index` with the page tables at `root`.
    ///
    /// # Errors
    /// The host cannot create it, or refuses its configuration.
    pub(crate) fn new(
        machine: &Arc<Machine>,
        features: &Features,
        index: u64,
        root: &Arc<TopLevelTable>,
    ) -> Result<Vcpu, PlatformError> {
        let mut fd =
            machine.vm().create_vcpu(index).map_err(|e| platform_error(format_args!("creating vCPU {index}"), e))?;
        let data = machine.new_area(index)?;
        let immediate_exit = (&raw mut fd.get_kvm_run().immediate_exit).cast::<AtomicU8>().cast_const();
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        fd.set_cpuid2(&features.cpuid).map_err(|e| platform_error("KVM_SET_CPUID2", e))?;
        if let Some(value) = features.xcr0 {
            let mut registers = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
            registers.xcrs[0] = kvm_xcr { xcr: 0, value, ..kvm_xcr::default() };
            fd.set_xcrs(&registers).map_err(|e| platform_error("setting XCR0", e))?;
        }
        let mut core = Core {
            machine: machine.clone(),
            index,
            data,
            fd,
            root: root.clone(),
            tlb_generation: u64::MAX,
            old_roots: Vec::new(),
            breakpoints: DebugRegisters::default(),
            hit: 0,
            started: Registers::default(),
        };
        core.set_system(features)?;
        core.set_syscall_entry()?;
        core.set_clock()?;
        Ok(Vcpu {
            immediate_exit,
            owner: Mutex::new(None),
            thread: AtomicI32::new(0),
            reserved: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            core: Mutex::new(core),
        })
    }

    /// Whether it holds the state of the context with this handle.
    pub(crate) fn belongs_to(&self, handle: &Arc<ContextHandle>) -> bool {
        handle.is(self.owner.lock().as_ref())
    }

    /// If not zero, `KVM_RUN` returns at once.
    pub(crate) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: see above.
        unsafe { &*self.immediate_exit }
    }
}

impl Core {
    fn area(&self) -> u64 {
        AREAS + self.index * AREA_BYTES
    }

    /// Address of a place in the data page.
    fn data_address(&self, offset: u64) -> u64 {
        self.area() + PAGE_SIZE + offset
    }

    /// A word of the data page, if `address` is in it.
    pub(crate) fn data_word(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.data_address(0)).filter(|offset| offset + 8 <= PAGE_SIZE)?;
        Some(self.machine.tables().word(self.data, offset).load(Ordering::SeqCst))
    }

    fn set_word(&self, offset: u64, value: u64) {
        self.machine.tables().word(self.data, offset).store(value, Ordering::SeqCst);
    }

    fn set_system(&mut self, features: &Features) -> Result<(), PlatformError> {
        let mut s = self.fd.get_sregs().map_err(|e| platform_error("reading system registers", e))?;
        (s.cr0, s.cr3, s.cr4, s.efer) = (CR0, self.root.address(), features.cr4, EFER);
        s.cs = code_segment(selector::USER_CODE);
        s.ss = data_segment(selector::USER_DATA, 0);
        (s.ds, s.es, s.fs, s.gs) = (data_segment(0, 0), data_segment(0, 0), data_segment(0, 0), data_segment(0, 0));
        (s.gdt.base, s.gdt.limit) = (GDT, 0x7f);
        (s.idt.base, s.idt.limit) = (IDT, 0x80 * 16 + 15);
        // No LDT. After reset, a vCPU has one at address 0.
        s.ldt = kvm_segment { unusable: 1, type_: 2, ..kvm_segment::default() };
        s.tr = kvm_segment {
            base: self.data_address(data::TSS),
            limit: data::TSS_LIMIT,
            selector: selector::TASK,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        self.fd.set_sregs(&s).map_err(|e| platform_error("setting system registers", e))?;
        self.fd.sync_regs_mut().sregs = s;
        // The ring-0 stacks: RSP0 and IST1 of the TSS.
        let mut segment = [0u8; 0x70];
        segment[4..12].copy_from_slice(&self.data_address(data::STACK).to_le_bytes());
        segment[0x24..0x2c].copy_from_slice(&self.data_address(data::URGENT_STACK).to_le_bytes());
        // The I/O permission bitmap: it allows one port, if the bitmap is enabled below.
        let place = 0x68 + usize::from(PORT) / 8;
        segment[0x68..].fill(0xff);
        segment[place] = !(1 << (PORT % 8));
        for (i, word) in segment.chunks_exact(8).enumerate() {
            let word = word.try_into().expect("chunks of eight bytes");
            self.set_word(data::TSS + i as u64 * 8, u64::from_le_bytes(word));
        }
        Ok(())
    }

    /// Sets the entry points of `syscall`.
    ///
    /// # Errors
    /// The host refuses the MSRs.
    pub(crate) fn set_syscall_entry(&mut self) -> Result<(), PlatformError> {
        let stays = self.machine.quirks().syscall_stays_in_ring_3;
        let entry = if stays { TRAMPOLINE + code::TRAMPOLINE } else { self.area() + code::SYSCALL };
        let entries = [
            (MSR_STAR, u64::from(selector::USER_CODE32) << 48 | u64::from(selector::KERNEL_CODE) << 32),
            (MSR_LSTAR, entry),
            (MSR_CSTAR, self.area() + code::SYSCALL32),
            (MSR_SFMASK, if stays { 0 } else { ENTRY_FLAGS }),
        ];
        self.set_msrs(&entries)?;
        // The base of the I/O permission bitmap. Beyond the TSS limit, no port is allowed.
        let base: u64 = if stays { 0x68 } else { 0xffff };
        self.set_word(data::TSS + 0x60, base << 48);
        Ok(())
    }

    fn set_msrs(&self, entries: &[(u32, u64)]) -> Result<(), PlatformError> {
        let entries: Vec<kvm_msr_entry> =
            entries.iter().map(|&(index, data)| kvm_msr_entry { index, data, ..kvm_msr_entry::default() }).collect();
        let msrs = Msrs::from_entries(&entries).expect("a few registers");
        let set = self.fd.set_msrs(&msrs).map_err(|e| platform_error("setting model-specific registers", e))?;
        if set != entries.len() {
            let text = format!("model-specific register {:#x} is rejected", entries[set].index);
            return Err(platform_error(text, std::io::ErrorKind::Unsupported));
        }
        Ok(())
    }

    /// Makes the guest's TSC equal to the host's.
    fn set_clock(&self) -> Result<(), PlatformError> {
        let offset = 0u64;
        let attribute = kvm_device_attr {
            group: KVM_VCPU_TSC_CTRL,
            attr: u64::from(KVM_VCPU_TSC_OFFSET),
            addr: &raw const offset as u64,
            flags: 0,
        };
        // SAFETY: the attribute and the offset it names live until the call returns.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_SET_DEVICE_ATTR, &raw const attribute) } == 0 {
            return Ok(());
        }
        // Before Linux 5.16: a write sets the TSC approximately, and KVM synchronises later vCPUs with the first one.
        self.set_msrs(&[(MSR_TSC, processor::time_stamp())])
    }

    /// The registers as of the last exit.
    pub(crate) fn state(&mut self) -> (&kvm_regs, &kvm_sregs) {
        let state = self.fd.sync_regs_mut();
        (&state.regs, &state.sregs)
    }

    /// Sets the registers for the next run, which must be loadable, and the page tables `root` in TLB generation
    /// `change`.
    pub(crate) fn load(&mut self, r: &Registers, root: &Arc<TopLevelTable>, change: u64) {
        let other_root = !Arc::ptr_eq(&self.root, root);
        let switch = other_root || self.tlb_generation < change;
        let stays = self.machine.quirks().syscall_stays_in_ring_3;
        let flags = user_flags(r.eflags);
        let sregs = self.fd.sync_regs_mut().sregs;
        let in_ring_3 = sregs.cs.selector & 3 == 3;
        let mut system = sregs;
        if (sregs.fs.base, sregs.gs.base) != (r.fs_base, r.gs_base)
            || [sregs.ds, sregs.es, sregs.fs, sregs.gs].map(|s| u64::from(s.selector)) != [r.ds, r.es, r.fs, r.gs]
        {
            system.ds = data_segment(r.ds as u16, 0);
            system.es = data_segment(r.es as u16, 0);
            system.fs = data_segment(r.fs as u16, r.fs_base);
            system.gs = data_segment(r.gs as u16, r.gs_base);
        }
        let mut regs = kvm_regs {
            rax: r.rax,
            rbx: r.rbx,
            rcx: r.rcx,
            rdx: r.rdx,
            rsi: r.rsi,
            rdi: r.rdi,
            rsp: r.rsp,
            rbp: r.rbp,
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rip: r.rip,
            rflags: flags,
        };
        let same_segments = (u64::from(sregs.cs.selector), u64::from(sregs.ss.selector)) == (r.cs, r.ss);
        if stays || in_ring_3 && !switch && same_segments {
            // Enter ring 3 directly.
            if !same_segments {
                system.cs = code_segment(r.cs as u16);
                system.ss = data_segment(r.ss as u16, 0);
            }
            system.cr3 = root.address();
        } else {
            if in_ring_3 {
                system.cs = code_segment(selector::KERNEL_CODE);
                system.ss = data_segment(selector::KERNEL_DATA, 0);
            }
            regs.rflags = KERNEL_FLAGS;
            if !switch
                && r.rcx == r.rip
                && r.r11 == flags
                && flags & STEPPING == 0
                && r.cs == u64::from(selector::USER_CODE)
                && r.rip < ADDRESS_LIMIT
            {
                regs.rip = self.area() + code::SYSRET;
            } else {
                for (i, word) in [r.rip, r.cs, flags, r.rsp, r.ss].into_iter().enumerate() {
                    self.set_word(data::FRAME + i as u64 * 8, word);
                }
                regs.rip = self.area() + code::IRET;
                regs.rsp = self.data_address(data::FRAME);
                if switch {
                    self.set_word(data::FRAME - 8, r.rax);
                    regs.rax = root.address();
                    regs.rip = self.area() + code::SWITCH;
                    regs.rsp -= 8;
                }
            }
        }
        if other_root {
            self.old_roots.push(std::mem::replace(&mut self.root, root.clone()));
        }
        self.tlb_generation = change;
        self.started = *r;
        let state = self.fd.sync_regs_mut();
        state.regs = regs;
        let changed = state.sregs != system;
        state.sregs = system;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        if changed {
            self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        }
    }

    /// Sets the breakpoints if they have changed.
    ///
    /// # Errors
    /// The host refuses the registers.
    pub(crate) fn set_breakpoints(&mut self, breakpoints: &DebugRegisters) -> Result<(), PlatformError> {
        if self.breakpoints != *breakpoints {
            self.write_breakpoints(breakpoints)?;
            self.breakpoints = *breakpoints;
        }
        Ok(())
    }

    /// Writes the debug registers and clears the status.
    fn write_breakpoints(&self, breakpoints: &DebugRegisters) -> Result<(), PlatformError> {
        let DebugRegisters { addresses, control } = *breakpoints;
        let registers =
            kvm_debugregs { db: addresses, dr6: NO_STATUS, dr7: FIXED_CONTROL | control, ..kvm_debugregs::default() };
        self.fd.set_debug_regs(&registers).map_err(|e| platform_error("setting breakpoints", e))
    }

    /// Returns the `si_code` of SIGTRAP for a debug exception, and records which breakpoints caused it. If one of them
    /// is at the next instruction, sets the resume flag in `r`, which not every processor does.
    ///
    /// # Errors
    /// The host does not return the debug registers.
    pub(crate) fn debug_cause(&mut self, r: &mut Registers) -> Result<i32, PlatformError> {
        let status = self.fd.get_debug_regs().map_err(|e| platform_error("reading debug registers", e))?.dr6;
        self.write_breakpoints(&self.breakpoints)?;
        self.hit = self.breakpoints.hits(status);
        if self.hit & self.breakpoints.instructions_at(r.rip) != 0 {
            r.eflags |= RESUME;
        }
        Ok(match status & SINGLE_STEP {
            0 if self.hit != 0 => TRAP_HWBKPT,
            0 => TRAP_BRKPT,
            _ => TRAP_TRACE,
        })
    }

    /// Takes the mask of breakpoints that ended the last run.
    pub(crate) fn take_hit(&mut self) -> u8 {
        std::mem::take(&mut self.hit)
    }

    /// Continues in ring 0 where it was interrupted.
    pub(crate) fn resume_at(&mut self, rip: u64, flags: u64, rsp: u64) {
        let regs = &mut self.fd.sync_regs_mut().regs;
        (regs.rip, regs.rflags, regs.rsp) = (rip, flags, rsp);
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Sets the constant results that the stub returns.
    pub(crate) fn set_answers(&mut self, answers: &[Answer]) {
        for (i, (number, result)) in (0..).zip(pairs::<MAX_CONSTANT_RESULTS>(answers)) {
            self.set_word(data::ANSWERS + i * 16, number);
            self.set_word(data::ANSWERS + i * 16 + 8, result);
        }
    }

    /// Completes an access to a port that the guest must not have. Otherwise the host would complete it in the next
    /// run, on the registers and the memory of the guest that runs then.
    ///
    /// # Errors
    /// It does not complete, as may happen with a repeated instruction.
    pub(crate) fn finish_port_access(&mut self) -> Result<(), PlatformError> {
        for _ in 0..MAX_PORT_ACCESSES {
            self.fd.set_kvm_immediate_exit(1);
            let result = self.fd.run().map(|exit| matches!(exit, VcpuExit::Intr));
            self.fd.set_kvm_immediate_exit(0);
            match result {
                Ok(false) => (),
                Ok(true) => return Ok(()),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Ok(()),
                Err(error) => return Err(platform_error("completing a port access", error)),
            }
        }
        Err(platform_error("a guest's port access does not complete", std::io::ErrorKind::TimedOut))
    }

    /// Forces a TLB flush before the next run, because the vCPU may not have reached the last one.
    pub(crate) fn reset_tlb_generation(&mut self) {
        self.tlb_generation = 0;
    }

    /// Runs the vCPU until it exits.
    ///
    /// # Errors
    /// The vCPU cannot continue. Its registers are in the log.
    pub(crate) fn run(&mut self) -> Result<ExitReason, PlatformError> {
        let exit = match self.fd.run() {
            Ok(VcpuExit::Intr) => return self.kicked(),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return self.kicked(),
            Ok(VcpuExit::Hlt) => Ok(ExitReason::Halted),
            Ok(VcpuExit::IoOut(port, data)) => Ok(ExitReason::Port(PortAccess { port, out: data.len() })),
            Ok(VcpuExit::IoIn(port, _)) => Ok(ExitReason::Port(PortAccess { port, out: 0 })),
            Ok(other) => Err((describe_exit(&other), std::io::Error::from(std::io::ErrorKind::Other))),
            Err(error) => Err(("KVM_RUN".to_owned(), error.into())),
        };
        self.drop_old_roots();
        exit.map_err(|(mut what, error)| {
            if what == INTERNAL_ERROR {
                what += &self.internal_error();
            }
            self.machine.counters.count(Reason::Other);
            self.log_registers();
            platform_error(format_args!("vCPU {}: {what}", self.index), error)
        })
    }

    /// Describes a `KVM_EXIT_INTERNAL_ERROR`.
    fn internal_error(&mut self) -> String {
        // SAFETY: the last exit was an internal error, for which this part of the union is filled; it is all integers.
        let error = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        let kind = match error.suberror {
            1 => "an instruction it cannot emulate",
            2 => "an exception while another was delivered",
            3 => "an exit while an exception was delivered",
            4 => "an unexpected exit reason",
            _ => "unknown",
        };
        let data: Vec<u64> = error.data.iter().copied().take(error.ndata as usize).collect();
        format!(" {} ({kind}), {data:x?}", error.suberror)
    }

    /// After a signal: determines whether an exception was being delivered.
    fn kicked(&mut self) -> Result<ExitReason, PlatformError> {
        self.drop_old_roots();
        let events = self.fd.get_vcpu_events().map_err(|e| platform_error("KVM_GET_VCPU_EVENTS", e))?;
        Ok(if events.exception.injected == 0 { ExitReason::Kicked } else { ExitReason::KickedInException })
    }

    /// Drops the previous page tables if they are no longer loaded.
    fn drop_old_roots(&mut self) {
        if !self.old_roots.is_empty() && self.fd.sync_regs_mut().sregs.cr3 == self.root.address() {
            self.old_roots.clear();
        }
    }

    /// Logs the registers: those the guest was started with, since some hosts reset a vCPU that has failed, and the
    /// current ones. The ring-0 stacks show the last exceptions, and the `iretq` frame where the guest was to continue.
    fn log_registers(&self) {
        let started = &self.started;
        log::error!("vCPU {} started with {started:x?}", self.index);
        match (self.fd.get_regs(), self.fd.get_sregs()) {
            (Ok(regs), Ok(sregs)) => log::error!("vCPU {} has {regs:x?} {sregs:x?}", self.index),
            (Err(error), _) | (_, Err(error)) => log::error!("vCPU {}: no registers: {error}", self.index),
        }
        let words = |from: u64, to: u64| -> Vec<u64> {
            (from..to).step_by(8).map(|at| self.machine.tables().word(self.data, at).load(Ordering::SeqCst)).collect()
        };
        let stack = words(data::STACK - 48, data::STACK);
        let urgent = words(data::URGENT_STACK - 48, data::URGENT_STACK);
        let frame = words(data::FRAME - 8, data::FRAME + 40);
        log::error!("vCPU {}: stack {stack:x?}, urgent {urgent:x?}, frame {frame:x?}", self.index);
    }
}
