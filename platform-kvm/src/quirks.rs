//! Detects the two kinds of KVM hosts by their behaviour.
//!
//! With VT-x or SVM, `syscall` enters ring 0, and the processor walks the guest's page tables. (Without nested paging,
//! the host walks them and caches the result.) KVM in software runs ring 3 natively and interprets ring 0. There
//! `syscall` changes RCX, R11 and RIP, but stays in ring 3. So its entry point is a page of user code, the trampoline,
//! which exits by an `out` that the TSS permits; to return, the sentry sets the registers. Ring 0 is entered for faults
//! only, and `int 0x80` is an invalid opcode.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use amber_platform::{
    Access, AddressSpace, Breakpoint, Context, DebugRegisters, PAGE_SIZE, PlatformError, Protection, Registers, Trap,
    Watch,
};
use parking_lot::Mutex;

use crate::context::KvmContext;
use crate::layout::{ADDRESS_LIMIT, AREAS};
use crate::{Shared, platform_error};

/// How the KVM of this host differs from hardware virtualisation with nested paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostQuirks {
    /// `syscall` jumps to its entry point, but not to ring 0.
    pub syscall_stays_in_ring_3: bool,
    /// The host caches page tables, whatever the vCPUs flush, until it is made to invalidate its copies.
    pub host_caches_tables: bool,
    /// User code can set PKRU, regardless of `cpuid` and CR4. Detected only if `syscall` stays in ring 3.
    pub users_set_keys: bool,
}

/// The quirks detected so far.
#[derive(Debug, Default)]
pub(crate) struct Detected {
    /// See [`HostQuirks::syscall_stays_in_ring_3`].
    stays: AtomicBool,
    /// See [`HostQuirks::host_caches_tables`].
    caches: AtomicBool,
    /// See [`HostQuirks::users_set_keys`].
    keys: AtomicBool,
    /// See [`has_breakpoints`].
    breakpoints: Mutex<Option<bool>>,
}

impl Detected {
    /// The quirks detected so far.
    pub(crate) fn get(&self) -> HostQuirks {
        HostQuirks {
            syscall_stays_in_ring_3: self.stays.load(Ordering::Relaxed),
            host_caches_tables: self.caches.load(Ordering::Relaxed),
            users_set_keys: self.keys.load(Ordering::Relaxed),
        }
    }
}

/// `syscall`, and a jump back to it.
const CALL: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];
/// `mov rax, [rdi]`, `syscall`, and a jump back.
const READ_AND_CALL: [u8; 7] = [0x48, 0x8b, 0x07, 0x0f, 0x05, 0xeb, 0xf9];
/// `xor ecx, ecx`, `rdpkru`, `syscall`.
const READ_KEYS: [u8; 7] = [0x31, 0xc9, 0x0f, 0x01, 0xee, 0x0f, 0x05];
/// `int n`.
const INTERRUPT: u8 = 0xcd;

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;

/// The cause of an invalid-opcode exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidOpcode {
    /// `int 0x80`, the i386 system call.
    Int80,
    /// Another software interrupt, which user code may not raise.
    SoftwareInterrupt,
    /// An invalid instruction.
    Undefined,
}

/// Classifies an invalid-opcode exception by the first `bytes` of the instruction.
pub(crate) fn classify_invalid_opcode(quirks: HostQuirks, bytes: [u8; 2]) -> InvalidOpcode {
    match bytes {
        _ if !quirks.syscall_stays_in_ring_3 => InvalidOpcode::Undefined,
        [INTERRUPT, 0x80] => InvalidOpcode::Int80,
        [INTERRUPT, _] => InvalidOpcode::SoftwareInterrupt,
        _ => InvalidOpcode::Undefined,
    }
}

