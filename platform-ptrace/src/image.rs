//! The code that runs in stubs, and the program file that contains it.
//!
//! The code uses no stack, and no memory except the command pages. It is position independent: the zygote starts it at
//! [`LOAD_ADDRESS`] and continues at [`CODE`](crate::layout::CODE). The program file is made here rather than by a
//! linker script, because it is a single page with two program headers.

use std::arch::global_asm;
use std::fs::File;
use std::io::{self, Write};
use std::sync::LazyLock;

use amber_platform::PAGE_SIZE;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::layout::{COMMAND_BYTES, COMMAND_FD, COMMANDS, LOAD_ADDRESS};

global_asm!(
    ".pushsection .rodata.amber_stub, \"a\"",
    ".balign 16",
    // Other codegen units refer to the labels as well.
    ".globl amber_stub_start",
    ".hidden amber_stub_start",
    ".globl amber_stub_call",
    ".hidden amber_stub_call",
    ".globl amber_stub_call_done",
    ".hidden amber_stub_call_done",
    ".globl amber_stub_commands",
    ".hidden amber_stub_commands",
    ".globl amber_stub_commands_done",
    ".hidden amber_stub_commands_done",
    ".globl amber_stub_clone",
    ".hidden amber_stub_clone",
    ".globl amber_stub_clone_done",
    ".hidden amber_stub_clone_done",
    ".globl amber_stub_park",
    ".hidden amber_stub_park",
    ".globl amber_stub_parked",
    ".hidden amber_stub_parked",
    ".globl amber_stub_end",
    ".hidden amber_stub_end",
    "amber_stub_start:",
    // One system call, with everything in registers.
    "amber_stub_call:",
    "syscall",
    "int3",
    "amber_stub_call_done:",
    // Executes the commands from rbx to r12, each a number and six arguments. Stops at the first one that fails.
    "amber_stub_commands:",
    "cmp rbx, r12",
    "jae 2f",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp rax, -4095",
    "jae 2f",
    "add rbx, 56",
    "jmp amber_stub_commands",
    "2:",
    "int3",
    "amber_stub_commands_done:",
    // A clone(2) with its arguments in registers. The child parks until it is traced: a thread (r15 = 0) at once; a
    // process after it has set its parent-death signal, checked that its parent is still the sentry (process r14), and
    // mapped its own command pages (at offset r13 of their file).
    "amber_stub_clone:",
    "syscall",
    "test rax, rax",
    "jz 3f",
    "int3",
    "amber_stub_clone_done:",
    "3:",
    "test r15, r15",
    "jz amber_stub_park",
    "mov eax, {prctl}",
    "mov edi, {pdeathsig}",
    "mov esi, {sigkill}",
    "syscall",
    "mov eax, {getppid}",
    "syscall",
    "cmp rax, r14",
    "jne 4f",
    "mov eax, {mmap}",
    "movabs rdi, {commands}",
    "mov esi, {command_bytes}",
    "mov edx, {prot_read}",
    "mov r10d, {shared_fixed}",
    "mov r8d, {command_fd}",
    "mov r9, r13",
    "syscall",
    "cmp rax, rdi",
    "jne 4f",
    "amber_stub_park:",
    "mov eax, {pause}",
    "syscall",
    "amber_stub_parked:",
    "jmp amber_stub_park",
    "4:",
    "mov eax, {exit_group}",
    "mov edi, 1",
    "syscall",
    "ud2",
    "amber_stub_end:",
    ".popsection",
    prctl = const libc::SYS_prctl,
    pdeathsig = const libc::PR_SET_PDEATHSIG,
    sigkill = const libc::SIGKILL,
    getppid = const libc::SYS_getppid,
    mmap = const libc::SYS_mmap,
    commands = const COMMANDS,
    command_bytes = const COMMAND_BYTES,
    prot_read = const libc::PROT_READ,
    shared_fixed = const libc::MAP_SHARED | libc::MAP_FIXED,
    command_fd = const COMMAND_FD,
    pause = const libc::SYS_pause,
    exit_group = const libc::SYS_exit_group,
);

