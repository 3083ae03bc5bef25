//! The one list of the host calls that Amber makes once guest code runs, with the reason for each.
//!
//! The seccomp filter of the sandbox process is made from it, and `amber host-calls` prints it. What is done before the
//! first guest instruction (opening files, making namespaces and mounts, starting the first stub) needs no place here.

/// What a host call is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Every sandbox.
    Always,
    /// The platform `ptrace`.
    Ptrace,
    /// The platform `kvm`.
    Kvm,
    /// Trees of the host that the guest may change.
    WritableFiles,
    /// The host's network.
    Network,
    /// The host's network, in a namespace of the sandbox's own.
    OwnNetwork,
    /// A control socket, by which further processes are started and questions answered.
    Control,
}

impl Part {
    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Part::Always => "always",
            Part::Ptrace => "ptrace",
            Part::Kvm => "kvm",
            Part::WritableFiles => "writable files",
            Part::Network => "network",
            Part::OwnNetwork => "own network",
            Part::Control => "control socket",
        }
    }
}

/// What an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// The number of this very process.
    OwnProcess,
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Which argument, from 0.
    pub argument: u8,
    /// The bits that are looked at.
    pub mask: u64,
    /// What they must be.
    pub value: Value,
    /// The same in words.
    pub meaning: &'static str,
}

/// A call on the list. One that is needed for several things may be there several times.
#[derive(Clone, Copy, Debug)]
pub struct HostCall {
    /// Its number on x86-64.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// For whom it is on the list.
    pub part: Part,
    /// What it is used for.
    pub reason: &'static str,
    /// One of them must hold; any arguments will do if there is none.
    pub rules: &'static [Rule],
}

/// The 32 bits of an `int`.
const INT: u64 = 0xffff_ffff;

const fn int(argument: u8, value: u64, meaning: &'static str) -> Rule {
    Rule { argument, mask: INT, value: Value::Number(value), meaning }
}

const NOT_EXECUTABLE: &[Rule] =
    &[Rule { argument: 2, mask: libc::PROT_EXEC as u64, value: Value::Number(0), meaning: "not executable" }];

