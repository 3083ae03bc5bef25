//! Making tasks and waiting for them: clone flags, exit status, limits, usage and names.

use core::fmt;

use crate::{Signal, time::Timeval};

flag_set! {
    /// The flags of `clone` and `clone3`. In `clone`'s, the low byte is the signal sent when the child ends.
    pub struct CloneFlags: u64 {
        CLONE_NEWTIME = 0x80,
        CLONE_VM = 0x100,
        CLONE_FS = 0x200,
        CLONE_FILES = 0x400,
        CLONE_SIGHAND = 0x800,
        CLONE_PIDFD = 0x1000,
        CLONE_PTRACE = 0x2000,
        CLONE_VFORK = 0x4000,
        CLONE_PARENT = 0x8000,
        CLONE_THREAD = 0x10000,
        CLONE_NEWNS = 0x20000,
        CLONE_SYSVSEM = 0x40000,
        CLONE_SETTLS = 0x80000,
        CLONE_PARENT_SETTID = 0x100000,
        CLONE_CHILD_CLEARTID = 0x200000,
        CLONE_DETACHED = 0x400000,
        CLONE_UNTRACED = 0x800000,
        CLONE_CHILD_SETTID = 0x1000000,
        CLONE_NEWCGROUP = 0x2000000,
        CLONE_NEWUTS = 0x4000000,
        CLONE_NEWIPC = 0x8000000,
        CLONE_NEWUSER = 0x10000000,
        CLONE_NEWPID = 0x20000000,
        CLONE_NEWNET = 0x40000000,
        CLONE_IO = 0x80000000,
        CLONE_CLEAR_SIGHAND = 0x100000000,
        CLONE_INTO_CGROUP = 0x200000000,
    }
}

impl CloneFlags {
    /// The bits of `clone`'s flags that are the exit signal. One of them is [`CloneFlags::CLONE_NEWTIME`] elsewhere.
    pub const CSIGNAL: u64 = 0xff;
    /// Every flag that asks for a new namespace.
    pub const NAMESPACES: Self = Self::from_bits_retain(0x7e02_0080);

    /// Parts what `clone` was given into the flags and the exit signal's number.
    pub const fn split(self) -> (Self, i32) {
        (Self::from_bits_retain(self.bits() & !Self::CSIGNAL), (self.bits() & Self::CSIGNAL) as i32)
    }
}

impl fmt::Display for CloneFlags {
    /// As `clone` takes them: `CLONE_VM|SIGCHLD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flags, signal) = self.split();
        match Signal::from_raw(signal) {
            Some(signal) if flags.is_empty() => write!(f, "{signal}"),
            Some(signal) => {
                crate::macros::spell(f, "0", &flags)?;
                write!(f, "|{signal}")
            }
            None => crate::macros::spell(f, "0", self),
        }
    }
}

layout! {
    /// The argument of `clone3`.
    pub struct CloneArgs: 88 {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }

    /// What a task used: `struct rusage`.
    pub struct Rusage: 144 {
        ru_utime: Timeval,
        ru_stime: Timeval,
        /// In KiB.
        ru_maxrss: i64,
        ru_ixrss: i64,
        ru_idrss: i64,
        ru_isrss: i64,
        ru_minflt: i64,
        ru_majflt: i64,
        ru_nswap: i64,
        ru_inblock: i64,
        ru_oublock: i64,
        ru_msgsnd: i64,
        ru_msgrcv: i64,
        ru_nsignals: i64,
        ru_nvcsw: i64,
        ru_nivcsw: i64,
    }

    /// A limit, soft and hard: `struct rlimit64`.
    pub struct RLimit: 16 {
        rlim_cur: u64,
        rlim_max: u64,
    }

    /// What `uname` gives: six strings, each ended by a zero.
    pub struct Utsname: 390 {
        sysname: [u8; 65],
        nodename: [u8; 65],
        release: [u8; 65],
        version: [u8; 65],
        machine: [u8; 65],
        domainname: [u8; 65],
    }

    /// What `sysinfo` gives.
    pub struct Sysinfo: 112 {
        uptime: i64,
        /// In units of 1/65536.
        loads: [u64; 3],
        totalram: u64,
        freeram: u64,
        sharedram: u64,
        bufferram: u64,
        totalswap: u64,
        freeswap: u64,
        procs: u16,
        pad: u16,
        _pad0: u32,
        totalhigh: u64,
        freehigh: u64,
        /// The unit of the memory fields in bytes.
        mem_unit: u32,
        _pad1: u32,
    }

    /// What `times` gives, in ticks of a hundredth of a second.
    pub struct Tms: 32 {
        tms_utime: i64,
        tms_stime: i64,
        tms_cutime: i64,
        tms_cstime: i64,
    }
}

