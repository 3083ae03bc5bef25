//! Arguments that are numbers.

use amber_abi::FromRegister;

use super::{Argument, View, put};

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Argument for $kind {
            fn from_raw(raw: u64) -> Self {
                raw as $kind
            }
            fn show(view: &View<'_>, out: &mut String) {
                put!(out, "{}", <Self as Argument>::from_raw(view.value()));
            }
        }
    )*};
}

integers!(i32, u32, i64, u64, usize);

/// Flag sets and enumerations of the abi crate, which format their names.
macro_rules! named {
    ($($module:ident::{$($kind:ident),* $(,)?}),* $(,)?) => {$($(
        impl Argument for amber_abi::$module::$kind {
            fn from_raw(raw: u64) -> Self {
                Self::from_register(raw)
            }
            fn show(view: &View<'_>, out: &mut String) {
                put!(out, "{}", <Self as Argument>::from_raw(view.value()));
            }
        }
    )*)*};
}

named! {
    futex::{Futex2Flags, FutexOp},
    inotify::{InotifyInitFlags, InotifyMask},
    ioctl::{IoctlRequest},
    ipc::{IpcFlags, KeyctlOperation, MsgCommand, SemCommand, ShmAttachFlags, ShmCommand, ShmFlags},
    mm::{GetMempolicyFlags, MbindFlags, MemoryAdvice, MemoryPolicy, MlockFlags, MlockallFlags, MmapFlags, MremapFlags, MsyncFlags, PkeyRights, ProtFlags},
    mount::{FsconfigCommand, FsmountFlags, FsopenFlags, FspickFlags, MountAttributes, MountFlags, MoveMountFlags, OpenTreeFlags, QuotactlCommand, UmountFlags},
    open::{AccessFlags, AccessMode, AtFlags, CloseRangeFlags, FallocateMode, FcntlCommand, FileAdvice, FlockOperation, HandleFlags, KcmpType, MemfdFlags, OpenFlags, RenameFlags, RwFlags, SpliceFlags, SyncFileRangeFlags, UnlinkFlags, Whence},
    poll::{EpollCreateFlags, EpollOp, EventfdFlags, PipeFlags, SignalfdFlags},
    prctl::{ArchPrctl, PrctlOption},
    ptrace::{PtraceRequest},
    sched::{MembarrierCommand, SchedPolicy},
    seccomp::{SeccompFlags, SeccompOperation},
    signal::{SigHow, SignalNumber},
    socket::{AddressFamily, MessageFlags, ShutdownHow, SocketFlags, SocketType},
    sockopt::{SocketLevel},
    stat::{DeviceNumber, FileMode, StatxMask},
    task::{CloneFlags, GetrandomFlags, IoprioWho, Personality, PidfdFlags, PidfdSignalFlags, PriorityWhich, RebootCommand, Resource, RusageWho, SyslogAction, WaitIdType, WaitOptions},
    time::{ClockId, ItimerWhich, TimerFlags, TimerfdFlags, TimerfdSetFlags},
    xattr::{XattrFlags},
}

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fd(pub i32);

impl Argument for Fd {
    fn from_raw(raw: u64) -> Self {
        Fd(raw as i32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        put!(out, "{}", view.value() as i32);
    }
}

/// The descriptor of the directory that a relative path starts from, or `AT_FDCWD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirFd(pub i32);

impl DirFd {
    /// The working directory.
    pub(crate) const AT_FDCWD: DirFd = DirFd(-100);
}

impl Argument for DirFd {
    fn from_raw(raw: u64) -> Self {
        DirFd(raw as i32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        match Self::from_raw(view.value()) {
            Self::AT_FDCWD => out.push_str("AT_FDCWD"),
            DirFd(fd) => put!(out, "{fd}"),
        }
    }
}
