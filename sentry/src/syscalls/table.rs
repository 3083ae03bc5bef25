//! The table of system calls, with one line per call. Everything else about calls is derived from it.

use amber_abi::errno::Errno;
use amber_abi::futex::{Futex2Flags, FutexOp};
use amber_abi::inotify::{InotifyInitFlags, InotifyMask};
use amber_abi::ipc::{IpcFlags, KeyctlOperation, MsgCommand, SemCommand, ShmAttachFlags, ShmCommand, ShmFlags};
use amber_abi::mm::{
    GetMempolicyFlags, MbindFlags, MemoryAdvice, MemoryPolicy, MlockFlags, MlockallFlags, MmapFlags, MremapFlags,
    MsyncFlags, PkeyRights, ProtFlags,
};
use amber_abi::mount::{
    FsconfigCommand, FsmountFlags, FsopenFlags, FspickFlags, MountAttributes, MountFlags, MoveMountFlags,
    OpenTreeFlags, QuotactlCommand, UmountFlags,
};
use amber_abi::open::{
    AccessFlags, AccessMode, AtFlags, CloseRangeFlags, FallocateMode, FcntlCommand, FileAdvice, FlockOperation,
    HandleFlags, KcmpType, MemfdFlags, OpenFlags, OpenHow, RenameFlags, RwFlags, SpliceFlags, SyncFileRangeFlags,
    UnlinkFlags, Whence,
};
use amber_abi::poll::{EpollCreateFlags, EpollEvent, EpollOp, EventfdFlags, PipeFlags, SignalfdFlags};
use amber_abi::prctl::{ArchPrctl, PrctlOption};
use amber_abi::ptrace::PtraceRequest;
use amber_abi::sched::{MembarrierCommand, SchedParam, SchedPolicy};
use amber_abi::seccomp::{SeccompFlags, SeccompOperation};
use amber_abi::siginfo::SigInfo;
use amber_abi::signal::{SigAction, SigEvent, SigHow, SignalSet, StackT};
use amber_abi::socket::{AddressFamily, MessageFlags, ShutdownHow, SocketFlags, SocketType};
use amber_abi::sockopt::SocketLevel;
use amber_abi::stat::{Stat, StatFs, Statx, StatxMask};
use amber_abi::task::{
    CloneArgs, CloneFlags, GetrandomFlags, IoprioWho, Personality, PidfdFlags, PidfdSignalFlags, PriorityWhich, RLimit,
    RebootCommand, Resource, Rusage, RusageWho, SyslogAction, Utsname, WaitIdType, WaitOptions,
};
use amber_abi::time::{
    ClockId, ItimerWhich, Itimerspec, Itimerval, TimerFlags, TimerfdFlags, TimerfdSetFlags, Timespec, Timeval, Timex,
    Timezone,
};
use amber_abi::xattr::XattrFlags;

use super::args::*;
use super::dispatch::{Entry, Parameter};

/// A line: x86-64 number, i386 number or `-`, name and typed parameters, handler or `!` with the errno of a Linux
/// without the feature, and the releases with the call (`since..until`, either may be empty). `as partial("what is
/// missing")` follows the handler of an incomplete call.
macro_rules! table {
    ($($number:literal, $i386:tt, $name:ident($($arg:ident: $kind:ty),*) => $(! $errno:ident)? $($handler:path $(as partial($missing:literal))?)?,
        $since:literal..$until:literal;)*) => {
        pub(super) static TABLE: &[Entry] = &[$(
            Entry {
                number: $number,
                i386: table!(@i386 $i386),
                name: stringify!($name),
                parameters: &[$(Parameter {
                    name: stringify!($arg),
                    kind: stringify!($kind),
                    is_out: <$kind as Argument>::OUT,
                    show: <$kind as Argument>::show,
                }),*],
                handler: table!(@handler $($errno)? $($handler)?; $($kind),*),
                missing: concat!($($($missing)?)?),
                releases: ($since, $until),
            },
        )*];
    };
    (@i386 -) => { None };
    (@i386 $number:literal) => { Some($number) };
    (@handler $errno:ident; $($kind:ty),*) => { Err(Errno::$errno) };
    (@handler $handler:path; ) => { Ok(|ctx, _| $handler(ctx)) };
    (@handler $handler:path; $($kind:ty),+) => {
        Ok(|ctx, raw| {
            let mut raw = raw.into_iter();
            $handler(ctx, $(<$kind as Argument>::from_raw(raw.next().unwrap_or_default())),+)
        })
    };
}