consts! { usize:
    /// The size of `clone_args` in Linux 5.3.
    CLONE_ARGS_SIZE_VER0 = 64,
    /// The size in Linux 5.5, with `set_tid`.
    CLONE_ARGS_SIZE_VER1 = 80,
    /// The size in Linux 5.7, with `cgroup`.
    CLONE_ARGS_SIZE_VER2 = 88,
    /// The longest of the six strings of [`Utsname`], without the zero.
    NEW_UTS_LEN = 64,
    /// The size of a task's name, with the zero.
    TASK_COMM_LEN = 16,
    /// The most supplementary groups.
    NGROUPS_MAX = 65536,
}

flags! {
    /// The options of `wait4` and `waitid`.
    pub struct WaitOptions: u32 {
        WNOHANG = 0x1,
        WUNTRACED = 0x2,
        WSTOPPED = 0x2,
        WEXITED = 0x4,
        WCONTINUED = 0x8,
        WNOWAIT = 0x1000000,
        __WNOTHREAD = 0x20000000,
        __WALL = 0x40000000,
        __WCLONE = 0x80000000,
    }
}

named! {
    /// Whom `waitid` waits for.
    pub struct WaitIdType(u32) {
        P_ALL = 0,
        P_PID = 1,
        P_PGID = 2,
        P_PIDFD = 3,
    }
}

/// How a child changed its state, as `wait4` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with this status.
    Exited(u8),
    /// A signal ended it.
    Signaled(Signal, /** Whether a core was dumped. */ bool),
    /// A signal stopped it. The upper bits carry a ptrace event.
    Stopped(u32),
    /// It continued.
    Continued,
}

impl WaitStatus {
    /// The status word.
    pub const fn raw(self) -> u32 {
        match self {
            Self::Exited(status) => (status as u32) << 8,
            Self::Signaled(signal, core) => signal.raw() as u32 | if core { 0x80 } else { 0 },
            Self::Stopped(code) => code << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }

    /// Reads a status word.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw & 0x7f {
            _ if raw == 0xffff => Some(Self::Continued),
            0 => Some(Self::Exited((raw >> 8) as u8)),
            0x7f => Some(Self::Stopped(raw >> 8)),
            signal => match Signal::from_raw(signal as i32) {
                Some(signal) => Some(Self::Signaled(signal, raw & 0x80 != 0)),
                None => None,
            },
        }
    }
}

named! {
    /// Whose usage `getrusage` tells.
    pub struct RusageWho(i32) {
        RUSAGE_SELF = 0,
        RUSAGE_CHILDREN = -1,
        RUSAGE_THREAD = 1,
    }
}

named! {
    /// A limited resource.
    pub struct Resource(u32) {
        RLIMIT_CPU = 0,
        RLIMIT_FSIZE = 1,
        RLIMIT_DATA = 2,
        RLIMIT_STACK = 3,
        RLIMIT_CORE = 4,
        RLIMIT_RSS = 5,
        RLIMIT_NPROC = 6,
        RLIMIT_NOFILE = 7,
        RLIMIT_MEMLOCK = 8,
        RLIMIT_AS = 9,
        RLIMIT_LOCKS = 10,
        RLIMIT_SIGPENDING = 11,
        RLIMIT_MSGQUEUE = 12,
        RLIMIT_NICE = 13,
        RLIMIT_RTPRIO = 14,
        RLIMIT_RTTIME = 15,
    }
}

impl Resource {
    /// How many resources are limited.
    pub const COUNT: usize = 16;
}

/// No limit.
pub const RLIM_INFINITY: u64 = u64::MAX;

named! {
    /// Whom `getpriority`, `setpriority` name.
    pub struct PriorityWhich(i32) {
        PRIO_PROCESS = 0,
        PRIO_PGRP = 1,
        PRIO_USER = 2,
    }
}

named! {
    /// Whom `ioprio_get` and `ioprio_set` name.
    pub struct IoprioWho(i32) {
        IOPRIO_WHO_PROCESS = 1,
        IOPRIO_WHO_PGRP = 2,
        IOPRIO_WHO_USER = 3,
    }
}

named! {
    /// The class of an I/O priority, which is in its bits 13 to 15.
    pub struct IoprioClass(u16) {
        IOPRIO_CLASS_NONE = 0,
        IOPRIO_CLASS_RT = 1,
        IOPRIO_CLASS_BE = 2,
        IOPRIO_CLASS_IDLE = 3,
    }
}

