//! System call filters: `seccomp` and the programs of the classic packet filter.

named! {
    /// The operation of `seccomp`.
    pub struct SeccompOperation(u32) {
        SECCOMP_SET_MODE_STRICT = 0,
        SECCOMP_SET_MODE_FILTER = 1,
        SECCOMP_GET_ACTION_AVAIL = 2,
        SECCOMP_GET_NOTIF_SIZES = 3,
    }
}

named! {
    /// What `PR_GET_SECCOMP` tells and `PR_SET_SECCOMP` asks for.
    pub struct SeccompMode(u32) {
        SECCOMP_MODE_DISABLED = 0,
        SECCOMP_MODE_STRICT = 1,
        SECCOMP_MODE_FILTER = 2,
    }
}

flags! {
    /// The flags of `SECCOMP_SET_MODE_FILTER`.
    pub struct SeccompFlags: u32 {
        SECCOMP_FILTER_FLAG_TSYNC = 0x1,
        SECCOMP_FILTER_FLAG_LOG = 0x2,
        SECCOMP_FILTER_FLAG_SPEC_ALLOW = 0x4,
        SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x8,
        SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 0x10,
        SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20,
    }
}

named! {
    /// What a filter decided: the upper half of its result. The lower half is data.
    pub struct SeccompAction(u32) {
        SECCOMP_RET_KILL_PROCESS = 0x80000000,
        SECCOMP_RET_KILL_THREAD = 0,
        SECCOMP_RET_TRAP = 0x30000,
        SECCOMP_RET_ERRNO = 0x50000,
        SECCOMP_RET_USER_NOTIF = 0x7fc00000,
        SECCOMP_RET_TRACE = 0x7ff00000,
        SECCOMP_RET_LOG = 0x7ffc0000,
        SECCOMP_RET_ALLOW = 0x7fff0000,
    }
}

consts! { u32:
    SECCOMP_RET_ACTION_FULL = 0xffff0000,
    SECCOMP_RET_DATA = 0xffff,
    AUDIT_ARCH_X86_64 = 0xc000003e,
    AUDIT_ARCH_I386 = 0x40000003,
}

layout! {
    /// What a filter sees.
    pub struct SeccompData: 64 {
        nr: i32,
        arch: u32,
        instruction_pointer: u64,
        args: [u64; 6],
    }

    /// The sizes `SECCOMP_GET_NOTIF_SIZES` tells.
    pub struct SeccompNotifSizes: 6 {
        seccomp_notif: u16,
        seccomp_notif_resp: u16,
        seccomp_data: u16,
    }

    /// A packet filter program.
    pub struct SockFprog: 16 {
        len: u16,
        _pad0: u16,
        _pad1: u32,
        filter: u64,
    }

    /// One instruction of a packet filter program.
    pub struct SockFilter: 8 {
        code: u16,
        jt: u8,
        jf: u8,
        k: u32,
    }
}

consts! { u16:
    BPF_LD = 0,
    BPF_LDX = 0x1,
    BPF_ST = 0x2,
    BPF_STX = 0x3,
    BPF_ALU = 0x4,
    BPF_JMP = 0x5,
    BPF_RET = 0x6,
    BPF_MISC = 0x7,
    BPF_W = 0,
    BPF_H = 0x8,
    BPF_B = 0x10,
    BPF_IMM = 0,
    BPF_ABS = 0x20,
    BPF_IND = 0x40,
    BPF_MEM = 0x60,
    BPF_LEN = 0x80,
    BPF_MSH = 0xa0,
    BPF_ADD = 0,
    BPF_SUB = 0x10,
    BPF_MUL = 0x20,
    BPF_DIV = 0x30,
    BPF_OR = 0x40,
    BPF_AND = 0x50,
    BPF_LSH = 0x60,
    BPF_RSH = 0x70,
    BPF_NEG = 0x80,
    BPF_MOD = 0x90,
    BPF_XOR = 0xa0,
    BPF_JA = 0,
    BPF_JEQ = 0x10,
    BPF_JGT = 0x20,
    BPF_JGE = 0x30,
    BPF_JSET = 0x40,
    BPF_K = 0,
    BPF_X = 0x8,
    BPF_A = 0x10,
    BPF_TAX = 0,
    BPF_TXA = 0x80,
}

consts! { usize:
    BPF_MAXINSNS = 4096,
    BPF_MEMWORDS = 16,
}
