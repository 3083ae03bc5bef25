//! A guest can jump into the trampoline, which some hosts need, but gains nothing except system calls.

use std::fs::File;
use std::sync::Arc;

use amber_platform::GuestMemory;
use amber_platform_conformance::{Guest, Machine, nothing};
use amber_platform_kvm::KvmPlatform;

/// The trampoline's code without its end, where a thread polls for a result: a jump there without a call polls forever.
const TRAMPOLINE: std::ops::Range<u64> = 0x7fff_ffff_f800..0x7fff_ffff_f9e4;
/// The port by which it exits.
const PORT: u64 = 0x10;

/// Jumps to every byte of it. At some of them, other instructions begin, such as accesses to a port.
#[test]
fn jumping_into_the_trampoline_changes_nothing_elsewhere() {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return;
    }
    let memory = GuestMemory::new(1 << 26).unwrap();
    let machine = Machine { platform: Arc::new(KvmPlatform::with_vcpus(memory.clone(), 1).unwrap()), memory };
    for start in TRAMPOLINE {
        let mut guest = Guest::new(&machine, nothing());
        let code = guest.registers.rip;
        let r = &mut guest.registers;
        (r.rip, r.rax, r.rcx, r.rdx, r.rsi, r.r11) = (start, 0x1122_3344_5566_7788, 3, PORT, r.rdi, code);
        let trap = guest.run();
        drop(guest);
        let mut other = Guest::new(&machine, nothing());
        let r = &mut other.registers;
        (r.rax, r.rbx, r.rdx, r.rsi) = (5, 6, 7, 8);
        let given = *r;
        other.run_to_call();
        let r = other.registers;
        let found = (r.orig_rax, r.rbx, r.rdx, r.rsi, r.rdi, r.rsp);
        assert_eq!(found, (5, 6, 7, 8, given.rdi, given.rsp), "{start:#x}: {trap:x?}");
    }
}
