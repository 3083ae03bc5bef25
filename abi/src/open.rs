//! Opening files and working with descriptors: flags, `fcntl` commands, locks, leases, seals and seeking.

use core::fmt;

flag_set! {
    /// The flags of `open`. The access mode is the number in [`OpenFlags::O_ACCMODE`], not a set of bits.
    pub struct OpenFlags: u32 {
        O_ACCMODE = 0o3,
        O_WRONLY = 0o1,
        O_RDWR = 0o2,
        O_CREAT = 0o100,
        O_EXCL = 0o200,
        O_NOCTTY = 0o400,
        O_TRUNC = 0o1000,
        O_APPEND = 0o2000,
        O_NONBLOCK = 0o4000,
        O_SYNC = 0o4010000,
        O_DSYNC = 0o10000,
        FASYNC = 0o20000,
        O_DIRECT = 0o40000,
        O_LARGEFILE = 0o100000,
        O_TMPFILE = 0o20200000,
        O_DIRECTORY = 0o200000,
        O_NOFOLLOW = 0o400000,
        O_NOATIME = 0o1000000,
        O_CLOEXEC = 0o2000000,
        O_PATH = 0o10000000,
    }
}

impl OpenFlags {
    /// Linux's `O_RDONLY`: no bit at all.
    pub const O_RDONLY: Self = Self::empty();
    /// The flags that `fcntl(F_SETFL)` can change.
    pub const SETFL: Self =
        Self::O_APPEND.union(Self::O_NONBLOCK).union(Self::FASYNC).union(Self::O_DIRECT).union(Self::O_NOATIME);

    /// Whether reading is asked for.
    pub const fn reads(self) -> bool {
        matches!(self.bits() & 3, 0 | 2)
    }

    /// Whether writing is asked for.
    pub const fn writes(self) -> bool {
        matches!(self.bits() & 3, 1 | 2)
    }
}

impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.bits() & 3 {
            0 => "O_RDONLY",
            1 => "O_WRONLY",
            2 => "O_RDWR",
            _ => "O_ACCMODE",
        })?;
        match self.difference(Self::O_ACCMODE) {
            rest if rest.is_empty() => Ok(()),
            rest => {
                f.write_str("|")?;
                crate::macros::spell(f, "0", &rest)
            }
        }
    }
}

/// The descriptor argument that stands for the working directory.
pub const AT_FDCWD: i32 = -100;

flags! {
    /// The flags of the calls that take a directory descriptor.
    pub struct AtFlags: u32 {
        AT_STATX_SYNC_TYPE = 0x6000,
        AT_STATX_FORCE_SYNC = 0x2000,
        AT_STATX_DONT_SYNC = 0x4000,
        AT_SYMLINK_NOFOLLOW = 0x100,
        AT_SYMLINK_FOLLOW = 0x400,
        AT_NO_AUTOMOUNT = 0x800,
        AT_EMPTY_PATH = 0x1000,
        AT_RECURSIVE = 0x8000,
    }
}

flags! {
    /// The flags of `unlinkat`.
    pub struct UnlinkFlags: u32 {
        AT_REMOVEDIR = 0x200,
    }
}

flags! {
    /// The flags of `faccessat2`.
    pub struct AccessFlags: u32 {
        AT_EACCESS = 0x200,
        AT_SYMLINK_NOFOLLOW = 0x100,
        AT_EMPTY_PATH = 0x1000,
    }
}

flags! {
    /// The flags of `name_to_handle_at`.
    pub struct HandleFlags: u32 {
        AT_HANDLE_FID = 0x200,
        AT_SYMLINK_FOLLOW = 0x400,
        AT_EMPTY_PATH = 0x1000,
        AT_HANDLE_MNT_ID_UNIQUE = 1,
    }
}

flags! {
    zero F_OK;
    /// What `access` asks about.
    pub struct AccessMode: u32 {
        R_OK = 4,
        W_OK = 2,
        X_OK = 1,
    }
}

flags! {
    /// The flags of `renameat2`.
    pub struct RenameFlags: u32 {
        RENAME_NOREPLACE = 0x1,
        RENAME_EXCHANGE = 0x2,
        RENAME_WHITEOUT = 0x4,
    }
}

flags! {
    /// The mode of `fallocate`.
    pub struct FallocateMode: u32 {
        FALLOC_FL_KEEP_SIZE = 0x1,
        FALLOC_FL_PUNCH_HOLE = 0x2,
        FALLOC_FL_NO_HIDE_STALE = 0x4,
        FALLOC_FL_COLLAPSE_RANGE = 0x8,
        FALLOC_FL_ZERO_RANGE = 0x10,
        FALLOC_FL_INSERT_RANGE = 0x20,
        FALLOC_FL_UNSHARE_RANGE = 0x40,
    }
}

