//! The list of host calls.

use amber_abi::host_call::HostCall;

use super::Part;
use super::rules::*;

/// One line per call: name, part if the list has parts, reason, and rules if there are any.
macro_rules! list {
    ($($name:ident, $part:ident, $reason:literal $(, $rules:expr)?;)*) => {
        &[$((Part::$part, list!(@ $name, $reason $(, $rules)?))),*]
    };
    ($($name:ident, $reason:literal $(, $rules:expr)?;)*) => {
        &[$(list!(@ $name, $reason $(, $rules)?)),*]
    };
    (@ $name:ident, $reason:literal) => { list!(@ $name, $reason, &[]) };
    (@ $name:ident, $reason:literal, $rules:expr) => {
        HostCall { number: numbers::$name, name: stringify!($name), reason: $reason, rules: $rules }
    };
}

/// The call numbers by name.
mod numbers {
    macro_rules! numbers {
        ($($name:ident = $number:ident),* $(,)?) => {
            $(#[allow(non_upper_case_globals)] pub(super) const $name: i64 = libc::$number;)*
        };
    }
    numbers! {
        read = SYS_read, write = SYS_write, pread64 = SYS_pread64, pwrite64 = SYS_pwrite64, close = SYS_close,
        openat = SYS_openat, openat2 = SYS_openat2, alarm = SYS_alarm, setitimer = SYS_setitimer, statx = SYS_statx, fstatfs = SYS_fstatfs, lseek = SYS_lseek,
        getdents64 = SYS_getdents64, readlinkat = SYS_readlinkat, fgetxattr = SYS_fgetxattr,
        flistxattr = SYS_flistxattr, fcntl = SYS_fcntl, ftruncate = SYS_ftruncate, fallocate = SYS_fallocate,
        fsync = SYS_fsync, fdatasync = SYS_fdatasync,
        utimensat = SYS_utimensat, fsetxattr = SYS_fsetxattr, fremovexattr = SYS_fremovexattr, mkdirat = SYS_mkdirat,
        mknodat = SYS_mknodat, symlinkat = SYS_symlinkat, linkat = SYS_linkat, unlinkat = SYS_unlinkat,
        renameat2 = SYS_renameat2, fchownat = SYS_fchownat, fchmodat2 = SYS_fchmodat2, fchmodat = SYS_fchmodat,
        mmap = SYS_mmap, mprotect = SYS_mprotect, munmap = SYS_munmap, mremap = SYS_mremap, madvise = SYS_madvise,
        brk = SYS_brk, futex = SYS_futex, clone = SYS_clone, clone3 = SYS_clone3,
        set_robust_list = SYS_set_robust_list, rseq = SYS_rseq, sigaltstack = SYS_sigaltstack,
        rt_sigprocmask = SYS_rt_sigprocmask, rt_sigaction = SYS_rt_sigaction, rt_sigreturn = SYS_rt_sigreturn,
        prctl = SYS_prctl, gettid = SYS_gettid, getpid = SYS_getpid, exit = SYS_exit, exit_group = SYS_exit_group,
        tgkill = SYS_tgkill, restart_syscall = SYS_restart_syscall, sched_yield = SYS_sched_yield,
        sched_getaffinity = SYS_sched_getaffinity, getcpu = SYS_getcpu, prlimit64 = SYS_prlimit64, clock_gettime = SYS_clock_gettime, getrandom = SYS_getrandom,
        epoll_create1 = SYS_epoll_create1, epoll_ctl = SYS_epoll_ctl, epoll_pwait = SYS_epoll_pwait,
        eventfd2 = SYS_eventfd2, ppoll = SYS_ppoll, ioctl = SYS_ioctl,
        socket = SYS_socket, bind = SYS_bind, connect = SYS_connect, listen = SYS_listen, accept4 = SYS_accept4,
        getsockname = SYS_getsockname, getpeername = SYS_getpeername, sendmsg = SYS_sendmsg, recvmsg = SYS_recvmsg,
        shutdown = SYS_shutdown, getsockopt = SYS_getsockopt, setsockopt = SYS_setsockopt, pipe2 = SYS_pipe2,
    }
}

/// Calls that the C library makes by itself. They fail with `ENOSYS`, as on an older host, and the library then uses
/// another call on the list, or none. `clone3` has its flags in memory, where no filter can see them.
pub const ABSENT: &[HostCall] = list! {
    clone3, "threads: its flags are in memory, where no filter sees them";
    set_robust_list, "locks shared with other processes, of which there are none";
    getcpu, "the CPU's number, which the vDSO returns";
    sched_getaffinity, "how many arenas the heap may have";
    prlimit64, "the size of a thread's stack";
    openat, "the heap's look at `vm.overcommit_memory`", BY_PATH;
};

/// The calls of the process that reads files of the host's kernel for guests ([`crate::reader`]).
pub const READER: &[HostCall] = list! {
    read, "a request of the sandbox";
    write, "an answer";
    openat2, "a file beneath a tree, for reading, without links", BENEATH;
    statx, "attributes of an open file, and the mount it is on", BENEATH;
    fstatfs, "which file system a file is on";
    readlinkat, "the text of a symbolic link", BENEATH;
    pread64, "contents";
    getdents64, "entries of a directory";
    close, "files no longer needed";
    fcntl, "whether they are open, in builds with checks", IS_OPEN;
    alarm, "how long the host may take for a request";
    setitimer, "the same, in some C libraries";
    rt_sigreturn, "the end of the handler of that";
    restart_syscall, "a wait goes on after a stop";
    exit_group, "the end of the sandbox";
};

/// The calls of the sandbox process, but those of its platform.
pub const CALLS: &[(Part, HostCall)] = list! {
    read, Always, "standard input, the caller's terminal, signals sent to Amber, sockets";
    write, Always, "standard output, the log, traces, sockets";
    pread64, Always, "contents of host files";
    pwrite64, Always, "contents of host files, from guest memory and into it";
    close, Always, "descriptors no longer needed";
    openat, Always, "a file of a host tree, by its directory and one component", OPEN_TO_READ;
    statx, Always, "attributes of a file in a host tree or of an open one, and the mount it is on", BENEATH;
    fstatfs, Always, "statfs(2) of the guest on a host tree";
    lseek, Always, "positions of standard streams, holes of host files and of guest memory";
    getdents64, Always, "entries of a directory in a host tree";
    readlinkat, Always, "the text of a symbolic link in a host tree", BENEATH;
    fgetxattr, Always, "extended attributes, among them file capabilities, in a host tree";
    flistxattr, Always, "names of extended attributes in a host tree";
    fcntl, Always, "duplicates of descriptors, status flags", DESCRIPTOR_COMMANDS;
    fallocate, Always, "giving freed guest memory back; fallocate(2) of the guest";
    fsync, Always, "fsync(2) of the guest";
    mmap, Always, "memory of Amber itself, windows to guest memory", NOT_EXECUTABLE;
    mprotect, Always, "guard pages of threads, growth of the heap", NOT_EXECUTABLE;
    munmap, Always, "memory given back";
    mremap, Always, "growth of large buffers", MAY_MOVE;
    madvise, Always, "memory given back", GIVE_BACK;
    brk, Always, "the heap";
    futex, Always, "locks, waiting", FUTEX;
    clone, Always, "a host thread for each guest thread", THREAD;
    rseq, Always, "start of a thread";
    sigaltstack, Always, "start of a thread: a stack to notice overflow of its own";
    rt_sigprocmask, Always, "signals held back while a thread starts";
    rt_sigaction, Always, "what follows a stack overflow or an abort";
    rt_sigreturn, Always, "the end of a signal handler";
    prctl, Always, "names of threads", NAME_OF_THREAD;
    gettid, Always, "which thread this is";
    getpid, Always, "which process this is";
    exit, Always, "the end of a thread";
    exit_group, Always, "the end of the sandbox";
    tgkill, Always, "leaving guest code to look at a signal; an abort; stopping with the guest", TO_ITSELF;
    restart_syscall, Always, "a wait goes on after a stop";
    sched_yield, Always, "spinning politely";
    clock_gettime, Always, "clocks that the host's vDSO does not support";
    getrandom, Always, "random numbers, seeds of hash tables";
    epoll_create1, Always, "waiting for standard streams and terminals";
    epoll_ctl, Always, "waiting for standard streams and terminals";
    epoll_pwait, Always, "waiting for standard streams and terminals";
    eventfd2, Always, "waking a task that waits for a standard stream, terminal or socket";
    ppoll, Always, "whether a standard stream or terminal is ready";
    ioctl, Always, "the caller's terminal: modes, size, queues", TERMINALS;

    ftruncate, HandedFiles, "the size of a file the guest has as standard stream";
    fdatasync, HandedFiles, "fdatasync(2) of the guest on a standard stream";

    openat, WritableFiles, "a file of a host tree that the guest makes or changes", BENEATH;
    ftruncate, WritableFiles, "the size of a file";
    utimensat, WritableFiles, "time stamps of a file", BENEATH;
    fdatasync, WritableFiles, "fdatasync(2) of the guest";
    mkdirat, WritableFiles, "a directory made by the guest", BENEATH;
    mknodat, WritableFiles, "a fifo, a socket or the mark of a removed file made by the guest", NODES;
    symlinkat, WritableFiles, "a symbolic link made by the guest", BENEATH_SECOND;
    linkat, WritableFiles, "a further name of a file", BETWEEN;
    unlinkat, WritableFiles, "a name removed by the guest", BENEATH;
    renameat2, WritableFiles, "a name moved by the guest", BETWEEN;
    fchownat, WritableFiles, "owner and group of a file", BENEATH;
    fchmodat2, WritableFiles, "permissions of a file", BENEATH;
    fchmodat, WritableFiles, "permissions of a file, on hosts without fchmodat2", BENEATH;
    fsetxattr, WritableFiles, "an extended attribute";
    fremovexattr, WritableFiles, "an extended attribute";

    socket, Network, "a socket of the guest, questions about interfaces and routes", INTERNET;
    bind, Network, "bind(2) of the guest";
    connect, Network, "connect(2) of the guest";
    listen, Network, "listen(2) of the guest";
    accept4, Network, "accept(2) of the guest";
    getsockname, Network, "getsockname(2) of the guest";
    getpeername, Network, "getpeername(2) of the guest";
    sendmsg, Network, "messages sent by the guest";
    recvmsg, Network, "messages received by the guest";
    shutdown, Network, "shutdown(2) of the guest";
    getsockopt, Network, "options of the guest's sockets", OPTION_LEVELS;
    setsockopt, Network, "options of the guest's sockets", OPTION_LEVELS;
    ioctl, Network, "queues of sockets, questions about interfaces", NETWORK_QUESTIONS;

    openat, OwnNetwork, "a parameter of the network that the guest sets", BENEATH;
    socket, OwnNetwork, "a packet socket of the guest", PACKETS;
    getsockopt, OwnNetwork, "options of packet sockets", PACKET_OPTIONS;
    setsockopt, OwnNetwork, "options of packet sockets", PACKET_OPTIONS;

    accept4, Control, "a command of the runtime";
    recvmsg, Control, "a command, with descriptors";
    sendmsg, Control, "an answer";
    getsockopt, Control, "credentials of the connecting command", SOCKET_OPTIONS;
    setsockopt, Control, "how long a command may take", SOCKET_OPTIONS;
    ioctl, Control, "a connection that does not wait", WITHOUT_WAITING;
    prctl, Control, "outliving the process that made the sandbox", DEATH_OF_PARENT;
    shutdown, Control, "the end of a command";
    pipe2, Control, "waking the thread that waits for a command";
};