flags! {
    zero PER_LINUX;
    /// The bits of a personality, above the execution domain in the low byte.
    pub struct Personality: u32 {
        UNAME26 = 0x20000,
        ADDR_NO_RANDOMIZE = 0x40000,
        FDPIC_FUNCPTRS = 0x80000,
        MMAP_PAGE_ZERO = 0x100000,
        ADDR_COMPAT_LAYOUT = 0x200000,
        READ_IMPLIES_EXEC = 0x400000,
        ADDR_LIMIT_32BIT = 0x800000,
        SHORT_INODE = 0x1000000,
        WHOLE_SECONDS = 0x2000000,
        STICKY_TIMEOUTS = 0x4000000,
        ADDR_LIMIT_3GB = 0x8000000,
    }
}

flags! {
    /// The flags of `pidfd_open`.
    pub struct PidfdFlags: u32 {
        PIDFD_NONBLOCK = 0x800,
        PIDFD_THREAD = 0x80,
    }
}

flags! {
    /// Whom `pidfd_send_signal` reaches.
    pub struct PidfdSignalFlags: u32 {
        PIDFD_SIGNAL_THREAD = 1,
        PIDFD_SIGNAL_THREAD_GROUP = 2,
        PIDFD_SIGNAL_PROCESS_GROUP = 4,
    }
}

flags! {
    /// The flags of `getrandom`.
    pub struct GetrandomFlags: u32 {
        GRND_NONBLOCK = 0x1,
        GRND_RANDOM = 0x2,
        GRND_INSECURE = 0x4,
    }
}

named! {
    /// The command of `reboot`.
    pub struct RebootCommand(u32) {
        LINUX_REBOOT_CMD_RESTART = 0x1234567,
        LINUX_REBOOT_CMD_HALT = 0xcdef0123,
        LINUX_REBOOT_CMD_CAD_ON = 0x89abcdef,
        LINUX_REBOOT_CMD_CAD_OFF = 0,
        LINUX_REBOOT_CMD_POWER_OFF = 0x4321fedc,
        LINUX_REBOOT_CMD_RESTART2 = 0xa1b2c3d4,
        LINUX_REBOOT_CMD_SW_SUSPEND = 0xd000fce2,
        LINUX_REBOOT_CMD_KEXEC = 0x45584543,
    }
}

consts! { u32:
    LINUX_REBOOT_MAGIC1 = 0xfee1dead,
    LINUX_REBOOT_MAGIC2 = 0x28121969,
    LINUX_REBOOT_MAGIC2A = 0x5121996,
    LINUX_REBOOT_MAGIC2B = 0x16041998,
    LINUX_REBOOT_MAGIC2C = 0x20112000,
}

named! {
    /// The command of `syslog`.
    pub struct SyslogAction(i32) {
        SYSLOG_ACTION_CLOSE = 0,
        SYSLOG_ACTION_OPEN = 1,
        SYSLOG_ACTION_READ = 2,
        SYSLOG_ACTION_READ_ALL = 3,
        SYSLOG_ACTION_READ_CLEAR = 4,
        SYSLOG_ACTION_CLEAR = 5,
        SYSLOG_ACTION_CONSOLE_OFF = 6,
        SYSLOG_ACTION_CONSOLE_ON = 7,
        SYSLOG_ACTION_CONSOLE_LEVEL = 8,
        SYSLOG_ACTION_SIZE_UNREAD = 9,
        SYSLOG_ACTION_SIZE_BUFFER = 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts_and_spelling() {
        assert_eq!(size_of::<Rusage>(), size_of::<libc::rusage>());
        assert_eq!(size_of::<Utsname>(), size_of::<libc::utsname>());
        assert_eq!(size_of::<Sysinfo>(), size_of::<libc::sysinfo>());
        assert_eq!(offset_of!(Sysinfo, mem_unit), offset_of!(libc::sysinfo, mem_unit));
        assert_eq!(size_of::<CloneArgs>(), size_of::<libc::clone_args>());
        let flags = CloneFlags::from_bits_retain(CloneFlags::CLONE_VM.bits() | 17);
        assert_eq!(flags.to_string(), "CLONE_VM|SIGCHLD");
        assert_eq!(flags.split(), (CloneFlags::CLONE_VM, libc::SIGCHLD));
        assert_eq!(Resource::RLIMIT_NOFILE.to_string(), "RLIMIT_NOFILE");
        for status in [WaitStatus::Exited(3), WaitStatus::Stopped(19), WaitStatus::Continued] {
            assert_eq!(WaitStatus::from_raw(status.raw()), Some(status));
        }
        let dumped = WaitStatus::Signaled(Signal::SIGSEGV, true);
        assert!(libc::WCOREDUMP(dumped.raw() as i32) && libc::WTERMSIG(dumped.raw() as i32) == libc::SIGSEGV);
    }
}