named! {
    /// Where `lseek` counts from.
    pub struct Whence(u32) {
        SEEK_SET = 0,
        SEEK_CUR = 1,
        SEEK_END = 2,
        SEEK_DATA = 3,
        SEEK_HOLE = 4,
    }
}

flags! {
    /// The flags of `splice`, `tee` and `vmsplice`.
    pub struct SpliceFlags: u32 {
        SPLICE_F_MOVE = 0x1,
        SPLICE_F_NONBLOCK = 0x2,
        SPLICE_F_MORE = 0x4,
        SPLICE_F_GIFT = 0x8,
    }
}

flags! {
    /// The flags of `preadv2` and `pwritev2`.
    pub struct RwFlags: u32 {
        RWF_HIPRI = 0x1,
        RWF_DSYNC = 0x2,
        RWF_SYNC = 0x4,
        RWF_NOWAIT = 0x8,
        RWF_APPEND = 0x10,
        RWF_NOAPPEND = 0x20,
        RWF_ATOMIC = 0x40,
    }
}

flags! {
    /// The flags of `sync_file_range`.
    pub struct SyncFileRangeFlags: u32 {
        SYNC_FILE_RANGE_WAIT_BEFORE = 0x1,
        SYNC_FILE_RANGE_WRITE = 0x2,
        SYNC_FILE_RANGE_WAIT_AFTER = 0x4,
    }
}

named! {
    /// The advice of `posix_fadvise`.
    pub struct FileAdvice(u32) {
        POSIX_FADV_NORMAL = 0,
        POSIX_FADV_RANDOM = 1,
        POSIX_FADV_SEQUENTIAL = 2,
        POSIX_FADV_WILLNEED = 3,
        POSIX_FADV_DONTNEED = 4,
        POSIX_FADV_NOREUSE = 5,
    }
}

named! {
    /// The command of `fcntl`.
    pub struct FcntlCommand(u32) {
        F_DUPFD = 0,
        F_GETFD = 1,
        F_SETFD = 2,
        F_GETFL = 3,
        F_SETFL = 4,
        F_GETLK = 5,
        F_SETLK = 6,
        F_SETLKW = 7,
        F_SETOWN = 8,
        F_GETOWN = 9,
        F_SETSIG = 10,
        F_GETSIG = 11,
        F_SETOWN_EX = 15,
        F_GETOWN_EX = 16,
        F_GETOWNER_UIDS = 17,
        F_OFD_GETLK = 36,
        F_OFD_SETLK = 37,
        F_OFD_SETLKW = 38,
        F_SETLEASE = 1024,
        F_GETLEASE = 1025,
        F_NOTIFY = 1026,
        F_DUPFD_QUERY = 1027,
        F_CREATED_QUERY = 1028,
        F_CANCELLK = 1029,
        F_DUPFD_CLOEXEC = 1030,
        F_SETPIPE_SZ = 1031,
        F_GETPIPE_SZ = 1032,
        F_ADD_SEALS = 1033,
        F_GET_SEALS = 1034,
        F_GET_RW_HINT = 1035,
        F_SET_RW_HINT = 1036,
        F_GET_FILE_RW_HINT = 1037,
        F_SET_FILE_RW_HINT = 1038,
    }
}

flags! {
    /// The flags of a descriptor, as opposed to those of the open file.
    pub struct FdFlags: u32 {
        FD_CLOEXEC = 1,
    }
}

flags! {
    /// The seals of a memfd.
    pub struct Seals: u32 {
        F_SEAL_SEAL = 0x1,
        F_SEAL_SHRINK = 0x2,
        F_SEAL_GROW = 0x4,
        F_SEAL_WRITE = 0x8,
        F_SEAL_FUTURE_WRITE = 0x10,
        F_SEAL_EXEC = 0x20,
    }
}

named! {
    /// The kind of a record lock or lease.
    pub struct LockType(i16) {
        F_RDLCK = 0,
        F_WRLCK = 1,
        F_UNLCK = 2,
    }
}

flags! {
    /// The operation of `flock`.
    pub struct FlockOperation: u32 {
        LOCK_SH = 1,
        LOCK_EX = 2,
        LOCK_NB = 4,
        LOCK_UN = 8,
    }
}

named! {
    /// Whom `F_SETOWN_EX` names.
    pub struct OwnerType(i32) {
        F_OWNER_TID = 0,
        F_OWNER_PID = 1,
        F_OWNER_PGRP = 2,
    }
}