/// Everything that would make a process of its own, or a namespace.
const CLONE_BITS: u64 = (libc::CLONE_VM
    | libc::CLONE_THREAD
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32 as u64;
const THREAD: &[Rule] = &[Rule {
    argument: 0,
    mask: CLONE_BITS,
    value: Value::Number((libc::CLONE_VM | libc::CLONE_THREAD) as u64),
    meaning: "a thread",
}];

/// The ioctl numbers of KVM that a running machine needs.
mod kvm {
    pub const RUN: u64 = 0xae80;
    pub const GET_REGS: u64 = 0x8090_ae81;
    pub const GET_SREGS: u64 = 0x8138_ae83;
    pub const SET_SREGS: u64 = 0x4138_ae84;
    pub const GET_XSAVE: u64 = 0x9000_aea4;
    pub const SET_XSAVE: u64 = 0x5000_aea5;
    pub const SET_XCRS: u64 = 0x4188_aea7;
    pub const SET_MSRS: u64 = 0x4008_ae89;
    pub const SET_CPUID2: u64 = 0x4008_ae90;
    pub const CREATE_VCPU: u64 = 0xae41;
    pub const SET_USER_MEMORY_REGION: u64 = 0x4020_ae46;
    pub const CHECK_EXTENSION: u64 = 0xae03;
    pub const GET_VCPU_MMAP_SIZE: u64 = 0xae04;
    pub const SET_DEVICE_ATTR: u64 = 0x4018_aee1;
    pub const GET_DEBUGREGS: u64 = 0x8080_aea1;
    pub const SET_DEBUGREGS: u64 = 0x4080_aea2;
    pub const GET_VCPU_EVENTS: u64 = 0x8040_ae9f;
}

/// One line a call: name, part, reason, and rules if there are any.
macro_rules! list {
    ($($name:ident, $part:ident, $reason:literal $(, $rules:expr)?;)*) => {
        &[$(HostCall {
            number: numbers::$name,
            name: stringify!($name),
            part: Part::$part,
            reason: $reason,
            rules: list!(@ $($rules)?),
        }),*]
    };
    (@) => { &[] };
    (@ $rules:expr) => { $rules };
}

/// The numbers by the names of the calls.
mod numbers {
    macro_rules! numbers {
        ($($name:ident = $number:ident),* $(,)?) => {
            $(#[allow(non_upper_case_globals)] pub const $name: i64 = libc::$number;)*
        };
    }
    numbers! {
        read = SYS_read, write = SYS_write, readv = SYS_readv, writev = SYS_writev, pread64 = SYS_pread64,
        pwrite64 = SYS_pwrite64, close = SYS_close, openat = SYS_openat, newfstatat = SYS_newfstatat, fstat = SYS_fstat,
        statx = SYS_statx, fstatfs = SYS_fstatfs, lseek = SYS_lseek, getdents64 = SYS_getdents64,
        readlinkat = SYS_readlinkat, fgetxattr = SYS_fgetxattr, flistxattr = SYS_flistxattr, fcntl = SYS_fcntl,
        ftruncate = SYS_ftruncate, fallocate = SYS_fallocate, fsync = SYS_fsync, fdatasync = SYS_fdatasync,
        fchmod = SYS_fchmod, fchown = SYS_fchown, utimensat = SYS_utimensat, fsetxattr = SYS_fsetxattr,
        fremovexattr = SYS_fremovexattr, mkdirat = SYS_mkdirat, mknodat = SYS_mknodat, symlinkat = SYS_symlinkat,
        linkat = SYS_linkat, unlinkat = SYS_unlinkat, renameat2 = SYS_renameat2, renameat = SYS_renameat, fchownat = SYS_fchownat,
        fchmodat2 = SYS_fchmodat2, fchmodat = SYS_fchmodat, mmap = SYS_mmap, mprotect = SYS_mprotect,
        munmap = SYS_munmap, mremap = SYS_mremap, madvise = SYS_madvise, brk = SYS_brk, futex = SYS_futex,
        clone = SYS_clone, clone3 = SYS_clone3, set_robust_list = SYS_set_robust_list, rseq = SYS_rseq,
        sigaltstack = SYS_sigaltstack, rt_sigprocmask = SYS_rt_sigprocmask, rt_sigaction = SYS_rt_sigaction,
        rt_sigreturn = SYS_rt_sigreturn, prctl = SYS_prctl, prlimit64 = SYS_prlimit64, gettid = SYS_gettid,
        getpid = SYS_getpid, exit = SYS_exit, exit_group = SYS_exit_group, tgkill = SYS_tgkill, kill = SYS_kill,
        restart_syscall = SYS_restart_syscall, sched_yield = SYS_sched_yield, getcpu = SYS_getcpu,
        sched_getaffinity = SYS_sched_getaffinity, sched_setaffinity = SYS_sched_setaffinity,
        clock_gettime = SYS_clock_gettime, clock_nanosleep = SYS_clock_nanosleep, getrandom = SYS_getrandom,
        epoll_create1 = SYS_epoll_create1, epoll_ctl = SYS_epoll_ctl, epoll_wait = SYS_epoll_wait,
        epoll_pwait = SYS_epoll_pwait, poll = SYS_poll, ppoll = SYS_ppoll, ioctl = SYS_ioctl, ptrace = SYS_ptrace,
        wait4 = SYS_wait4, process_vm_readv = SYS_process_vm_readv, socket = SYS_socket, bind = SYS_bind,
        connect = SYS_connect, listen = SYS_listen, accept4 = SYS_accept4, getsockname = SYS_getsockname,
        getpeername = SYS_getpeername, sendto = SYS_sendto, recvfrom = SYS_recvfrom, sendmsg = SYS_sendmsg,
        recvmsg = SYS_recvmsg, shutdown = SYS_shutdown, getsockopt = SYS_getsockopt, setsockopt = SYS_setsockopt,
        eventfd2 = SYS_eventfd2, pipe2 = SYS_pipe2,
    }
}

/// Calls whose refusal must look as on a host that has them not: the C library then takes another, which is on the list.
/// `clone3` has its flags in memory, where no filter sees them.
pub const ABSENT: &[i64] = &[numbers::clone3];

/// The list.
pub const CALLS: &[HostCall] = list! {
    read, Always, "the guest's standard input, the caller's terminal, signals sent to Amber";
    write, Always, "the guest's standard output, the log, traces";
    readv, Always, "as read, into several buffers";
    writev, Always, "as write, from several buffers";
    pread64, Always, "contents of host files, into guest memory";
    pwrite64, Always, "contents of host files, from guest memory";
    close, Always, "descriptors no longer needed";
    openat, Always, "a file of a host tree, by its directory and one component";
    newfstatat, Always, "attributes of a file in a host tree";
    fstat, Always, "attributes of an open file";
    statx, Always, "attributes of an open file, as the standard library asks for them";
    fstatfs, Always, "statfs(2) of the guest on a host tree";
    lseek, Always, "positions of standard streams, holes of host files and of guest memory";
    getdents64, Always, "entries of a directory in a host tree";
    readlinkat, Always, "the text of a symbolic link in a host tree";
    fgetxattr, Always, "extended attributes, among them file capabilities, in a host tree";
    flistxattr, Always, "names of extended attributes in a host tree";
    fcntl, Always, "duplicates of descriptors, status flags";
    ftruncate, Always, "the size of a file the guest has as standard stream, or may change";
    fallocate, Always, "giving freed guest memory back; fallocate(2) of the guest";
    fsync, Always, "fsync(2) of the guest";
    fdatasync, Always, "fdatasync(2) of the guest";
    fchmod, Always, "fchmod(2) of the guest on a standard stream";
    fchown, Always, "fchown(2) of the guest on a standard stream";
    utimensat, Always, "time stamps of a standard stream";
    mmap, Always, "memory of Amber itself, windows to guest memory", NOT_EXECUTABLE;
    mprotect, Always, "guard pages of threads, growth of the heap", NOT_EXECUTABLE;
    munmap, Always, "memory given back";
    mremap, Always, "growth of large buffers";
    madvise, Always, "memory given back; guest memory set aside";
    brk, Always, "the heap";
    futex, Always, "locks, waiting";
    clone, Always, "a host thread for each guest thread", THREAD;
    set_robust_list, Always, "start of a thread";
    rseq, Always, "start of a thread";
    sigaltstack, Always, "start of a thread: a stack to notice overflow of its own";
    rt_sigprocmask, Always, "signals held back while a thread starts";
    rt_sigaction, Always, "what follows a stack overflow or an abort";
    rt_sigreturn, Always, "the end of a signal handler";
    prctl, Always, "names of threads", &[int(0, libc::PR_SET_NAME as u64, "PR_SET_NAME")];
    prlimit64, Always, "the size of a thread's stack", &[Rule {
        argument: 2,
        mask: u64::MAX,
        value: Value::Number(0),
        meaning: "reading only",
    }];
    gettid, Always, "which thread this is";
    getpid, Always, "which process this is";
    exit, Always, "the end of a thread";
    exit_group, Always, "the end of the sandbox";
    tgkill, Always, "leaving guest code to look at a signal; an abort; stopping with the guest", &[Rule {
        argument: 0,
        mask: INT,
        value: Value::OwnProcess,
        meaning: "to itself",
    }];
    restart_syscall, Always, "a wait goes on after a stop";
    sched_yield, Always, "spinning politely";
    getcpu, Always, "getcpu(2) of the guest";
    sched_getaffinity, Always, "which processors there are";
    clock_gettime, Always, "clocks, where the host's vDSO cannot tell them";
    clock_nanosleep, Always, "time limits of the guest's processor time";
    getrandom, Always, "random numbers, seeds of hash tables";
    epoll_create1, Always, "waiting for standard streams and terminals";
    epoll_ctl, Always, "waiting for standard streams and terminals";
    epoll_wait, Always, "waiting for standard streams and terminals";
    epoll_pwait, Always, "waiting for standard streams and terminals";
    eventfd2, Always, "waking a task that waits for a standard stream, terminal or socket";
    poll, Always, "whether a standard stream or terminal is ready";
    ppoll, Always, "whether a standard stream or terminal is ready";
    ioctl, Always, "the caller's terminal: modes, size, queues", &[
        int(1, libc::TCGETS, "TCGETS"),
        int(1, libc::TCSETS, "TCSETS"),
        int(1, libc::TCSETSW, "TCSETSW"),
        int(1, libc::TCSETSF, "TCSETSF"),
        int(1, libc::TCGETS2, "TCGETS2"),
        int(1, libc::TCSETS2, "TCSETS2"),
        int(1, libc::TCSETSW2, "TCSETSW2"),
        int(1, libc::TCSETSF2, "TCSETSF2"),
        int(1, libc::TIOCGWINSZ, "TIOCGWINSZ"),
        int(1, libc::FIONREAD, "FIONREAD"),
        int(1, libc::TIOCOUTQ, "TIOCOUTQ"),
        int(1, libc::TCFLSH, "TCFLSH"),
        int(1, libc::TCXONC, "TCXONC"),
        int(1, libc::TCSBRK, "TCSBRK"),
        int(1, libc::TIOCGPGRP, "TIOCGPGRP"),
    ];

    ptrace, Ptrace, "running guest code in stubs, reading and writing their registers", &[
        int(0, libc::PTRACE_SYSEMU as u64, "SYSEMU"),
        int(0, libc::PTRACE_GETREGS as u64, "GETREGS"),
        int(0, libc::PTRACE_SETREGS as u64, "SETREGS"),
        int(0, libc::PTRACE_CONT as u64, "CONT"),
        int(0, libc::PTRACE_GETSIGINFO as u64, "GETSIGINFO"),
        int(0, libc::PTRACE_GETREGSET as u64, "GETREGSET"),
        int(0, libc::PTRACE_SETREGSET as u64, "SETREGSET"),
        int(0, libc::PTRACE_GET_SYSCALL_INFO as u64, "GET_SYSCALL_INFO"),
        int(0, libc::PTRACE_SEIZE as u64, "SEIZE"),
        int(0, libc::PTRACE_INTERRUPT as u64, "INTERRUPT"),
        int(0, libc::PTRACE_DETACH as u64, "DETACH"),
        int(0, libc::PTRACE_PEEKUSER as u64, "PEEKUSER"),
        int(0, libc::PTRACE_POKEUSER as u64, "POKEUSER"),
    ];
    wait4, Ptrace, "waiting until a stub stops";
    process_vm_readv, Ptrace, "a word of a stub's stack, for the vsyscall page";
    tgkill, Ptrace, "bringing a stub out of guest code", &[int(2, libc::SIGUSR1 as u64, "SIGUSR1")];
    kill, Ptrace, "the end of a stub", &[int(1, libc::SIGKILL as u64, "SIGKILL")];
    sched_setaffinity, Ptrace, "keeping a stub and its tracer on one processor";

    ioctl, Kvm, "the virtual machine and its processors", &[
        int(1, kvm::RUN, "KVM_RUN"),
        int(1, kvm::GET_REGS, "KVM_GET_REGS"),
        int(1, kvm::GET_SREGS, "KVM_GET_SREGS"),
        int(1, kvm::SET_SREGS, "KVM_SET_SREGS"),
        int(1, kvm::GET_XSAVE, "KVM_GET_XSAVE"),
        int(1, kvm::SET_XSAVE, "KVM_SET_XSAVE"),
        int(1, kvm::SET_XCRS, "KVM_SET_XCRS"),
        int(1, kvm::SET_MSRS, "KVM_SET_MSRS"),
        int(1, kvm::SET_CPUID2, "KVM_SET_CPUID2"),
        int(1, kvm::CREATE_VCPU, "KVM_CREATE_VCPU"),
        int(1, kvm::SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION"),
        int(1, kvm::CHECK_EXTENSION, "KVM_CHECK_EXTENSION"),
        int(1, kvm::GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE"),
        int(1, kvm::SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR"),
        int(1, kvm::GET_DEBUGREGS, "KVM_GET_DEBUGREGS"),
        int(1, kvm::SET_DEBUGREGS, "KVM_SET_DEBUGREGS"),
        int(1, kvm::GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"),
    ];

    mkdirat, WritableFiles, "a directory made by the guest";
    mknodat, WritableFiles, "a fifo, socket or device node made by the guest";
    symlinkat, WritableFiles, "a symbolic link made by the guest";
    linkat, WritableFiles, "a further name of a file";
    unlinkat, WritableFiles, "a name removed by the guest";
    renameat2, WritableFiles, "a name moved by the guest";
    renameat, WritableFiles, "the same without flags, as the C library asks for it";
    fchownat, WritableFiles, "owner and group of a file";
    fchmodat2, WritableFiles, "permissions of a file";
    fchmodat, WritableFiles, "permissions of a file, on hosts without fchmodat2";
    fsetxattr, WritableFiles, "an extended attribute";
    fremovexattr, WritableFiles, "an extended attribute";

    socket, Network, "a socket of the guest, questions about interfaces and routes", &[
        int(0, libc::AF_INET as u64, "AF_INET"),
        int(0, libc::AF_INET6 as u64, "AF_INET6"),
        int(0, libc::AF_NETLINK as u64, "AF_NETLINK"),
    ];
    bind, Network, "bind(2) of the guest";
    connect, Network, "connect(2) of the guest";
    listen, Network, "listen(2) of the guest";
    accept4, Network, "accept(2) of the guest";
    getsockname, Network, "getsockname(2) of the guest";
    getpeername, Network, "getpeername(2) of the guest";
    sendto, Network, "bytes sent by the guest";
    recvfrom, Network, "bytes received by the guest";
    sendmsg, Network, "messages sent by the guest";
    recvmsg, Network, "messages received by the guest";
    shutdown, Network, "shutdown(2) of the guest";
    getsockopt, Network, "options of the guest's sockets";
    setsockopt, Network, "options of the guest's sockets";
    ioctl, Network, "queues of sockets, questions about interfaces", &[Rule {
        argument: 1,
        mask: 0xffff_ff00,
        value: Value::Number(0x8900),
        meaning: "SIOC…",
    }];

    socket, OwnNetwork, "a packet socket of the guest", &[int(0, libc::AF_PACKET as u64, "AF_PACKET")];

    accept4, Control, "a command of the runtime";
    recvmsg, Control, "a command with descriptors";
    sendmsg, Control, "an answer";
    recvfrom, Control, "a command";
    sendto, Control, "an answer";
    getsockopt, Control, "who commands";
    setsockopt, Control, "how long a command may take";
    ioctl, Control, "a connection that does not wait", &[int(1, libc::FIONBIO, "FIONBIO")];
    prctl, Control, "outliving whoever made the sandbox", &[int(0, libc::PR_SET_PDEATHSIG as u64, "PR_SET_PDEATHSIG")];
    shutdown, Control, "the end of a command";
    pipe2, Control, "waking whoever waits for a command";
};

/// The calls that some parts of Amber need, [`Part::Always`] among them.
pub fn needed(parts: &[Part]) -> impl Iterator<Item = &'static HostCall> {
    CALLS.iter().filter(move |call| call.part == Part::Always || parts.contains(&call.part))
}

/// The name of a call on the list.
pub fn name(number: i64) -> Option<&'static str> {
    CALLS.iter().find(|call| call.number == number).map(|call| call.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_twice() {
        for (i, call) in CALLS.iter().enumerate() {
            assert!(!CALLS[..i].iter().any(|other| (other.number, other.part) == (call.number, call.part)), "{call:?}");
            assert!(!call.reason.is_empty() && !ABSENT.contains(&call.number), "{call:?}");
        }
    }

    #[test]
    fn nothing_makes_processes_or_reaches_the_network_always() {
        let forbidden = [libc::SYS_execve, libc::SYS_fork, libc::SYS_socket, libc::SYS_mount, libc::SYS_open];
        assert!(needed(&[Part::Ptrace, Part::Kvm]).all(|call| !forbidden.contains(&call.number)));
        assert!(CALLS.windows(2).all(|pair| pair[0].part <= pair[1].part), "one part after the other");
    }
}
