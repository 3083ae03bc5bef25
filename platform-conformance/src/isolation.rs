//! Attacks by a hostile guest.

use amber_platform::{PAGE_SIZE, Trap};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine};

/// Addresses of the kernel half, and non-canonical ones.
const BEYOND: [u64; 11] = [
    0x7fff_ffff_f000,
    0x7fff_ffff_f800,
    0x8000_0000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_8000_1000,
    0xffff_ffff_8000_2000,
    0xffff_ffff_8001_0000,
    0xffff_ffff_8001_1800,
    0xffff_ffff_ffff_f000,
    u64::MAX - 7,
];

/// Privileged and invalid instructions.
const PRIVILEGED: [&[u8]; 24] = [
    &[0xf4],                   // hlt
    &[0xfa],                   // cli
    &[0xfb],                   // sti
    &[0xec],                   // in al, dx
    &[0xee],                   // out dx, al
    &[0xe4, 0x80],             // in al, 0x80
    &[0xe7, 0x10],             // out 0x10, eax
    &[0xe6, 0x10],             // out 0x10, al
    &[0xe7, 0x80],             // out 0x80, eax
    &[0x6e],                   // outsb
    &[0x0f, 0x06],             // clts
    &[0x0f, 0x09],             // wbinvd
    &[0x0f, 0x30],             // wrmsr
    &[0x0f, 0x32],             // rdmsr
    &[0x0f, 0x01, 0xf8],       // swapgs
    &[0x48, 0x0f, 0x07],       // sysretq
    &[0x0f, 0x22, 0xd8],       // mov cr3, rax
    &[0x0f, 0x20, 0xc0],       // mov rax, cr0
    &[0x0f, 0x23, 0xf8],       // mov dr7, rax
    &[0x0f, 0x01, 0x3c, 0x24], // invlpg [rsp]
    &[0x0f, 0x01, 0x14, 0x24], // lgdt [rsp]
    &[0x0f, 0x01, 0x1c, 0x24], // lidt [rsp]
    &[0x0f, 0x00, 0xd8],       // ltr ax
    &[0xcd, 0x0e],             // int 14
];

/// Accesses to the ports around one that a platform might use for exits, in every form: by immediate or by register, in
/// or out, single or repeated.
const PORT: u64 = 0x10;
const PORT_ACCESSES: [&[u8]; 16] = [
    &[0xe6, 0x10],       // out 0x10, al
    &[0xe7, 0x10],       // out 0x10, eax
    &[0x66, 0xe7, 0x10], // out 0x10, ax
    &[0xe6, 0x12],       // out 0x12, al
    &[0xe4, 0x10],       // in al, 0x10
    &[0xe5, 0x10],       // in eax, 0x10
    &[0xe4, 0x13],       // in al, 0x13
    &[0xee],             // out dx, al
    &[0xef],             // out dx, eax
    &[0xec],             // in al, dx
    &[0xed],             // in eax, dx
    &[0x6e],             // outsb
    &[0xf3, 0x6e],       // rep outsb
    &[0x6c],             // insb
    &[0xf3, 0x6c],       // rep insb
    &[0xf3, 0x6d],       // rep insd
];
/// `si_code` of a signal from the kernel without a particular cause.
const SI_KERNEL: i32 = 0x80;
/// The resume flag, which faults may leave set.
const RESUME: u64 = 1 << 16;

/// Whether a trap is a signal to the guest for its own fault.
fn is_own_fault(trap: &Trap) -> bool {
    match trap {
        Trap::PageFault { .. } => true,
        Trap::Exception { signal, .. } => [libc::SIGSEGV, libc::SIGILL, libc::SIGBUS].contains(signal),
        _ => false,
    }
}

fn is_alive(guest: &mut Guest<'_>) {
    guest.load(code::nothing());
    guest.run_to_call();
}

/// Reads, writes and jumps beyond the address limit.
pub fn the_kernel_half_is_out_of_reach(machine: &Machine) {
    let mut guest = Guest::new(machine, code::nothing());
    let good = guest.registers;
    for address in BEYOND {
        for code in [code::write_byte(), code::jump(), code::return_to(), code::read_byte()] {
            guest.registers = good;
            guest.load(code);
            guest.registers.rdi = address;
            (guest.registers.rcx, guest.registers.rax) = (CODE, 39);
            let trap = guest.run();
            let through = trap == Trap::Syscall;
            // A platform may have a page that guests can execute and read, but its code does nothing that a guest could
            // not do: it makes system calls.
            let harmless =
                through && !std::ptr::eq(code, code::write_byte()) && address >= machine.platform.address_limit();
            assert!(is_own_fault(&trap) || harmless, "{address:#x}: {trap:x?}");
            is_alive(&mut guest);
        }
        // As a signal frame may ask for it.
        guest.registers = good;
        guest.registers.rip = address;
        let trap = guest.run();
        assert!(is_own_fault(&trap) || trap == Trap::Syscall, "{address:#x}: {trap:x?}");
        guest.registers = good;
        guest.registers.rsp = address;
        guest.load(code::return_to());
        assert!(is_own_fault(&guest.run()), "{address:#x}");
        guest.registers = good;
        is_alive(&mut guest);
    }
}

/// Everything that would change the processor's state for others.
pub fn privileged_instructions_are_refused(machine: &Machine) {
    let mut guest = Guest::new(machine, code::nothing());
    let good = guest.registers;
    for bytes in PRIVILEGED {
        guest.registers = good;
        guest.load(bytes);
        guest.registers.rdx = 0x10;
        let trap = guest.run();
        assert!(is_own_fault(&trap), "{bytes:x?}: {trap:x?}");
        // The same at the end of a page; the next one is unmapped.
        guest.load(code::nothing());
        let frames = guest.add(CODE, 1, crate::guest::READ_EXECUTE);
        let place = PAGE_SIZE - bytes.len() as u64;
        machine.memory.write(frames.start + place, bytes);
        guest.registers = good;
        guest.registers.rip = CODE + place;
        let trap = guest.run();
        assert!(is_own_fault(&trap), "{bytes:x?}: {trap:x?}");
        guest.registers = good;
        is_alive(&mut guest);
    }
}

