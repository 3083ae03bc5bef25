//! A file to execute.

use amber_abi::elf::{ELFCLASS64, ELFMAG, EM_X86_64, ET_EXEC, Ehdr, PF_R, PF_X, PT_LOAD, Phdr};
use zerocopy::{FromZeros, IntoBytes};

/// Where it is in memory.
const BASE: u64 = 0x40_0000;

/// The ELF file of the smallest program: headers, which are mapped. What its threads do is up to their [`Program`](crate::Program).
pub fn smallest_program() -> Vec<u8> {
    let size = (size_of::<Ehdr>() + size_of::<Phdr>()) as u64;
    let mut header = Ehdr::new_zeroed();
    header.e_ident[..4].copy_from_slice(&ELFMAG);
    header.e_ident[4] = ELFCLASS64;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_entry = BASE + size;
    header.e_phoff = size_of::<Ehdr>() as u64;
    header.e_phentsize = size_of::<Phdr>() as u16;
    header.e_phnum = 1;
    let mut segment = Phdr::new_zeroed();
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_X;
    segment.p_vaddr = BASE;
    (segment.p_filesz, segment.p_memsz) = (size, 4096);
    [header.as_bytes(), segment.as_bytes()].concat()
}
