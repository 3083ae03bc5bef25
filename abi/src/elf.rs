//! Executables: the 64-bit ELF format, and the auxiliary vector given to a program.

layout! {
    /// The header of a file.
    pub struct Ehdr: 64 {
        e_ident: [u8; 16],
        e_type: u16,
        e_machine: u16,
        e_version: u32,
        e_entry: u64,
        e_phoff: u64,
        e_shoff: u64,
        e_flags: u32,
        e_ehsize: u16,
        e_phentsize: u16,
        e_phnum: u16,
        e_shentsize: u16,
        e_shnum: u16,
        e_shstrndx: u16,
    }

    /// A segment.
    pub struct Phdr: 56 {
        p_type: u32,
        p_flags: u32,
        p_offset: u64,
        p_vaddr: u64,
        p_paddr: u64,
        p_filesz: u64,
        p_memsz: u64,
        p_align: u64,
    }

    /// A section.
    pub struct Shdr: 64 {
        sh_name: u32,
        sh_type: u32,
        sh_flags: u64,
        sh_addr: u64,
        sh_offset: u64,
        sh_size: u64,
        sh_link: u32,
        sh_info: u32,
        sh_addralign: u64,
        sh_entsize: u64,
    }

    /// An entry of the dynamic section.
    pub struct Dyn: 16 {
        d_tag: i64,
        d_val: u64,
    }

    /// A symbol.
    pub struct Sym: 24 {
        st_name: u32,
        st_info: u8,
        st_other: u8,
        st_shndx: u16,
        st_value: u64,
        st_size: u64,
    }

    /// The version of a symbol that is defined.
    pub struct Verdef: 20 {
        vd_version: u16,
        vd_flags: u16,
        vd_ndx: u16,
        vd_cnt: u16,
        vd_hash: u32,
        vd_aux: u32,
        vd_next: u32,
    }

    /// The name of a version.
    pub struct Verdaux: 8 {
        vda_name: u32,
        vda_next: u32,
    }

    /// The header of a note.
    pub struct Nhdr: 12 {
        n_namesz: u32,
        n_descsz: u32,
        n_type: u32,
    }

    /// An entry of the auxiliary vector.
    pub struct Auxv: 16 {
        /// One of the `AT_` numbers.
        a_type: u64,
        a_val: u64,
    }
}

/// The first four bytes of a file.
pub const ELFMAG: [u8; 4] = *b"\x7fELF";

consts! { usize:
    EI_CLASS = 4,
    EI_DATA = 5,
    EI_VERSION = 6,
    EI_OSABI = 7,
    EI_ABIVERSION = 8,
}

consts! { u8:
    ELFCLASS32 = 1,
    ELFCLASS64 = 2,
    ELFDATA2LSB = 1,
    ELFDATA2MSB = 2,
    EV_CURRENT = 1,
    ELFOSABI_NONE = 0,
    ELFOSABI_LINUX = 3,
    STB_LOCAL = 0,
    STB_GLOBAL = 1,
    STB_WEAK = 2,
    STT_NOTYPE = 0,
    STT_OBJECT = 1,
    STT_FUNC = 2,
}

consts! { u16:
    ET_NONE = 0,
    ET_REL = 1,
    ET_EXEC = 2,
    ET_DYN = 3,
    ET_CORE = 4,
    EM_386 = 3,
    EM_X86_64 = 62,
    EM_AARCH64 = 183,
    EM_ARM = 40,
    EM_RISCV = 243,
    PN_XNUM = 65535,
    SHN_UNDEF = 0,
    SHN_ABS = 65521,
}