/// `popf` and segment loads: user code can set what it may set, and nothing else.
pub fn flags_and_segments_stay_a_users(machine: &Machine) {
    const ALIGNMENT: u64 = 1 << 18;
    const NESTED: u64 = 1 << 14;
    const PRIVILEGE: u64 = 3 << 12;
    const DIRECTION: u64 = 1 << 10;
    let mut guest = Guest::new(machine, code::nothing());
    let good = guest.registers;
    for flags in [ALIGNMENT, NESTED, PRIVILEGE, DIRECTION, ALIGNMENT | NESTED | PRIVILEGE | DIRECTION, 0] {
        guest.registers = good;
        guest.load(code::swap_flags());
        guest.registers.rdi = flags | 0x202;
        guest.run_to_call();
        let allowed = flags & !PRIVILEGE;
        assert_eq!(guest.registers.r8 & (ALIGNMENT | NESTED | PRIVILEGE | DIRECTION), allowed);
        assert_eq!(guest.registers.eflags & (PRIVILEGE | DIRECTION), flags & DIRECTION);
        // A guest with aligned accesses continues with these flags, and through a fault as well.
        guest.registers.rip = CODE;
        guest.run_to_call();
        guest.load(code::jump());
        guest.registers.rdi = 0x5000_0000;
        assert!(matches!(guest.run(), Trap::PageFault { .. }));
        guest.registers = good;
        is_alive(&mut guest);
    }
    for (selector, loads) in
        [(0u64, true), (3, true), (0x2b, true), (0x18, false), (0x10, false), (0x40, false), (0x1234, false)]
    {
        guest.registers = good;
        guest.load(code::load_segment());
        guest.registers.rdi = selector;
        let trap = guest.run();
        if loads {
            assert_eq!((trap, guest.registers.r8), (Trap::Syscall, selector));
            guest.registers.rip = CODE;
            guest.run_to_call();
        } else {
            assert!(
                matches!(trap, Trap::Exception { signal: libc::SIGSEGV | libc::SIGBUS, .. }),
                "{selector:#x}: {trap:?}"
            );
        }
        guest.registers = good;
        is_alive(&mut guest);
    }
}

/// Returns to ring 3 at a non-canonical address.
pub fn returns_to_nowhere_are_the_guests_own_fault(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    let good = guest.registers;
    for address in
        [0x8000_0000_0000, 0x0000_8000_0000_0001, 0xffff_7fff_ffff_ffff, 0x7fff_ffff_ffff, 0xdead_0000_0000_0000]
    {
        guest.registers = good;
        guest.run_to_call();
        // As after a system call, by the fast return path.
        (guest.registers.rip, guest.registers.rcx) = (address, address);
        guest.registers.r11 = guest.registers.eflags;
        let trap = guest.run();
        assert!(is_own_fault(&trap), "{address:#x}: {trap:x?}");
        guest.registers = good;
        is_alive(&mut guest);
        guest.load(code::call_forever());
    }
}

/// The vDSO's clocks depend on the guest's counter being the one that the sentry reads.
pub fn the_time_stamp_counter_is_the_hosts(machine: &Machine) {
    // Hosts that cannot set the counter exactly, or whose own counter is emulated, come close. A counter that starts
    // with the machine would be off by the host's uptime.
    const NEAR: u64 = 1 << 28;
    let mut guest = Guest::new(machine, code::time_stamp());
    let mut last = 0;
    for _ in 0..10 {
        guest.load(code::time_stamp());
        let before = amber_platform::processor::time_stamp();
        guest.run_to_call();
        let after = amber_platform::processor::time_stamp();
        let seen = guest.registers.r8;
        assert!(seen + NEAR >= before && seen <= after + NEAR, "{before} {seen} {after}");
        assert!(seen > last);
        last = seen;
    }
}

/// Guests have no port. The attempt changes no register, neither at once nor when this or another thread continues.
pub fn ports_are_out_of_reach(machine: &Machine) {
    for instruction in PORT_ACCESSES {
        let mut guest = Guest::new(machine, instruction);
        let r = &mut guest.registers;
        (r.rax, r.rcx, r.rdx, r.rsi) = (0x1122_3344_5566_7788, 3, PORT, DATA + 64);
        let before = guest.registers;
        let trap = Trap::Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 };
        assert_eq!(guest.run(), trap, "{instruction:x?}");
        guest.registers.eflags &= !RESUME;
        assert_eq!(guest.registers, before, "{instruction:x?}");
        guest.load(code::nothing());
        guest.run_to_call();
        let r = guest.registers;
        assert_eq!((r.orig_rax, r.rdi, r.rsi), (before.rax, before.rdi, before.rsi), "{instruction:x?}");

        guest.registers = before;
        guest.load(instruction);
        guest.registers.eflags = before.eflags;
        assert_eq!(guest.run(), trap, "{instruction:x?}");
        drop(guest);
        let mut other = Guest::new(machine, code::nothing());
        other.registers.rax = 5;
        let given = other.registers;
        other.run_to_call();
        let r = other.registers;
        assert_eq!((r.orig_rax, r.rdi, r.rsi, r.rdx), (5, given.rdi, given.rsi, given.rdx), "{instruction:x?}");
    }
}