/// Detects the quirks of this host by running small guests. This is also the self-test of the machine.
///
/// # Errors
/// The machine does not do what a guest needs; the text says what it did.
pub(crate) fn detect(shared: &std::sync::Arc<Shared>) -> Result<HostQuirks, PlatformError> {
    let machine = &shared.machine;
    let memory = machine.memory();
    let short = |_| platform_error("no guest memory for a self-test", ErrorKind::OutOfMemory);
    let frames = memory.allocate(3 * PAGE_SIZE, PAGE_SIZE).map_err(short)?;
    let page = |i: u64| amber_platform::FrameRange { start: frames.range().start + i * PAGE_SIZE, len: PAGE_SIZE };
    let readable = Protection { read: true, write: false, execute: true };
    let prepare = |code: &[u8]| -> Result<_, PlatformError> {
        memory.write(page(0).start, code);
        let space = shared.new_space()?;
        space.map(CODE, page(0), readable);
        Ok((space, Registers { rdi: DATA, ..Registers::for_program(CODE, CODE) }))
    };
    let mut context = KvmContext::new(shared.clone());

    let (space, mut registers) = prepare(&CALL)?;
    match context.run(&space, &mut registers)? {
        Trap::Syscall => {}
        Trap::PageFault { address, access: Access::Execute } if address >= AREAS && registers.rcx == CODE + 2 => {
            machine.detected.stays.store(true, Ordering::Relaxed);
            shared.pool.set_syscall_entries()?;
        }
        trap => return Err(failed(&trap, &registers)),
    }

    let (space, mut registers) = prepare(&READ_AND_CALL)?;
    let mut seen = [0; 2];
    for (seen, i) in seen.iter_mut().zip(1..) {
        memory.write(page(i).start, &i.to_le_bytes());
        space.map(DATA, page(i), readable);
        let trap = context.run(&space, &mut registers)?;
        if trap != Trap::Syscall {
            return Err(failed(&trap, &registers));
        }
        *seen = registers.orig_rax;
    }
    match seen {
        [1, 2] if !machine.quirks().syscall_stays_in_ring_3 => machine.tables().set_host_caches_tables(false),
        [1, 1 | 2] => machine.detected.caches.store(true, Ordering::Relaxed),
        _ => {
            let text = format!("self-test: a guest reads {seen:?} where there are 1 and 2; use --platform ptrace");
            return Err(platform_error(text, ErrorKind::Unsupported));
        }
    }
    if machine.quirks().syscall_stays_in_ring_3 {
        let (space, mut registers) = prepare(&READ_KEYS)?;
        if context.run(&space, &mut registers)? == Trap::Syscall {
            machine.detected.keys.store(true, Ordering::Relaxed);
            if !shared.pool.keeps_keys() {
                let text =
                    "self-test: guests can set protection keys that the host does not keep; use --platform ptrace";
                return Err(platform_error(text, ErrorKind::Unsupported));
            }
        }
    }
    Ok(machine.quirks())
}

/// Whether breakpoints work in guests, detected on first use. KVM in software may ignore them.
///
/// # Errors
/// The test guest cannot run.
pub(crate) fn has_breakpoints(shared: &std::sync::Arc<Shared>) -> Result<bool, PlatformError> {
    let mut known = shared.machine.detected.breakpoints.lock();
    if let Some(known) = *known {
        return Ok(known);
    }
    let memory = shared.machine.memory();
    let short = |_| platform_error("no guest memory for a self-test", ErrorKind::OutOfMemory);
    let frames = memory.allocate(PAGE_SIZE, PAGE_SIZE).map_err(short)?;
    memory.write(frames.range().start, &CALL);
    let space = shared.new_space()?;
    space.map(CODE, frames.range(), Protection { read: true, write: false, execute: true });
    let breakpoint = Breakpoint { address: CODE, len: 1, watch: Watch::Execute };
    let mut context = KvmContext::new(shared.clone());
    context.try_breakpoints(
        &DebugRegisters::of(&[breakpoint], ADDRESS_LIMIT).map_err(|e| platform_error("self-test", e))?,
    );
    let trap = context.run(&space, &mut Registers::for_program(CODE, CODE))?;
    Ok(*known.insert(matches!(trap, Trap::Exception { signal: libc::SIGTRAP, .. })))
}

fn failed(trap: &Trap, registers: &Registers) -> PlatformError {
    log::info!("self-test: {registers:x?}");
    platform_error(
        format_args!("self-test: a system call came out as {trap:x?}; use --platform ptrace"),
        ErrorKind::Unsupported,
    )
}