flags! {
    /// What directory notification (`F_NOTIFY`) tells of.
    pub struct DnotifyMask: u32 {
        DN_ACCESS = 0x1,
        DN_MODIFY = 0x2,
        DN_CREATE = 0x4,
        DN_DELETE = 0x8,
        DN_RENAME = 0x10,
        DN_ATTRIB = 0x20,
        DN_MULTISHOT = 0x80000000,
    }
}

flags! {
    /// How `openat2` resolves the path.
    pub struct ResolveFlags: u64 {
        RESOLVE_NO_XDEV = 0x1,
        RESOLVE_NO_MAGICLINKS = 0x2,
        RESOLVE_NO_SYMLINKS = 0x4,
        RESOLVE_BENEATH = 0x8,
        RESOLVE_IN_ROOT = 0x10,
        RESOLVE_CACHED = 0x20,
    }
}

flags! {
    /// The flags of `close_range`.
    pub struct CloseRangeFlags: u32 {
        CLOSE_RANGE_UNSHARE = 0x2,
        CLOSE_RANGE_CLOEXEC = 0x4,
    }
}

flags! {
    /// The flags of `memfd_create`, without the page size.
    pub struct MemfdFlags: u32 {
        MFD_CLOEXEC = 0x1,
        MFD_ALLOW_SEALING = 0x2,
        MFD_HUGETLB = 0x4,
        MFD_NOEXEC_SEAL = 8,
        MFD_EXEC = 0x10,
    }
}

named! {
    /// What `kcmp` compares.
    pub struct KcmpType(u32) {
        KCMP_FILE = 0,
        KCMP_VM = 1,
        KCMP_FILES = 2,
        KCMP_FS = 3,
        KCMP_SIGHAND = 4,
        KCMP_IO = 5,
        KCMP_SYSVSEM = 6,
        KCMP_EPOLL_TFD = 7,
    }
}

layout! {
    /// A record lock: `struct flock`.
    pub struct Flock: 32 {
        /// [`LockType`].
        l_type: i16,
        /// [`Whence`].
        l_whence: i16,
        _pad0: u32,
        l_start: i64,
        l_len: i64,
        l_pid: i32,
        _pad1: u32,
    }

    /// The argument of `openat2`.
    pub struct OpenHow: 24 {
        flags: u64,
        mode: u64,
        /// [`ResolveFlags`].
        resolve: u64,
    }

    /// The header of a file handle; the handle's bytes follow.
    pub struct FileHandle: 8 {
        handle_bytes: u32,
        handle_type: i32,
    }

    /// Who gets a descriptor's signals: `struct f_owner_ex`.
    pub struct FOwnerEx: 8 {
        /// [`OwnerType`].
        type_: i32,
        pid: i32,
    }

    /// A piece of memory to read or write: `struct iovec`.
    pub struct Iovec: 16 {
        iov_base: u64,
        iov_len: u64,
    }
}

consts! { usize:
    /// The most pieces one vectored call takes.
    UIO_MAXIOV = 1024,
    /// The longest name of a directory entry, in bytes.
    NAME_MAX = 255,
    /// The longest path, with its terminating zero.
    PATH_MAX = 4096,
    /// The most bytes one read or write transfers.
    MAX_RW_COUNT = 0x7fff_f000,
    /// The longest handle `name_to_handle_at` gives.
    MAX_HANDLE_SZ = 128,
    /// The most symbolic links one path walk follows.
    MAXSYMLINKS = 40,
    /// A write of no more than this to a pipe is not torn.
    PIPE_BUF = 4096,
    /// The first size of `open_how`.
    OPEN_HOW_SIZE_VER0 = 24,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn spelling_and_layout() {
        let flags = OpenFlags::O_WRONLY | OpenFlags::O_CREAT | OpenFlags::O_SYNC;
        assert_eq!(flags.to_string(), "O_WRONLY|O_CREAT|O_SYNC");
        assert_eq!(OpenFlags::O_RDONLY.to_string(), "O_RDONLY");
        assert_eq!(OpenFlags::O_TMPFILE.bits(), libc::O_TMPFILE as u32);
        assert_eq!((AccessMode::R_OK | AccessMode::from_bits_retain(0x40)).to_string(), "R_OK|0x40");
        assert_eq!(AccessMode::F_OK.to_string(), "F_OK");
        assert_eq!(FcntlCommand::F_SETLK.to_string(), "F_SETLK");
        assert_eq!(FcntlCommand::F_OFD_SETLK.raw(), libc::F_OFD_SETLK as u32);
        assert_eq!(size_of::<Flock>(), size_of::<libc::flock>());
        assert_eq!(offset_of!(Flock, l_pid), offset_of!(libc::flock, l_pid));
    }
}