consts! { u32:
    PT_NULL = 0,
    PT_LOAD = 0x1,
    PT_DYNAMIC = 0x2,
    PT_INTERP = 0x3,
    PT_NOTE = 0x4,
    PT_SHLIB = 0x5,
    PT_PHDR = 0x6,
    PT_TLS = 0x7,
    PT_GNU_EH_FRAME = 0x6474e550,
    PT_GNU_STACK = 0x6474e551,
    PT_GNU_RELRO = 0x6474e552,
    PT_GNU_PROPERTY = 0x6474e553,
    PF_X = 0x1,
    PF_W = 0x2,
    PF_R = 0x4,
    SHT_NULL = 0,
    SHT_PROGBITS = 0x1,
    SHT_SYMTAB = 0x2,
    SHT_STRTAB = 0x3,
    SHT_HASH = 0x5,
    SHT_DYNAMIC = 0x6,
    SHT_NOTE = 0x7,
    SHT_NOBITS = 0x8,
    SHT_DYNSYM = 0xb,
    SHT_GNU_HASH = 0x6ffffff6,
    SHT_GNU_VERDEF = 0x6ffffffd,
    SHT_GNU_VERSYM = 0x6fffffff,
    NT_GNU_ABI_TAG = 0x1,
    NT_GNU_BUILD_ID = 0x3,
    NT_GNU_PROPERTY_TYPE_0 = 0x5,
}

consts! { i64:
    DT_NULL = 0,
    DT_NEEDED = 1,
    DT_HASH = 4,
    DT_STRTAB = 5,
    DT_SYMTAB = 6,
    DT_STRSZ = 10,
    DT_SYMENT = 11,
    DT_SONAME = 14,
    DT_GNU_HASH = 0x6ffffef5,
    DT_VERSYM = 0x6ffffff0,
    DT_VERDEF = 0x6ffffffc,
    DT_VERDEFNUM = 0x6ffffffd,
}

consts! { u64:
    AT_NULL = 0,
    AT_IGNORE = 1,
    AT_EXECFD = 2,
    AT_PHDR = 3,
    AT_PHENT = 4,
    AT_PHNUM = 5,
    AT_PAGESZ = 6,
    AT_BASE = 7,
    AT_FLAGS = 8,
    AT_ENTRY = 9,
    AT_NOTELF = 10,
    AT_UID = 11,
    AT_EUID = 12,
    AT_GID = 13,
    AT_EGID = 14,
    AT_PLATFORM = 15,
    AT_HWCAP = 16,
    AT_CLKTCK = 17,
    AT_SECURE = 23,
    AT_BASE_PLATFORM = 24,
    AT_RANDOM = 25,
    AT_HWCAP2 = 26,
    AT_RSEQ_FEATURE_SIZE = 27,
    AT_RSEQ_ALIGN = 28,
    AT_HWCAP3 = 29,
    AT_HWCAP4 = 30,
    AT_EXECFN = 31,
    AT_SYSINFO = 32,
    AT_SYSINFO_EHDR = 33,
    AT_MINSIGSTKSZ = 51,
    /// In `AT_HWCAP2`: programs may use `monitor` and `mwait`.
    HWCAP2_RING3MWAIT = 1,
    /// In `AT_HWCAP2`: programs may use `wrfsbase` and its kin.
    HWCAP2_FSGSBASE = 2,
    /// In `AT_FLAGS`: keep `argv[0]` (for `binfmt_misc` interpreters).
    AT_FLAGS_PRESERVE_ARGV0 = 1,
}

consts! { usize:
    /// The longest string among arguments and environment, with its zero.
    MAX_ARG_STRLEN = 131_072,
    /// The most arguments or environment strings.
    MAX_ARG_STRINGS = 0x7fff_ffff,
    /// How much of a file decides what kind of program it is.
    BINPRM_BUF_SIZE = 256,
    /// The most bytes of program headers.
    ELF_MAX_PHDRS_SIZE = 65536,
    /// How deep interpreters of interpreters go.
    MAX_INTERPRETERS = 5,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        assert_eq!(size_of::<Ehdr>(), size_of::<libc::Elf64_Ehdr>());
        assert_eq!(size_of::<Phdr>(), size_of::<libc::Elf64_Phdr>());
        assert_eq!(size_of::<Shdr>(), size_of::<libc::Elf64_Shdr>());
        assert_eq!(size_of::<Sym>(), size_of::<libc::Elf64_Sym>());
    }
}
