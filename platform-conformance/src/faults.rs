//! Traps: system calls, page faults and other exceptions.

use amber_platform::{Access, PAGE_SIZE, Registers, Trap};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine, READ, READ_EXECUTE, READ_WRITE};

/// An unmapped page.
const NOWHERE: u64 = 0x5000_0000;

/// The `syscall` instruction, with its arguments and its result.
pub fn system_calls_trap_with_their_registers(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    let r = &mut guest.registers;
    (r.rax, r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9) = (39, 1, 2, 3, 4, 5, 6);
    for i in 0..100 {
        guest.run_to_call();
        assert_eq!(guest.registers.syscall_arguments(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(guest.registers.orig_rax, 39 + i);
        assert_eq!(guest.registers.rip, CODE + 2);
        // Numbers that look to a Linux host like a call to restart are no exception.
        guest.registers.rax = if i == 50 { -512i64 as u64 } else { 40 + i };
        if i == 50 {
            guest.run_to_call();
            assert_eq!(guest.registers.orig_rax, -512i64 as u64);
            guest.registers.rax = 40 + i;
        }
    }
}

/// All registers that a guest can set.
pub fn registers_come_through_unchanged(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    let given = Registers {
        r15: 15,
        r14: 14,
        r13: 13,
        r12: 12,
        rbp: 11,
        rbx: 10,
        rsp: u64::MAX,
        fs_base: 0x1234_5678_9000,
        gs_base: 0x7fff_0000_0000,
        ..guest.registers
    };
    guest.registers = given;
    for i in 0..10 {
        guest.registers.rax = i;
        guest.run_to_call();
        // Changes of mappings must not affect the registers.
        guest.add(NOWHERE, 1, READ);
        let r = guest.registers;
        let kept = Registers { rip: r.rip, rcx: r.rcx, r11: r.r11, rax: r.rax, orig_rax: i, ..given };
        assert_eq!(r, kept);
    }
}

/// Page faults report address and access, and the guest continues when they are resolved.
pub fn page_faults_tell_address_and_access(machine: &Machine) {
    let mut guest = Guest::new(machine, code::read_byte());
    let fault = |address, access| Trap::PageFault { address, access };
    guest.registers.rdi = NOWHERE + 5;
    assert_eq!(guest.run(), fault(NOWHERE + 5, Access::Read));
    assert_eq!(guest.registers.rip, CODE);
    let frames = guest.add(NOWHERE, 1, READ);
    machine.memory.write(frames.start + 5, &[77]);
    guest.run_to_call();
    assert_eq!(guest.registers.r8, 77);

    guest.load(code::write_byte());
    guest.registers.rsi = 78;
    assert_eq!(guest.run(), fault(NOWHERE + 5, Access::Write));
    guest.space.protect(NOWHERE..NOWHERE + PAGE_SIZE, READ_WRITE);
    guest.run_to_call();
    let mut byte = [0];
    machine.memory.read(frames.start + 5, &mut byte);
    assert_eq!(byte, [78]);

    guest.load(code::jump());
    assert_eq!(guest.run(), fault(NOWHERE + 5, Access::Execute));
    guest.registers.rip = CODE;
    guest.registers.rdi = 3;
    assert_eq!(guest.run(), fault(3, Access::Execute));
    guest.registers.rip = 0xffff_ffff_8000_0000;
    assert!(matches!(guest.run(), Trap::PageFault { address: 0xffff_ffff_8000_0000, .. }));

    // An instruction that crosses into a page without execute permission.
    let two = guest.add(NOWHERE, 2, READ_EXECUTE);
    guest.space.protect(NOWHERE + PAGE_SIZE..NOWHERE + 2 * PAGE_SIZE, READ_WRITE);
    machine.memory.write(two.start + PAGE_SIZE - 1, &[0x0f, 0x05]);
    guest.registers.rip = NOWHERE + PAGE_SIZE - 1;
    assert_eq!(guest.run(), fault(NOWHERE + PAGE_SIZE, Access::Execute));
}

/// Exceptions other than page faults.
pub fn exceptions_become_signals(machine: &Machine) {
    const SI_KERNEL: i32 = 0x80;
    let cases = [
        (code::invalid(), libc::SIGILL, 2, CODE),
        (code::breakpoint(), libc::SIGTRAP, SI_KERNEL, 0),
        (code::divide(), libc::SIGFPE, 1, CODE + 8),
        (code::privileged(), libc::SIGSEGV, SI_KERNEL, 0),
        (code::not_canonical(), libc::SIGSEGV, SI_KERNEL, 0),
    ];
    let mut guest = Guest::new(machine, code::nothing());
    for (code, signal, code_of, address) in cases {
        guest.load(code);
        assert_eq!(guest.run(), Trap::Exception { signal, code: code_of, address });
    }
    // Single steps by the trap flag, in a page that was executed before: some emulated processors count the fault of
    // its first fetch as a step.
    guest.load(code::nothing());
    guest.run_to_call();
    guest.registers.rip = CODE;
    guest.registers.eflags |= 0x100;
    assert_eq!(guest.run(), Trap::Exception { signal: libc::SIGTRAP, code: 2, address: CODE + 1 });
    assert_eq!(guest.run(), Trap::Exception { signal: libc::SIGTRAP, code: 2, address: CODE + 2 });
    guest.registers.eflags &= !0x100;
    guest.run_to_call();
}

/// Selectors and addresses that the processor would not load, as a hostile signal frame may contain them.
pub fn bad_registers_are_the_guests_own_fault(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    let good = guest.registers;
    let bad = [
        Registers { cs: 0x10, ..good },
        Registers { ss: 0, ..good },
        Registers { cs: 0xffff, ..good },
        Registers { fs_base: u64::MAX, ..good },
        Registers { gs_base: 0x8000_0000_0000_0000, ..good },
        Registers { rip: 0x8000_0000_0000_0000, ..good },
    ];
    for registers in bad {
        guest.registers = registers;
        assert!(matches!(guest.run(), Trap::Exception { signal: libc::SIGSEGV, .. }), "{registers:x?}");
        guest.registers = good;
        guest.run_to_call();
    }
    // Flags that user code cannot change are ignored.
    guest.registers = Registers { eflags: !0x4_0100, ..good };
    guest.run_to_call();
}

/// The i386 system call paths.
pub fn every_way_to_call_traps(machine: &Machine) {
    let mut guest = Guest::new(machine, code::int80());
    guest.registers.rax = 20;
    for _ in 0..3 {
        assert_eq!(guest.run(), Trap::Syscall32);
        assert_eq!((guest.registers.orig_rax, guest.registers.rip), (20, CODE + 2));
        guest.registers.rax = 20;
    }

    let low = 0x4_0000;
    let frames = guest.add(low, 1, READ_EXECUTE);
    machine.memory.write(frames.start, code::int80_in_32_bits());
    let data = guest.add(DATA, 1, READ_WRITE);
    machine.memory.write(data.start, &(low as u32).to_le_bytes());
    machine.memory.write(data.start + 4, &0x23u16.to_le_bytes());
    guest.load(code::far_jump());
    guest.registers.rdi = DATA;
    assert_eq!(guest.run(), Trap::Syscall32);
    assert_eq!((guest.registers.orig_rax, guest.registers.rip, guest.registers.cs), (20, low + 7, 0x23));
}

/// The vsyscall page.
pub fn vsyscalls_trap(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_function());
    let stack = guest.registers.rsp;
    for (entry, number) in [(0, 96), (0x400, 201), (0x800, 309)] {
        guest.registers = Registers { rip: CODE, rsp: stack, rdi: 0xffff_ffff_ff60_0000 + entry, ..guest.registers };
        guest.run_to_call();
        let r = guest.registers;
        assert_eq!((r.orig_rax, r.rip, r.rsp), (number, CODE + 2, stack));
        guest.registers.rax = 4711;
        guest.run_to_call();
        assert_eq!(guest.registers.orig_rax, 4711);
    }
}

/// Above the address limit, a guest can change only what the platform validates like registers. Code there only traps.
pub fn the_platforms_own_pages_are_out_of_reach(machine: &Machine) {
    let limit = machine.platform.address_limit();
    let top = 0x7fff_ffff_f000;
    let mut guest = Guest::new(machine, code::write_byte());
    let mut other = Guest::new(machine, code::call_forever());
    for page in (limit..top).step_by(PAGE_SIZE as usize) {
        guest.load(code::write_byte());
        for byte in (0..PAGE_SIZE).step_by(8) {
            guest.registers = Registers { rip: CODE, rdi: page + byte, rsi: byte / 8 + 1, ..guest.registers };
            match guest.run() {
                Trap::PageFault { address, .. } if address == page + byte => break,
                trap => assert_eq!((trap, guest.registers.orig_rax), (Trap::Syscall, guest.registers.rax)),
            }
            other.run_to_call();
        }
        guest.load(code::jump());
        for byte in 0..PAGE_SIZE {
            let entry = page + byte;
            guest.registers = Registers { rip: entry, rax: 9, rsp: 0, rbx: 0, r15: 1, ..guest.registers };
            // At most a few instructions run before a trap.
            let interrupter = guest.context.interrupter();
            let trap = guest.run();
            assert_ne!(trap, Trap::Interrupted);
            drop(interrupter);
            if matches!(trap, Trap::PageFault { address, access: Access::Execute } if address == page) {
                break;
            }
        }
    }
    for guest in [&mut guest, &mut other] {
        guest.load(code::nothing());
        guest.run_to_call();
    }
}