table! {
    0, 3, read(fd: Fd, buf: BufOut, count: usize) => super::fs::rw::read, "".."";
    1, 4, write(fd: Fd, buf: BufIn, count: usize) => super::fs::rw::write, "".."";
    2, 5, open(pathname: Path, flags: OpenFlags, mode: FileMode) => super::fs::open::open, "".."";
    3, 6, close(fd: Fd) => super::fs::descriptor::close, "".."";
    4, 195, stat(pathname: Path, statbuf: Out<Stat>) => super::fs::stat::stat, "".."";
    5, 197, fstat(fd: Fd, statbuf: Out<Stat>) => super::fs::stat::fstat, "".."";
    6, 196, lstat(pathname: Path, statbuf: Out<Stat>) => super::fs::stat::lstat, "".."";
    7, 168, poll(fds: Pollfds, nfds: u32, timeout: i32) => super::fs::poll::poll, "".."";
    8, 19, lseek(fd: Fd, offset: i64, whence: Whence) => super::fs::descriptor::lseek, "".."";
    9, 192, mmap(addr: PtrIn, length: usize, prot: ProtFlags, flags: MmapFlags, fd: Fd, offset: u64) => super::mm::mapping::mmap as partial("MAP_HUGETLB"), "".."";
    10, 125, mprotect(addr: PtrIn, len: usize, prot: ProtFlags) => super::mm::protection::mprotect, "".."";
    11, 91, munmap(addr: PtrIn, length: usize) => super::mm::mapping::munmap, "".."";
    12, 45, brk(addr: PtrIn) => super::mm::mapping::brk, "".."";
    13, 174, rt_sigaction(signum: SignalNumber, act: In<SigAction>, oldact: Out<SigAction>, sigsetsize: usize) => super::signal::action::rt_sigaction, "".."";
    14, 175, rt_sigprocmask(how: SigHow, set: In<SignalSet>, oldset: Out<SignalSet>, sigsetsize: usize) => super::signal::mask::rt_sigprocmask, "".."";
    15, 173, rt_sigreturn() => super::signal::action::rt_sigreturn, "".."";
    16, 54, ioctl(fd: Fd, request: IoctlRequest, argp: PtrOut) => super::fs::ioctl::ioctl, "".."";
    17, 180, pread64(fd: Fd, buf: BufOut, count: usize, offset: i64) => super::fs::rw::pread64, "".."";
    18, 181, pwrite64(fd: Fd, buf: BufIn, count: usize, offset: i64) => super::fs::rw::pwrite64, "".."";
    19, 145, readv(fd: Fd, iov: IovecOut, iovcnt: usize) => super::fs::rw::readv, "".."";
    20, 146, writev(fd: Fd, iov: IovecIn, iovcnt: usize) => super::fs::rw::writev, "".."";
    21, 33, access(pathname: Path, mode: AccessMode) => super::fs::stat::access, "".."";
    22, 42, pipe(pipefd: FdPair) => super::fs::pipe::pipe, "".."";
    23, 142, select(nfds: i32, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: In<Timeval>) => super::fs::select::select, "".."";
    24, 158, sched_yield() => super::task::schedule::sched_yield, "".."";
    25, 163, mremap(old_address: PtrIn, old_size: usize, new_size: usize, flags: MremapFlags, new_address: PtrIn) => super::mm::remapping::mremap, "".."";
    26, 144, msync(addr: PtrIn, length: usize, flags: MsyncFlags) => super::mm::advice::msync, "".."";
    27, 218, mincore(addr: PtrIn, length: usize, vec: PtrOut) => super::mm::advice::mincore, "".."";
    28, 219, madvise(addr: PtrIn, length: usize, advice: MemoryAdvice) => super::mm::advice::madvise, "".."";
    29, 395, shmget(key: i32, size: usize, shmflg: ShmFlags) => super::ipc::memory::shmget as partial("SHM_HUGETLB"), "".."";
    30, 397, shmat(shmid: i32, shmaddr: PtrIn, shmflg: ShmAttachFlags) => super::ipc::memory::shmat, "".."";
    31, 396, shmctl(shmid: i32, cmd: ShmCommand, buf: PtrOut) => super::ipc::memory::shmctl, "".."";
    32, 41, dup(oldfd: Fd) => super::fs::descriptor::dup, "".."";
    33, 63, dup2(oldfd: Fd, newfd: Fd) => super::fs::descriptor::dup2, "".."";
    34, 29, pause() => super::signal::mask::pause, "".."";
    35, 162, nanosleep(rqtp: In<Timespec>, rmtp: Out<Timespec>) => super::time::sleep::nanosleep, "".."";
    36, 105, getitimer(which: ItimerWhich, curr_value: Out<Itimerval>) => super::time::interval::getitimer, "".."";
    37, 27, alarm(seconds: u32) => super::time::interval::alarm, "".."";
    38, 104, setitimer(which: ItimerWhich, new_value: In<Itimerval>, old_value: Out<Itimerval>) => super::time::interval::setitimer, "".."";
    39, 20, getpid() => super::task::identity::getpid, "".."";
    40, 239, sendfile(out_fd: Fd, in_fd: Fd, offset: PtrOut, count: usize) => super::fs::content::sendfile, "".."";
    41, 359, socket(domain: AddressFamily, type_: SocketType, protocol: i32) => super::net::sockets::socket, "".."";
    42, 362, connect(sockfd: Fd, addr: SockaddrIn, addrlen: i32) => super::net::sockets::connect, "".."";
    43, -, accept(sockfd: Fd, addr: SockaddrOut, addrlen: PtrOut) => super::net::sockets::accept, "".."";
    44, 369, sendto(sockfd: Fd, buf: BufIn, len: usize, flags: MessageFlags, dest_addr: SockaddrIn, addrlen: i32) => super::net::message::sendto, "".."";
    45, 371, recvfrom(sockfd: Fd, buf: BufOut, len: usize, flags: MessageFlags, src_addr: SockaddrOut, addrlen: PtrOut) => super::net::message::recvfrom, "".."";
    46, 370, sendmsg(sockfd: Fd, msg: PtrIn, flags: MessageFlags) => super::net::message::sendmsg, "".."";
    47, 372, recvmsg(sockfd: Fd, msg: PtrOut, flags: MessageFlags) => super::net::message::recvmsg, "".."";
    48, 373, shutdown(sockfd: Fd, how: ShutdownHow) => super::net::sockets::shutdown, "".."";
    49, 361, bind(sockfd: Fd, addr: SockaddrIn, addrlen: i32) => super::net::sockets::bind, "".."";
    50, 363, listen(sockfd: Fd, backlog: i32) => super::net::sockets::listen, "".."";
    51, 367, getsockname(sockfd: Fd, addr: SockaddrOut, addrlen: PtrOut) => super::net::sockets::getsockname, "".."";
    52, 368, getpeername(sockfd: Fd, addr: SockaddrOut, addrlen: PtrOut) => super::net::sockets::getpeername, "".."";
    53, 360, socketpair(domain: AddressFamily, type_: SocketType, protocol: i32, sv: FdPair) => super::net::sockets::socketpair, "".."";
    54, 366, setsockopt(sockfd: Fd, level: SocketLevel, optname: i32, optval: PtrIn, optlen: i32) => super::net::options::setsockopt, "".."";
    55, 365, getsockopt(sockfd: Fd, level: SocketLevel, optname: i32, optval: PtrOut, optlen: PtrOut) => super::net::options::getsockopt, "".."";
    56, 120, clone(flags: CloneFlags, stack: PtrIn, parent_tid: PtrOut, child_tid: PtrOut, tls: PtrIn) => super::task::clone::clone as partial("namespaces but those of mounts"), "".."";
    57, 2, fork() => super::task::clone::fork, "".."";
    58, 190, vfork() => super::task::clone::vfork, "".."";
    59, 11, execve(pathname: Path, argv: StringList, envp: Envp) => super::task::exec::execve, "".."";
    60, 1, exit(status: i32) => super::task::clone::exit, "".."";
    61, 114, wait4(pid: i32, wstatus: WaitStatusOut, options: WaitOptions, rusage: Out<Rusage>) => super::task::wait::wait4, "".."";
    62, 37, kill(pid: i32, sig: SignalNumber) => super::signal::send::kill, "".."";
    63, 122, uname(buf: Out<Utsname>) => super::task::system::uname, "".."";
    64, 393, semget(key: i32, nsems: i32, semflg: IpcFlags) => super::ipc::semaphores::semget, "".."";
    65, -, semop(semid: i32, sops: PtrIn, nsops: usize) => super::ipc::semaphores::semop, "".."";
    66, 394, semctl(semid: i32, semnum: i32, cmd: SemCommand, arg: u64) => super::ipc::semaphores::semctl, "".."";
    67, 398, shmdt(shmaddr: PtrIn) => super::ipc::memory::shmdt, "".."";
    68, 399, msgget(key: i32, msgflg: IpcFlags) => super::ipc::messages::msgget, "".."";
    69, 400, msgsnd(msqid: i32, msgp: PtrIn, msgsz: usize, msgflg: IpcFlags) => super::ipc::messages::msgsnd, "".."";
    70, 401, msgrcv(msqid: i32, msgp: PtrOut, msgsz: usize, msgtyp: i64, msgflg: IpcFlags) => super::ipc::messages::msgrcv, "".."";
    71, 402, msgctl(msqid: i32, cmd: MsgCommand, buf: PtrOut) => super::ipc::messages::msgctl, "".."";
    72, 221, fcntl(fd: Fd, cmd: FcntlCommand, arg: u64) => super::fs::fcntl::fcntl as partial("F_NOTIFY"), "".."";
    73, 143, flock(fd: Fd, operation: FlockOperation) => super::fs::fcntl::flock, "".."";
    74, 118, fsync(fd: Fd) => super::fs::content::fsync, "".."";
    75, 148, fdatasync(fd: Fd) => super::fs::content::fdatasync, "".."";
    76, 92, truncate(path: Path, length: i64) => super::fs::content::truncate, "".."";
    77, 93, ftruncate(fd: Fd, length: i64) => super::fs::content::ftruncate, "".."";
    78, 141, getdents(fd: Fd, dirp: PtrOut, count: u32) => super::fs::directory::getdents, "".."";
    79, 183, getcwd(buf: StrOut, size: usize) => super::fs::directory::getcwd, "".."";
    80, 12, chdir(path: Path) => super::fs::directory::chdir, "".."";
    81, 133, fchdir(fd: Fd) => super::fs::directory::fchdir, "".."";
    82, 38, rename(oldpath: Path, newpath: Path) => super::fs::names::rename, "".."";
    83, 39, mkdir(pathname: Path, mode: FileMode) => super::fs::names::mkdir, "".."";
    84, 40, rmdir(pathname: Path) => super::fs::names::rmdir, "".."";
    85, 8, creat(pathname: Path, mode: FileMode) => super::fs::open::creat, "".."";
    86, 9, link(oldpath: Path, newpath: Path) => super::fs::names::link, "".."";
    87, 10, unlink(pathname: Path) => super::fs::names::unlink, "".."";
    88, 83, symlink(target: Path, linkpath: Path) => super::fs::names::symlink, "".."";
    89, 85, readlink(pathname: Path, buf: BufOut, bufsiz: i32) => super::fs::stat::readlink, "".."";
    90, 15, chmod(pathname: Path, mode: FileMode) => super::fs::attributes::chmod, "".."";
    91, 94, fchmod(fd: Fd, mode: FileMode) => super::fs::attributes::fchmod, "".."";
    92, 212, chown(pathname: Path, owner: u32, group: u32) => super::fs::attributes::chown, "".."";
    93, 207, fchown(fd: Fd, owner: u32, group: u32) => super::fs::attributes::fchown, "".."";
    94, 198, lchown(pathname: Path, owner: u32, group: u32) => super::fs::attributes::lchown, "".."";
    95, 60, umask(mask: FileMode) => super::fs::directory::umask, "".."";
    96, 78, gettimeofday(tv: Out<Timeval>, tz: Out<Timezone>) => super::time::clock::gettimeofday, "".."";
    97, 191, getrlimit(resource: Resource, rlim: Out<RLimit>) => super::task::limits::getrlimit, "".."";
    98, 77, getrusage(who: RusageWho, usage: Out<Rusage>) => super::task::usage::getrusage, "".."";
    99, 116, sysinfo(info: PtrOut) => super::task::system::sysinfo, "".."";
    100, 43, times(buf: PtrOut) => super::task::usage::times, "".."";
    101, 26, ptrace(request: PtraceRequest, pid: i32, addr: PtrIn, data: PtrOut) => !EPERM, "".."";
    102, 199, getuid() => super::task::credentials::getuid, "".."";
    103, 103, syslog(type_: SyslogAction, bufp: BufOut, len: i32) => !ENOSYS, "".."";
    104, 200, getgid() => super::task::credentials::getgid, "".."";
    105, 213, setuid(uid: u32) => super::task::credentials::setuid, "".."";
    106, 214, setgid(gid: u32) => super::task::credentials::setgid, "".."";
    107, 201, geteuid() => super::task::credentials::geteuid, "".."";
    108, 202, getegid() => super::task::credentials::getegid, "".."";
    109, 57, setpgid(pid: i32, pgid: i32) => super::task::identity::setpgid, "".."";
    110, 64, getppid() => super::task::identity::getppid, "".."";
    111, 65, getpgrp() => super::task::identity::getpgrp, "".."";
    112, 66, setsid() => super::task::identity::setsid, "".."";
    113, 203, setreuid(ruid: u32, euid: u32) => super::task::credentials::setreuid, "".."";
    114, 204, setregid(rgid: u32, egid: u32) => super::task::credentials::setregid, "".."";
    115, 205, getgroups(size: i32, list: PtrOut) => super::task::credentials::getgroups, "".."";
    116, 206, setgroups(size: i32, list: PtrIn) => super::task::credentials::setgroups, "".."";
    117, 208, setresuid(ruid: u32, euid: u32, suid: u32) => super::task::credentials::setresuid, "".."";
    118, 209, getresuid(ruid: PtrOut, euid: PtrOut, suid: PtrOut) => super::task::credentials::getresuid, "".."";
    119, 210, setresgid(rgid: u32, egid: u32, sgid: u32) => super::task::credentials::setresgid, "".."";
    120, 211, getresgid(rgid: PtrOut, egid: PtrOut, sgid: PtrOut) => super::task::credentials::getresgid, "".."";
    121, 132, getpgid(pid: i32) => super::task::identity::getpgid, "".."";
    122, 215, setfsuid(fsuid: u32) => super::task::credentials::setfsuid, "".."";
    123, 216, setfsgid(fsgid: u32) => super::task::credentials::setfsgid, "".."";
    124, 147, getsid(pid: i32) => super::task::identity::getsid, "".."";
    125, 184, capget(hdrp: PtrOut, datap: PtrOut) => super::task::capability::capget, "".."";
    126, 185, capset(hdrp: PtrOut, datap: PtrIn) => super::task::capability::capset, "".."";
    127, 176, rt_sigpending(set: Out<SignalSet>, sigsetsize: usize) => super::signal::mask::rt_sigpending, "".."";
    128, 177, rt_sigtimedwait(set: In<SignalSet>, info: Out<SigInfo>, timeout: In<Timespec>, sigsetsize: usize) => super::signal::mask::rt_sigtimedwait, "".."";
    129, 178, rt_sigqueueinfo(tgid: i32, sig: SignalNumber, info: In<SigInfo>) => super::signal::send::rt_sigqueueinfo, "".."";
    130, 179, rt_sigsuspend(mask: In<SignalSet>, sigsetsize: usize) => super::signal::mask::rt_sigsuspend, "".."";
    131, 186, sigaltstack(ss: In<StackT>, old_ss: Out<StackT>) => super::signal::action::sigaltstack, "".."";
    132, 30, utime(filename: Path, times: PtrIn) => super::fs::attributes::utime, "".."";
    133, 14, mknod(pathname: Path, mode: FileMode, dev: DeviceNumber) => super::fs::names::mknod, "".."";
    134, 86, uselib(library: Path) => !ENOSYS, "".."1.0";
    135, 136, personality(persona: Personality) => super::task::prctl::personality, "".."";
    136, 62, ustat(dev: DeviceNumber, ubuf: PtrOut) => super::fs::stat::ustat, "".."";
    137, 99, statfs(path: Path, buf: Out<StatFs>) => super::fs::stat::statfs, "".."";
    138, 100, fstatfs(fd: Fd, buf: Out<StatFs>) => super::fs::stat::fstatfs, "".."";
    139, 135, sysfs(option: i32, arg1: u64, arg2: u64) => !ENOSYS, "".."";
    140, 96, getpriority(which: PriorityWhich, who: i32) => super::task::schedule::getpriority, "".."";
    141, 97, setpriority(which: PriorityWhich, who: i32, prio: i32) => super::task::schedule::setpriority as partial("effect on the host's scheduler"), "".."";
    142, 154, sched_setparam(pid: i32, param: In<SchedParam>) => super::task::schedule::sched_setparam as partial("effect on the host's scheduler"), "".."";
    143, 155, sched_getparam(pid: i32, param: Out<SchedParam>) => super::task::schedule::sched_getparam, "".."";
    144, 156, sched_setscheduler(pid: i32, policy: SchedPolicy, param: In<SchedParam>) => super::task::schedule::sched_setscheduler as partial("effect on the host's scheduler"), "".."";
    145, 157, sched_getscheduler(pid: i32) => super::task::schedule::sched_getscheduler, "".."";
    146, 159, sched_get_priority_max(policy: SchedPolicy) => super::task::schedule::sched_get_priority_max, "".."";
    147, 160, sched_get_priority_min(policy: SchedPolicy) => super::task::schedule::sched_get_priority_min, "".."";
    148, 161, sched_rr_get_interval(pid: i32, tp: Out<Timespec>) => super::task::schedule::sched_rr_get_interval, "".."";
    149, 150, mlock(addr: PtrIn, len: usize) => super::mm::locking::mlock, "".."";
    150, 151, munlock(addr: PtrIn, len: usize) => super::mm::locking::munlock, "".."";
    151, 152, mlockall(flags: MlockallFlags) => super::mm::locking::mlockall, "".."";
    152, 153, munlockall() => super::mm::locking::munlockall, "".."";
    153, 111, vhangup() => super::task::identity::vhangup, "".."";
    154, 123, modify_ldt(func: i32, ptr: PtrOut, bytecount: u64) => !ENOSYS, "".."";
    155, 217, pivot_root(new_root: Path, put_old: Path) => super::fs::mount::pivot_root, "".."";
    156, 149, _sysctl(args: PtrOut) => !ENOSYS, "".."5.5";
    157, 172, prctl(option: PrctlOption, arg2: u64, arg3: u64, arg4: u64, arg5: u64) => super::task::prctl::prctl as partial("PR_SET_PTRACER, PR_SET_SYSCALL_USER_DISPATCH, PR_SCHED_CORE, PR_SET_MEMORY_MERGE, PR_TASK_PERF_EVENTS_*"), "".."";
    158, 384, arch_prctl(code: ArchPrctl, addr: PtrOut) => super::task::prctl::arch_prctl as partial("shadow stacks, address tags, ARCH_REQ_XCOMP_PERM"), "".."";
    159, 124, adjtimex(buf: Out<Timex>) => super::time::adjust::adjtimex, "".."";
    160, 75, setrlimit(resource: Resource, rlim: In<RLimit>) => super::task::limits::setrlimit, "".."";
    161, 61, chroot(path: Path) => super::fs::directory::chroot, "".."";
    162, 36, sync() => super::fs::content::sync, "".."";
    163, 51, acct(filename: Path) => !ENOSYS, "".."";
    164, 79, settimeofday(tv: In<Timeval>, tz: In<Timezone>) => super::time::clock::settimeofday, "".."";
    165, 21, mount(source: Path, target: Path, filesystemtype: Str, mountflags: MountFlags, data: PtrIn) => super::fs::mount::mount, "".."";
    166, 52, umount2(target: Path, flags: UmountFlags) => super::fs::mount::umount2, "".."";
    167, 87, swapon(path: Path, swapflags: i32) => !ENOSYS, "".."";
    168, 115, swapoff(path: Path) => !ENOSYS, "".."";
    169, 88, reboot(magic: u32, magic2: u32, cmd: RebootCommand, arg: PtrIn) => !EPERM, "".."";
    170, 74, sethostname(name: BufIn, len: i32) => super::task::system::sethostname, "".."";
    171, 121, setdomainname(name: BufIn, len: i32) => super::task::system::setdomainname, "".."";
    172, 110, iopl(level: u32) => !ENOSYS, "".."";
    173, 101, ioperm(from: u64, num: u64, turn_on: i32) => !ENOSYS, "".."";
    174, 127, create_module(name: Str, size: usize) => !ENOSYS, "".."2.6";
    175, 128, init_module(module_image: PtrIn, len: u64, param_values: Str) => !ENOSYS, "".."";
    176, 129, delete_module(name: Str, flags: OpenFlags) => !ENOSYS, "".."";
    177, 130, get_kernel_syms(table: PtrOut) => !ENOSYS, "".."2.6";
    178, 167, query_module(name: Str, which: i32, buf: PtrOut, bufsize: usize, ret: PtrOut) => !ENOSYS, "".."2.6";
    179, 131, quotactl(cmd: QuotactlCommand, special: Path, id: i32, addr: PtrOut) => !ENOSYS, "".."";
    180, 169, nfsservctl(cmd: i32, argp: PtrIn, resp: PtrOut) => !ENOSYS, "".."3.1";
    181, 188, getpmsg() => !ENOSYS, "".."1.0";
    182, 189, putpmsg() => !ENOSYS, "".."1.0";
    183, 137, afs_syscall() => !ENOSYS, "".."1.0";
    184, -, tuxcall() => !ENOSYS, "".."1.0";
    185, -, security() => !ENOSYS, "".."1.0";
    186, 224, gettid() => super::task::identity::gettid, "2.4.11".."";
    187, 225, readahead(fd: Fd, offset: i64, count: usize) => super::fs::content::readahead, "2.4.13".."";
    188, 226, setxattr(path: Path, name: Str, value: BufIn, size: usize, flags: XattrFlags) => super::fs::xattr::setxattr, "2.4".."";
    189, 227, lsetxattr(path: Path, name: Str, value: BufIn, size: usize, flags: XattrFlags) => super::fs::xattr::lsetxattr, "2.4".."";
    190, 228, fsetxattr(fd: Fd, name: Str, value: BufIn, size: usize, flags: XattrFlags) => super::fs::xattr::fsetxattr, "2.4".."";
    191, 229, getxattr(path: Path, name: Str, value: BufOut, size: usize) => super::fs::xattr::getxattr, "2.4".."";
    192, 230, lgetxattr(path: Path, name: Str, value: BufOut, size: usize) => super::fs::xattr::lgetxattr, "2.4".."";
    193, 231, fgetxattr(fd: Fd, name: Str, value: BufOut, size: usize) => super::fs::xattr::fgetxattr, "2.4".."";
    194, 232, listxattr(path: Path, list: BufOut, size: usize) => super::fs::xattr::listxattr, "2.4".."";
    195, 233, llistxattr(path: Path, list: BufOut, size: usize) => super::fs::xattr::llistxattr, "2.4".."";
    196, 234, flistxattr(fd: Fd, list: BufOut, size: usize) => super::fs::xattr::flistxattr, "2.4".."";
    197, 235, removexattr(path: Path, name: Str) => super::fs::xattr::removexattr, "2.4".."";
    198, 236, lremovexattr(path: Path, name: Str) => super::fs::xattr::lremovexattr, "2.4".."";
    199, 237, fremovexattr(fd: Fd, name: Str) => super::fs::xattr::fremovexattr, "2.4".."";
    200, 238, tkill(tid: i32, sig: SignalNumber) => super::signal::send::tkill, "2.4.19".."";
    201, 13, time(tloc: Out<i64>) => super::time::clock::time, "".."";
    202, 240, futex(uaddr: PtrOut, futex_op: FutexOp, val: u32, timeout: In<Timespec>, uaddr2: PtrOut, val3: u32) => super::task::futex::futex, "2.6".."";
    203, 241, sched_setaffinity(pid: i32, cpusetsize: u32, mask: PtrIn) => super::task::schedule::sched_setaffinity as partial("effect on the host's scheduler"), "2.6".."";
    204, 242, sched_getaffinity(pid: i32, cpusetsize: u32, mask: PtrOut) => super::task::schedule::sched_getaffinity, "2.6".."";
    205, 243, set_thread_area(u_info: PtrOut) => !ENOSYS, "".."1.0";
    206, 245, io_setup(nr_events: u32, ctx_idp: PtrOut) => super::fs::aio::io_setup, "2.6".."";
    207, 246, io_destroy(ctx_id: u64) => super::fs::aio::io_destroy, "2.6".."";
    208, 247, io_getevents(ctx_id: u64, min_nr: i64, nr: i64, events: PtrOut, timeout: In<Timespec>) => super::fs::aio::io_getevents, "2.6".."";
    209, 248, io_submit(ctx_id: u64, nr: i64, iocbpp: PtrIn) => super::fs::aio::io_submit as partial("IOCB_CMD_POLL"), "2.6".."";
    210, 249, io_cancel(ctx_id: u64, iocb: PtrIn, result: PtrOut) => super::fs::aio::io_cancel, "2.6".."";
    211, 244, get_thread_area(u_info: PtrOut) => !ENOSYS, "".."1.0";
    212, 253, lookup_dcookie(cookie: u64, buffer: BufOut, len: usize) => !ENOSYS, "2.6".."5.12";
    213, 254, epoll_create(size: i32) => super::fs::epoll::epoll_create, "2.6".."";
    214, -, epoll_ctl_old() => !ENOSYS, "".."1.0";
    215, -, epoll_wait_old() => !ENOSYS, "".."1.0";
    216, 257, remap_file_pages(addr: PtrIn, size: usize, prot: ProtFlags, pgoff: usize, flags: MmapFlags) => super::mm::mapping::remap_file_pages, "2.6".."";
    217, 220, getdents64(fd: Fd, dirp: PtrOut, count: u32) => super::fs::directory::getdents64, "2.4".."";
    218, 258, set_tid_address(tidptr: PtrOut) => super::task::clone::set_tid_address, "2.6".."";
    219, 0, restart_syscall() => super::signal::restart::restart_syscall, "2.6".."";
    220, -, semtimedop(semid: i32, sops: PtrIn, nsops: usize, timeout: In<Timespec>) => super::ipc::semaphores::semtimedop, "2.6".."";
    221, 250, fadvise64(fd: Fd, offset: i64, len: i64, advice: FileAdvice) => super::fs::content::fadvise64, "2.6".."";
    222, 259, timer_create(clockid: ClockId, sevp: In<SigEvent>, timerid: Out<i32>) => super::time::posix::timer_create, "2.6".."";
    223, 260, timer_settime(timerid: i32, flags: TimerFlags, new_value: In<Itimerspec>, old_value: Out<Itimerspec>) => super::time::posix::timer_settime, "2.6".."";
    224, 261, timer_gettime(timerid: i32, curr_value: Out<Itimerspec>) => super::time::posix::timer_gettime, "2.6".."";
    225, 262, timer_getoverrun(timerid: i32) => super::time::posix::timer_getoverrun, "2.6".."";
    226, 263, timer_delete(timerid: i32) => super::time::posix::timer_delete, "2.6".."";
    227, 264, clock_settime(clockid: ClockId, tp: In<Timespec>) => super::time::clock::clock_settime, "2.6".."";
    228, 265, clock_gettime(clockid: ClockId, tp: Out<Timespec>) => super::time::clock::clock_gettime, "2.6".."";
    229, 266, clock_getres(clockid: ClockId, res: Out<Timespec>) => super::time::clock::clock_getres, "2.6".."";
    230, 267, clock_nanosleep(clockid: ClockId, flags: TimerFlags, request: In<Timespec>, remain: Out<Timespec>) => super::time::sleep::clock_nanosleep, "2.6".."";
    231, 252, exit_group(status: i32) => super::task::clone::exit_group, "2.6".."";
    232, 256, epoll_wait(epfd: Fd, events: PtrOut, maxevents: i32, timeout: i32) => super::fs::epoll::epoll_wait, "2.6".."";
    233, 255, epoll_ctl(epfd: Fd, op: EpollOp, fd: Fd, event: In<EpollEvent>) => super::fs::epoll::epoll_ctl, "2.6".."";
    234, 270, tgkill(tgid: i32, tid: i32, sig: SignalNumber) => super::signal::send::tgkill, "2.6".."";
    235, 271, utimes(filename: Path, times: In<[Timeval; 2]>) => super::fs::attributes::utimes, "2.6".."";
    236, 273, vserver() => !ENOSYS, "".."1.0";
    237, 274, mbind(addr: PtrIn, len: u64, mode: MemoryPolicy, nodemask: PtrIn, maxnode: u64, flags: MbindFlags) => !ENOSYS, "2.6.7".."";
    238, 276, set_mempolicy(mode: MemoryPolicy, nodemask: PtrIn, maxnode: u64) => !ENOSYS, "2.6.7".."";
    239, 275, get_mempolicy(mode: PtrOut, nodemask: PtrOut, maxnode: u64, addr: PtrIn, flags: GetMempolicyFlags) => !ENOSYS, "2.6.7".."";
    240, 277, mq_open(name: Str, oflag: OpenFlags, mode: FileMode, attr: PtrIn) => super::fs::mqueue::mq_open, "2.6.6".."";
    241, 278, mq_unlink(name: Str) => super::fs::mqueue::mq_unlink, "2.6.6".."";
    242, 279, mq_timedsend(mqdes: Fd, msg_ptr: BufIn, msg_len: usize, msg_prio: u32, abs_timeout: In<Timespec>) => super::fs::mqueue::mq_timedsend, "2.6.6".."";
    243, 280, mq_timedreceive(mqdes: Fd, msg_ptr: BufOut, msg_len: usize, msg_prio: PtrOut, abs_timeout: In<Timespec>) => super::fs::mqueue::mq_timedreceive, "2.6.6".."";
    244, 281, mq_notify(mqdes: Fd, sevp: PtrIn) => super::fs::mqueue::mq_notify, "2.6.6".."";
    245, 282, mq_getsetattr(mqdes: Fd, newattr: PtrIn, oldattr: PtrOut) => super::fs::mqueue::mq_getsetattr, "2.6.6".."";
    246, 283, kexec_load(entry: PtrIn, nr_segments: u64, segments: PtrIn, flags: u64) => !ENOSYS, "2.6.13".."";
    247, 284, waitid(idtype: WaitIdType, id: i32, infop: Out<SigInfo>, options: WaitOptions, rusage: Out<Rusage>) => super::task::wait::waitid, "2.6.9".."";
    248, 286, add_key(type_: Str, description: Str, payload: BufIn, plen: usize, keyring: i32) => !ENOSYS, "2.6.10".."";
    249, 287, request_key(type_: Str, description: Str, callout_info: Str, dest_keyring: i32) => !ENOSYS, "2.6.10".."";
    250, 288, keyctl(operation: KeyctlOperation, arg2: u64, arg3: u64, arg4: u64, arg5: u64) => !ENOSYS, "2.6.10".."";
    251, 289, ioprio_set(which: IoprioWho, who: i32, ioprio: i32) => super::task::schedule::ioprio_set as partial("effect on the host's scheduler"), "2.6.13".."";
    252, 290, ioprio_get(which: IoprioWho, who: i32) => super::task::schedule::ioprio_get, "2.6.13".."";
    253, 291, inotify_init() => super::fs::inotify::inotify_init, "2.6.13".."";
    254, 292, inotify_add_watch(fd: Fd, pathname: Path, mask: InotifyMask) => super::fs::inotify::inotify_add_watch, "2.6.13".."";
    255, 293, inotify_rm_watch(fd: Fd, wd: i32) => super::fs::inotify::inotify_rm_watch, "2.6.13".."";
    256, 294, migrate_pages(pid: i32, maxnode: u64, old_nodes: PtrIn, new_nodes: PtrIn) => !ENOSYS, "2.6.16".."";
    257, 295, openat(dirfd: DirFd, pathname: Path, flags: OpenFlags, mode: FileMode) => super::fs::open::openat, "2.6.16".."";
    258, 296, mkdirat(dirfd: DirFd, pathname: Path, mode: FileMode) => super::fs::names::mkdirat, "2.6.16".."";
    259, 297, mknodat(dirfd: DirFd, pathname: Path, mode: FileMode, dev: DeviceNumber) => super::fs::names::mknodat, "2.6.16".."";
    260, 298, fchownat(dirfd: DirFd, pathname: Path, owner: u32, group: u32, flags: AtFlags) => super::fs::attributes::fchownat, "2.6.16".."";
    261, 299, futimesat(dirfd: DirFd, pathname: Path, times: In<[Timeval; 2]>) => super::fs::attributes::futimesat, "2.6.16".."";
    262, 300, newfstatat(dirfd: DirFd, pathname: Path, statbuf: Out<Stat>, flags: AtFlags) => super::fs::stat::newfstatat, "2.6.16".."";
    263, 301, unlinkat(dirfd: DirFd, pathname: Path, flags: UnlinkFlags) => super::fs::names::unlinkat, "2.6.16".."";
    264, 302, renameat(olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path) => super::fs::names::renameat, "2.6.16".."";
    265, 303, linkat(olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: AtFlags) => super::fs::names::linkat, "2.6.16".."";
    266, 304, symlinkat(target: Path, newdirfd: DirFd, linkpath: Path) => super::fs::names::symlinkat, "2.6.16".."";
    267, 305, readlinkat(dirfd: DirFd, pathname: Path, buf: BufOut, bufsiz: i32) => super::fs::stat::readlinkat, "2.6.16".."";
    268, 306, fchmodat(dirfd: DirFd, pathname: Path, mode: FileMode) => super::fs::attributes::fchmodat, "2.6.16".."";
    269, 307, faccessat(dirfd: DirFd, pathname: Path, mode: AccessMode) => super::fs::stat::faccessat, "2.6.16".."";
    270, 308, pselect6(nfds: i32, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: In<Timespec>, sigmask: PtrIn) => super::fs::select::pselect6, "2.6.16".."";
    271, 309, ppoll(fds: Pollfds, nfds: u32, tmo_p: In<Timespec>, sigmask: In<SignalSet>, sigsetsize: usize) => super::fs::poll::ppoll, "2.6.16".."";
    272, 310, unshare(flags: CloneFlags) => super::task::clone::unshare as partial("namespaces but those of mounts"), "2.6.16".."";
    273, 311, set_robust_list(head: PtrIn, len: usize) => super::task::robust::set_robust_list, "2.6.17".."";
    274, 312, get_robust_list(pid: i32, head_ptr: PtrOut, len_ptr: PtrOut) => super::task::robust::get_robust_list, "2.6.17".."";
    275, 313, splice(fd_in: Fd, off_in: PtrOut, fd_out: Fd, off_out: PtrOut, len: usize, flags: SpliceFlags) => super::fs::splice::splice, "2.6.17".."";
    276, 315, tee(fd_in: Fd, fd_out: Fd, len: usize, flags: SpliceFlags) => super::fs::splice::tee, "2.6.17".."";
    277, 314, sync_file_range(fd: Fd, offset: i64, nbytes: i64, flags: SyncFileRangeFlags) => super::fs::content::sync_file_range, "2.6.17".."";
    278, 316, vmsplice(fd: Fd, iov: IovecIn, nr_segs: usize, flags: SpliceFlags) => super::fs::splice::vmsplice, "2.6.17".."";
    279, 317, move_pages(pid: i32, count: u64, pages: PtrIn, nodes: PtrIn, status: PtrOut, flags: MbindFlags) => !ENOSYS, "2.6.18".."";
    280, 320, utimensat(dirfd: DirFd, pathname: Path, times: In<[Timespec; 2]>, flags: AtFlags) => super::fs::attributes::utimensat, "2.6.22".."";
    281, 319, epoll_pwait(epfd: Fd, events: PtrOut, maxevents: i32, timeout: i32, sigmask: In<SignalSet>, sigsetsize: usize) => super::fs::epoll::epoll_pwait, "2.6.19".."";
    282, 321, signalfd(fd: Fd, mask: In<SignalSet>, sizemask: usize) => super::fs::signalfd::signalfd, "2.6.22".."";
    283, 322, timerfd_create(clockid: ClockId, flags: TimerfdFlags) => super::fs::timerfd::timerfd_create, "2.6.25".."";
    284, 323, eventfd(initval: u32) => super::fs::eventfd::eventfd, "2.6.22".."";
    285, 324, fallocate(fd: Fd, mode: FallocateMode, offset: i64, len: i64) => super::fs::content::fallocate, "2.6.23".."";
    286, 325, timerfd_settime(fd: Fd, flags: TimerfdSetFlags, new_value: In<Itimerspec>, old_value: Out<Itimerspec>) => super::fs::timerfd::timerfd_settime, "2.6.25".."";
    287, 326, timerfd_gettime(fd: Fd, curr_value: Out<Itimerspec>) => super::fs::timerfd::timerfd_gettime, "2.6.25".."";
    288, 364, accept4(sockfd: Fd, addr: SockaddrOut, addrlen: PtrOut, flags: SocketFlags) => super::net::sockets::accept4, "2.6.28".."";
    289, 327, signalfd4(fd: Fd, mask: In<SignalSet>, sizemask: usize, flags: SignalfdFlags) => super::fs::signalfd::signalfd4, "2.6.27".."";
    290, 328, eventfd2(initval: u32, flags: EventfdFlags) => super::fs::eventfd::eventfd2, "2.6.27".."";
    291, 329, epoll_create1(flags: EpollCreateFlags) => super::fs::epoll::epoll_create1, "2.6.27".."";
    292, 330, dup3(oldfd: Fd, newfd: Fd, flags: PipeFlags) => super::fs::descriptor::dup3, "2.6.27".."";
    293, 331, pipe2(pipefd: FdPair, flags: PipeFlags) => super::fs::pipe::pipe2, "2.6.27".."";
    294, 332, inotify_init1(flags: InotifyInitFlags) => super::fs::inotify::inotify_init1, "2.6.27".."";
    295, 333, preadv(fd: Fd, iov: IovecOut, iovcnt: usize, pos_l: u64, pos_h: u64) => super::fs::rw::preadv, "2.6.30".."";
    296, 334, pwritev(fd: Fd, iov: IovecIn, iovcnt: usize, pos_l: u64, pos_h: u64) => super::fs::rw::pwritev, "2.6.30".."";
    297, 335, rt_tgsigqueueinfo(tgid: i32, tid: i32, sig: SignalNumber, info: In<SigInfo>) => super::signal::send::rt_tgsigqueueinfo, "2.6.31".."";
    298, 336, perf_event_open(attr: PtrIn, pid: i32, cpu: i32, group_fd: Fd, flags: u64) => !ENOSYS, "2.6.31".."";
    299, 337, recvmmsg(sockfd: Fd, msgvec: PtrOut, vlen: u32, flags: MessageFlags, timeout: In<Timespec>) => super::net::message::recvmmsg, "2.6.33".."";
    300, 338, fanotify_init(flags: u32, event_f_flags: OpenFlags) => !ENOSYS, "2.6.37".."";
    301, 339, fanotify_mark(fanotify_fd: Fd, flags: u32, mask: u64, dirfd: DirFd, pathname: Path) => !ENOSYS, "2.6.37".."";
    302, 340, prlimit64(pid: i32, resource: Resource, new_limit: In<RLimit>, old_limit: Out<RLimit>) => super::task::limits::prlimit64, "2.6.36".."";
    303, 341, name_to_handle_at(dirfd: DirFd, pathname: Path, handle: PtrOut, mount_id: PtrOut, flags: HandleFlags) => !ENOSYS, "2.6.39".."";
    304, 342, open_by_handle_at(mount_fd: DirFd, handle: PtrIn, flags: OpenFlags) => !ENOSYS, "2.6.39".."";
    305, 343, clock_adjtime(clk_id: ClockId, buf: Out<Timex>) => super::time::adjust::clock_adjtime, "2.6.39".."";
    306, 344, syncfs(fd: Fd) => super::fs::content::syncfs, "2.6.39".."";
    307, 345, sendmmsg(sockfd: Fd, msgvec: PtrOut, vlen: u32, flags: MessageFlags) => super::net::message::sendmmsg, "3.0".."";
    308, 346, setns(fd: Fd, nstype: CloneFlags) => super::task::clone::setns as partial("the joining of any namespace"), "3.0".."";
    309, 318, getcpu(cpu: PtrOut, node: PtrOut, tcache: PtrIn) => super::task::system::getcpu, "3.1".."";
    310, 347, process_vm_readv(pid: i32, local_iov: IovecOut, liovcnt: u64, remote_iov: PtrIn, riovcnt: u64, flags: u64) => super::mm::remote::process_vm_readv, "3.2".."";
    311, 348, process_vm_writev(pid: i32, local_iov: IovecIn, liovcnt: u64, remote_iov: PtrIn, riovcnt: u64, flags: u64) => super::mm::remote::process_vm_writev, "3.2".."";
    312, 349, kcmp(pid1: i32, pid2: i32, type_: KcmpType, idx1: u64, idx2: u64) => !ENOSYS, "3.5".."";
    313, 350, finit_module(fd: Fd, param_values: Str, flags: i32) => !ENOSYS, "3.8".."";
    314, 351, sched_setattr(pid: i32, attr: PtrIn, flags: u32) => super::task::schedule::sched_setattr as partial("effect on the host's scheduler"), "3.14".."";
    315, 352, sched_getattr(pid: i32, attr: PtrOut, size: u32, flags: u32) => super::task::schedule::sched_getattr, "3.14".."";
    316, 353, renameat2(olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: RenameFlags) => super::fs::names::renameat2, "3.15".."";
    317, 354, seccomp(operation: SeccompOperation, flags: SeccompFlags, args: PtrIn) => super::task::seccomp::seccomp as partial("SECCOMP_FILTER_FLAG_NEW_LISTENER"), "3.17".."";
    318, 355, getrandom(buf: BufOut, buflen: usize, flags: GetrandomFlags) => super::task::system::getrandom, "3.17".."";
    319, 356, memfd_create(name: Str, flags: MemfdFlags) => super::fs::memfd::memfd_create as partial("MFD_HUGETLB"), "3.17".."";
    320, -, kexec_file_load(kernel_fd: Fd, initrd_fd: Fd, cmdline_len: u64, cmdline: Str, flags: u64) => !ENOSYS, "3.17".."";
    321, 357, bpf(cmd: i32, attr: PtrOut, size: u32) => !ENOSYS, "3.18".."";
    322, 358, execveat(dirfd: DirFd, pathname: Path, argv: StringList, envp: Envp, flags: AtFlags) => super::task::exec::execveat, "3.19".."";
    323, 374, userfaultfd(flags: PipeFlags) => !ENOSYS, "4.3".."";
    324, 375, membarrier(cmd: MembarrierCommand, flags: u32, cpu_id: i32) => super::mm::barrier::membarrier as partial("MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ"), "4.3".."";
    325, 376, mlock2(addr: PtrIn, len: usize, flags: MlockFlags) => super::mm::locking::mlock2, "4.4".."";
    326, 377, copy_file_range(fd_in: Fd, off_in: PtrOut, fd_out: Fd, off_out: PtrOut, len: usize, flags: u32) => super::fs::content::copy_file_range, "4.5".."";
    327, 378, preadv2(fd: Fd, iov: IovecOut, iovcnt: usize, pos_l: u64, pos_h: u64, flags: RwFlags) => super::fs::rw::preadv2, "4.6".."";
    328, 379, pwritev2(fd: Fd, iov: IovecIn, iovcnt: usize, pos_l: u64, pos_h: u64, flags: RwFlags) => super::fs::rw::pwritev2, "4.6".."";
    329, 380, pkey_mprotect(addr: PtrIn, len: usize, prot: ProtFlags, pkey: i32) => super::mm::protection::pkey_mprotect, "4.9".."";
    330, 381, pkey_alloc(flags: u64, access_rights: PkeyRights) => super::mm::protection::pkey_alloc, "4.9".."";
    331, 382, pkey_free(pkey: i32) => super::mm::protection::pkey_free, "4.9".."";
    332, 383, statx(dirfd: DirFd, pathname: Path, flags: AtFlags, mask: StatxMask, statxbuf: Out<Statx>) => super::fs::stat::statx, "4.11".."";
    333, 385, io_pgetevents(ctx_id: u64, min_nr: i64, nr: i64, events: PtrOut, timeout: In<Timespec>, sigmask: PtrIn) => super::fs::aio::io_pgetevents, "4.18".."";
    334, 386, rseq(rseq: PtrOut, rseq_len: u32, flags: u32, sig: u32) => !ENOSYS, "4.18".."";
    335, -, uretprobe() => !ENOSYS, "6.11".."";
    424, 424, pidfd_send_signal(pidfd: Fd, sig: SignalNumber, info: In<SigInfo>, flags: PidfdSignalFlags) => super::task::pidfd::pidfd_send_signal, "5.1".."";
    425, 425, io_uring_setup(entries: u32, p: PtrOut) => !ENOSYS, "5.1".."";
    426, 426, io_uring_enter(fd: Fd, to_submit: u32, min_complete: u32, flags: u32, arg: PtrIn, argsz: usize) => !ENOSYS, "5.1".."";
    427, 427, io_uring_register(fd: Fd, opcode: u32, arg: PtrOut, nr_args: u32) => !ENOSYS, "5.1".."";
    428, 428, open_tree(dirfd: DirFd, pathname: Path, flags: OpenTreeFlags) => super::fs::mount_fd::open_tree, "5.2".."";
    429, 429, move_mount(from_dirfd: DirFd, from_pathname: Path, to_dirfd: DirFd, to_pathname: Path, flags: MoveMountFlags) => super::fs::mount_fd::move_mount as partial("MOVE_MOUNT_SET_GROUP, MOVE_MOUNT_BENEATH"), "5.2".."";
    430, 430, fsopen(fsname: Str, flags: FsopenFlags) => super::fs::mount_fd::fsopen, "5.2".."";
    431, 431, fsconfig(fd: Fd, cmd: FsconfigCommand, key: Str, value: PtrIn, aux: i32) => super::fs::mount_fd::fsconfig, "5.2".."";
    432, 432, fsmount(fd: Fd, flags: FsmountFlags, attr_flags: MountAttributes) => super::fs::mount_fd::fsmount, "5.2".."";
    433, 433, fspick(dirfd: DirFd, pathname: Path, flags: FspickFlags) => super::fs::mount_fd::fspick, "5.2".."";
    434, 434, pidfd_open(pid: i32, flags: PidfdFlags) => super::task::pidfd::pidfd_open, "5.3".."";
    435, 435, clone3(cl_args: In<CloneArgs>, size: usize) => super::task::clone::clone3 as partial("namespaces but those of mounts"), "5.3".."";
    436, 436, close_range(first: u32, last: u32, flags: CloseRangeFlags) => super::fs::descriptor::close_range, "5.9".."";
    437, 437, openat2(dirfd: DirFd, pathname: Path, how: In<OpenHow>, size: usize) => super::fs::open::openat2, "5.6".."";
    438, 438, pidfd_getfd(pidfd: Fd, targetfd: Fd, flags: u32) => super::task::pidfd::pidfd_getfd, "5.6".."";
    439, 439, faccessat2(dirfd: DirFd, pathname: Path, mode: AccessMode, flags: AccessFlags) => super::fs::stat::faccessat2, "5.8".."";
    440, 440, process_madvise(pidfd: Fd, iovec: PtrIn, vlen: usize, advice: MemoryAdvice, flags: u32) => super::mm::remote::process_madvise, "5.10".."";
    441, 441, epoll_pwait2(epfd: Fd, events: PtrOut, maxevents: i32, timeout: In<Timespec>, sigmask: In<SignalSet>, sigsetsize: usize) => super::fs::epoll::epoll_pwait2, "5.11".."";
    442, 442, mount_setattr(dirfd: DirFd, pathname: Path, flags: AtFlags, attr: PtrIn, size: usize) => super::fs::mount_fd::mount_setattr as partial("MOUNT_ATTR_IDMAP"), "5.12".."";
    443, 443, quotactl_fd(fd: Fd, cmd: QuotactlCommand, id: i32, addr: PtrOut) => !ENOSYS, "5.14".."";
    444, 444, landlock_create_ruleset(attr: PtrIn, size: usize, flags: u32) => !ENOSYS, "5.13".."";
    445, 445, landlock_add_rule(ruleset_fd: Fd, rule_type: i32, rule_attr: PtrIn, flags: u32) => !ENOSYS, "5.13".."";
    446, 446, landlock_restrict_self(ruleset_fd: Fd, flags: u32) => !ENOSYS, "5.13".."";
    447, 447, memfd_secret(flags: u32) => !ENOSYS, "5.14".."";
    448, 448, process_mrelease(pidfd: Fd, flags: u32) => !ENOSYS, "5.15".."";
    449, 449, futex_waitv(waiters: PtrIn, nr_futexes: u32, flags: u32, timeout: In<Timespec>, clockid: ClockId) => super::task::futex::futex_waitv, "5.16".."";
    450, 450, set_mempolicy_home_node(start: u64, len: u64, home_node: u64, flags: u64) => !ENOSYS, "5.17".."";
    451, 451, cachestat(fd: Fd, cstat_range: PtrIn, cstat: PtrOut, flags: u32) => !ENOSYS, "6.5".."";
    452, 452, fchmodat2(dirfd: DirFd, pathname: Path, mode: FileMode, flags: AtFlags) => super::fs::attributes::fchmodat2, "6.6".."";
    453, 453, map_shadow_stack(addr: PtrIn, size: u64, flags: u32) => !ENOSYS, "6.6".."";
    454, 454, futex_wake(uaddr: PtrIn, mask: u64, nr: i32, flags: Futex2Flags) => super::task::futex::futex_wake, "6.7".."";
    455, 455, futex_wait(uaddr: PtrIn, val: u64, mask: u64, flags: Futex2Flags, timeout: In<Timespec>, clockid: ClockId) => super::task::futex::futex_wait, "6.7".."";
    456, 456, futex_requeue(waiters: PtrIn, flags: u32, nr_wake: i32, nr_requeue: i32) => super::task::futex::futex_requeue, "6.7".."";
    457, 457, statmount(req: PtrIn, buf: PtrOut, bufsize: usize, flags: u32) => !ENOSYS, "6.8".."";
    458, 458, listmount(req: PtrIn, mnt_ids: PtrOut, nr_mnt_ids: usize, flags: u32) => !ENOSYS, "6.8".."";
    459, 459, lsm_get_self_attr(attr: u32, ctx: PtrOut, size: PtrOut, flags: u32) => !ENOSYS, "6.8".."";
    460, 460, lsm_set_self_attr(attr: u32, ctx: PtrIn, size: u32, flags: u32) => !ENOSYS, "6.8".."";
    461, 461, lsm_list_modules(ids: PtrOut, size: PtrOut, flags: u32) => !ENOSYS, "6.8".."";
    462, 462, mseal(addr: PtrIn, len: usize, flags: u64) => super::mm::protection::mseal, "6.10".."";
}
