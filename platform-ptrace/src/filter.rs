//! The seccomp filter of every stub. It allows a few calls from the stub's code page; all others raise SIGSYS.

use crate::layout::CODE;
use amber_platform::PAGE_SIZE;

/// The calls that the stub's code makes.
const ALLOWED: [i64; 8] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_clone,
    libc::SYS_prctl,
    libc::SYS_getppid,
    libc::SYS_pause,
    libc::SYS_exit_group,
];

/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`; the instruction pointer has two halves.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const POINTER_LOW: u32 = 8;
const POINTER_HIGH: u32 = 12;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The filter as an array of `struct sock_filter`, and its length in instructions.
pub(crate) fn program() -> (Vec<u8>, u16) {
    let allowed = ALLOWED.len() as u8;
    // (operation, jump if true, jump if false, operand). The last instruction allows the call, the one before traps it.
    let mut code = vec![
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 0, 6 + allowed, X86_64),
        (LOAD, 0, 0, POINTER_HIGH),
        (EQUAL, 0, 4 + allowed, (CODE >> 32) as u32),
        (LOAD, 0, 0, POINTER_LOW),
        (AT_LEAST, 0, 2 + allowed, CODE as u32),
        (AT_LEAST, 1 + allowed, 0, (CODE + PAGE_SIZE) as u32),
        (LOAD, 0, 0, NUMBER),
    ];
    for (i, number) in ALLOWED.iter().enumerate() {
        code.push((EQUAL, allowed - i as u8, 0, *number as u32));
    }
    code.push((RETURN, 0, 0, libc::SECCOMP_RET_TRAP));
    code.push((RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let count = code.len() as u16;
    let bytes = code
        .into_iter()
        .flat_map(|(operation, yes, no, operand): (u16, u8, u8, u32)| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&operation.to_le_bytes());
            bytes[2..4].copy_from_slice(&[yes, no]);
            bytes[4..].copy_from_slice(&operand.to_le_bytes());
            bytes
        })
        .collect();
    (bytes, count)
}