// SAFETY: these are the labels of the code above; only their addresses and, between start and end, their constant bytes
// are ever used.
unsafe extern "C" {
    safe static amber_stub_start: u8;
    safe static amber_stub_call: u8;
    safe static amber_stub_call_done: u8;
    safe static amber_stub_commands: u8;
    safe static amber_stub_commands_done: u8;
    safe static amber_stub_clone: u8;
    safe static amber_stub_clone_done: u8;
    safe static amber_stub_park: u8;
    safe static amber_stub_parked: u8;
    safe static amber_stub_end: u8;
}

/// Offset of the code in the page, behind the program headers.
const CODE_OFFSET: u64 = 256;

/// Offsets of the labels in the stub's page.
pub(crate) struct Labels {
    /// Makes the system call in the registers.
    pub call: u64,
    /// Stop after `call`.
    pub call_done: u64,
    /// Executes the commands.
    pub commands: u64,
    /// Stop after `commands`.
    pub commands_done: u64,
    /// Makes the clone(2) in the registers.
    pub clone: u64,
    /// Stop of the parent after `clone`.
    pub clone_done: u64,
    /// Waits for a tracer.
    pub park: u64,
    /// Instruction pointer of a thread that waits there.
    pub parked: u64,
}

/// The labels of the code.
pub(crate) static LABELS: LazyLock<Labels> = LazyLock::new(|| {
    let at = |label: *const u8| label as u64 - (&raw const amber_stub_start) as u64 + CODE_OFFSET;
    Labels {
        call: at(&raw const amber_stub_call),
        call_done: at(&raw const amber_stub_call_done),
        commands: at(&raw const amber_stub_commands),
        commands_done: at(&raw const amber_stub_commands_done),
        clone: at(&raw const amber_stub_clone),
        clone_done: at(&raw const amber_stub_clone_done),
        park: at(&raw const amber_stub_park),
        parked: at(&raw const amber_stub_parked),
    }
});

/// Size of an ELF file header.
const FILE_HEADER: u16 = 64;
/// Size of an ELF program header.
const PROGRAM_HEADER: u16 = 56;

/// Makes a static ELF program of one page that contains the stub's code.
pub(crate) fn program() -> io::Result<File> {
    let start = &raw const amber_stub_start;
    let len = (&raw const amber_stub_end) as usize - start as usize;
    // SAFETY: the bytes between the two labels are initialised, constant data of this program.
    let code = unsafe { std::slice::from_raw_parts(start, len) };
    let mut page = Vec::with_capacity(PAGE_SIZE as usize);
    page.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    page.extend(2u16.to_le_bytes()); // ET_EXEC
    page.extend(62u16.to_le_bytes()); // EM_X86_64
    page.extend(1u32.to_le_bytes());
    for word in [LOAD_ADDRESS + LABELS.park, FILE_HEADER.into(), 0] {
        page.extend(word.to_le_bytes());
    }
    page.extend(0u32.to_le_bytes());
    for half in [FILE_HEADER, PROGRAM_HEADER, 2, 0, 0, 0] {
        page.extend(half.to_le_bytes());
    }
    // PT_LOAD of the whole page, readable and executable; PT_GNU_STACK, so that readable does not imply executable.
    for (kind, flags, address, size) in [(1u32, 5u32, LOAD_ADDRESS, PAGE_SIZE), (0x6474_e551, 6, 0, 0)] {
        page.extend(kind.to_le_bytes());
        page.extend(flags.to_le_bytes());
        for word in [0, address, address, size, size, PAGE_SIZE] {
            page.extend(word.to_le_bytes());
        }
    }
    page.resize(CODE_OFFSET as usize, 0);
    page.extend(code);
    page.resize(PAGE_SIZE as usize, 0xcc);

    // MFD_EXEC exists since Linux 6.3. Older kernels make every memfd executable and reject the flag.
    let executable = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let fd = memfd_create(c"amber-stub", executable).or_else(|_| memfd_create(c"amber-stub", MFdFlags::MFD_CLOEXEC))?;
    let mut file = File::from(fd);
    file.write_all(&page)?;
    Ok(file)
}
