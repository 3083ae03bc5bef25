//! Arguments that are numbers.

use amber_abi::FromRegister;
use amber_abi::signal::Signal;
use amber_abi::stat::{Device, FileType};

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

/// Flag sets and enumerations of the abi, which know their names.
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
    mm::{GetMempolicyFlags, MbindFlags, MemoryAdvice, MemoryPolicy, MlockFlags, MlockallFlags, MmapFlags, MremapFlags, MsyncFlags, PkeyRights, ProtFlags},
    mount::{FsconfigCommand, FsmountFlags, FsopenFlags, FspickFlags, MountAttributes, MountFlags, MoveMountFlags, OpenTreeFlags, UmountFlags},
    open::{AccessFlags, AccessMode, AtFlags, CloseRangeFlags, FallocateMode, FcntlCommand, FileAdvice, FlockOperation, HandleFlags, KcmpType, MemfdFlags, OpenFlags, RenameFlags, RwFlags, SpliceFlags, SyncFileRangeFlags, UnlinkFlags, Whence},
    poll::{EpollCreateFlags, EpollOp, EventfdFlags, PipeFlags, SignalfdFlags},
    prctl::{ArchPrctl, PrctlOption},
    ptrace::{PtraceRequest},
    sched::{MembarrierCommand, SchedPolicy},
    seccomp::{SeccompFlags, SeccompOperation},
    signal::{SigHow},
    stat::{StatxMask},
    task::{CloneFlags, GetrandomFlags, IoprioWho, Personality, PidfdFlags, PidfdSignalFlags, PriorityWhich, RebootCommand, Resource, RusageWho, SyslogAction, WaitIdType, WaitOptions},
    time::{ClockId, ItimerWhich, TimerFlags, TimerfdFlags, TimerfdSetFlags},
    xattr::{XattrFlags},
}

/// A file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

impl Argument for Fd {
    fn from_raw(raw: u64) -> Self {
        Fd(raw as i32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        put!(out, "{}", view.value() as i32);
    }
}

/// A descriptor of the directory that a relative path starts from, or `AT_FDCWD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirFd(pub i32);

impl DirFd {
    /// The working directory.
    pub const AT_FDCWD: DirFd = DirFd(-100);
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

/// The number of a signal as the guest gave it, which may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

impl Argument for SignalNumber {
    fn from_raw(raw: u64) -> Self {
        SignalNumber(raw as i32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        let number = view.value() as i32;
        match Signal::from_raw(number) {
            Some(signal) => put!(out, "{signal}"),
            None => put!(out, "{number}"),
        }
    }
}

/// A file's mode, printed in octal behind the name of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Argument for FileMode {
    fn from_raw(raw: u64) -> Self {
        FileMode(raw as u32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        show_mode(view.value() as u32, out);
    }
}

/// Prints `S_IFREG|0644`, or the octal number alone where no type is named.
pub(super) fn show_mode(mode: u32, out: &mut String) {
    let name = match FileType::from_mode(mode).filter(|_| mode & 0o170000 != 0) {
        Some(FileType::Regular) => "S_IFREG|",
        Some(FileType::Directory) => "S_IFDIR|",
        Some(FileType::Symlink) => "S_IFLNK|",
        Some(FileType::CharacterDevice) => "S_IFCHR|",
        Some(FileType::BlockDevice) => "S_IFBLK|",
        Some(FileType::Fifo) => "S_IFIFO|",
        Some(FileType::Socket) => "S_IFSOCK|",
        Some(FileType::Anonymous) | None => "",
    };
    put!(out, "{name}{:#05o}", if name.is_empty() { mode } else { mode & 0o7777 });
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber(pub u32);

impl Argument for DeviceNumber {
    fn from_raw(raw: u64) -> Self {
        DeviceNumber(raw as u32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        let device = Device::from_raw(view.value() & u64::from(u32::MAX));
        put!(out, "makedev({:#x}, {:#x})", device.major, device.minor);
    }
}

/// An ioctl(2) command, printed with the parts of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlRequest(pub u32);

impl Argument for IoctlRequest {
    fn from_raw(raw: u64) -> Self {
        IoctlRequest(raw as u32)
    }
    fn show(view: &View<'_>, out: &mut String) {
        put!(out, "{:#x}", view.value() as u32);
    }
}
