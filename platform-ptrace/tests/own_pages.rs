//! A guest can reach the pages that belong to the stub, but gains nothing from them.

use std::sync::Arc;

use amber_platform::{GuestMemory, PAGE_SIZE, Trap};
use amber_platform_conformance::{Guest, Machine, READ_WRITE, call_forever, read_byte, write_byte};
use amber_platform_ptrace::PtracePlatform;

/// Addresses of the stub's code and commands.
const STUB_CODE: u64 = 0x7fff_ffff_c000;
const STUB_COMMANDS: u64 = 0x7fff_ffff_d000;
/// The stub's descriptor of the command pages of all stubs.
const COMMAND_FD: u64 = 1;
/// Length of the longest batch here.
const COMMAND_BYTES: u64 = 20 * 56;
/// An unmapped address.
const NOWHERE: u64 = 0x5000_0000;

fn machine() -> Machine {
    let memory = GuestMemory::new(1 << 26).unwrap();
    Machine { platform: Arc::new(PtracePlatform::new(memory.clone()).unwrap()), memory }
}

#[test]
fn commands_are_gone_when_guests_run() {
    let machine = machine();
    let mut guest = Guest::new(&machine, read_byte());
    let start = guest.registers.rip;
    for changes in [1, 2, 19] {
        for i in 0..changes {
            guest.add(NOWHERE + 2 * i * PAGE_SIZE, 1, READ_WRITE);
        }
        for offset in 0..COMMAND_BYTES {
            (guest.registers.rip, guest.registers.rdi) = (start, STUB_COMMANDS + offset);
            guest.run_to_call();
            assert_eq!(guest.registers.r8, 0, "{changes} changes, byte {offset}");
        }
    }
    guest.load(write_byte());
    for page in [STUB_CODE, STUB_COMMANDS] {
        (guest.registers.rip, guest.registers.rdi) = (start, page);
        assert!(matches!(guest.run(), Trap::PageFault { address, .. } if address == page));
    }
}

/// The stub's code page may make system calls that a guest must not. A guest that jumps there makes none.
#[test]
fn stub_code_makes_no_calls_for_guests() {
    let machine = machine();
    let mut guest = Guest::new(&machine, call_forever());
    let mut traps = 0;
    for offset in 0..PAGE_SIZE {
        let r = &mut guest.registers;
        r.rip = STUB_CODE + offset;
        r.rax = libc::SYS_mmap as u64;
        (r.rdi, r.rsi, r.rdx) = (NOWHERE, PAGE_SIZE, (libc::PROT_READ | libc::PROT_WRITE) as u64);
        (r.r10, r.r8, r.r9) = ((libc::MAP_SHARED | libc::MAP_FIXED) as u64, COMMAND_FD, 0);
        (r.rbx, r.r12, r.r13, r.r14, r.r15) = (1, 0, 0, 0, 0);
        if guest.run() == Trap::Syscall {
            traps += 1;
        }
    }
    assert!(traps > 0);
    guest.load(read_byte());
    guest.registers.rdi = NOWHERE;
    assert!(matches!(guest.run(), Trap::PageFault { address: NOWHERE, .. }));
}
