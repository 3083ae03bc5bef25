//! What a file is: modes, device numbers, `stat`, `statx`, `statfs` and directory entries.

use core::fmt;

layout! {
    /// What `stat` gives.
    pub struct Stat: 144 {
        st_dev: u64,
        st_ino: u64,
        st_nlink: u64,
        st_mode: u32,
        st_uid: u32,
        st_gid: u32,
        _pad0: u32,
        st_rdev: u64,
        st_size: i64,
        st_blksize: i64,
        /// In units of 512 bytes.
        st_blocks: i64,
        st_atime: i64,
        st_atime_nsec: i64,
        st_mtime: i64,
        st_mtime_nsec: i64,
        st_ctime: i64,
        st_ctime_nsec: i64,
        _unused: [i64; 3],
    }

    /// A time in [`Statx`].
    pub struct StatxTimestamp: 16 {
        tv_sec: i64,
        tv_nsec: u32,
        _pad0: i32,
    }

    /// What `statx` gives.
    pub struct Statx: 256 {
        /// [`StatxMask`]: which fields are valid.
        stx_mask: u32,
        stx_blksize: u32,
        /// [`StatxAttributes`].
        stx_attributes: u64,
        stx_nlink: u32,
        stx_uid: u32,
        stx_gid: u32,
        stx_mode: u16,
        _pad0: u16,
        stx_ino: u64,
        stx_size: u64,
        /// In units of 512 bytes.
        stx_blocks: u64,
        /// [`StatxAttributes`]: which of them the file system knows.
        stx_attributes_mask: u64,
        stx_atime: StatxTimestamp,
        stx_btime: StatxTimestamp,
        stx_ctime: StatxTimestamp,
        stx_mtime: StatxTimestamp,
        stx_rdev_major: u32,
        stx_rdev_minor: u32,
        stx_dev_major: u32,
        stx_dev_minor: u32,
        stx_mnt_id: u64,
        stx_dio_mem_align: u32,
        stx_dio_offset_align: u32,
        stx_subvol: u64,
        stx_atomic_write_unit_min: u32,
        stx_atomic_write_unit_max: u32,
        stx_atomic_write_segments_max: u32,
        _pad1: u32,
        _pad2: [u64; 9],
    }

    /// What `statfs` gives.
    pub struct StatFs: 120 {
        /// One of the `_MAGIC` numbers of this module.
        f_type: i64,
        f_bsize: i64,
        f_blocks: u64,
        f_bfree: u64,
        f_bavail: u64,
        f_files: u64,
        f_ffree: u64,
        f_fsid: [i32; 2],
        f_namelen: i64,
        f_frsize: i64,
        /// [`StatFsFlags`].
        f_flags: i64,
        f_spare: [i64; 4],
    }

    /// What `ustat` gives.
    pub struct Ustat: 32 {
        f_tfree: i32,
        _pad0: u32,
        f_tinode: u64,
        f_fname: [u8; 6],
        f_fpack: [u8; 6],
        _pad1: u32,
    }
}

flags! {
    /// What `statx` is asked for, and what it gave.
    pub struct StatxMask: u32 {
        STATX_BASIC_STATS = 0x7ff,
        STATX_TYPE = 0x1,
        STATX_MODE = 0x2,
        STATX_NLINK = 0x4,
        STATX_UID = 0x8,
        STATX_GID = 0x10,
        STATX_ATIME = 0x20,
        STATX_MTIME = 0x40,
        STATX_CTIME = 0x80,
        STATX_INO = 0x100,
        STATX_SIZE = 0x200,
        STATX_BLOCKS = 0x400,
        STATX_BTIME = 0x800,
        STATX_MNT_ID = 0x1000,
        STATX_DIOALIGN = 0x2000,
        STATX_MNT_ID_UNIQUE = 0x4000,
        STATX_SUBVOL = 0x8000,
        STATX_WRITE_ATOMIC = 0x1_0000,
        STATX__RESERVED = 0x80000000,
    }
}

flags! {
    /// The attributes `statx` tells of.
    pub struct StatxAttributes: u64 {
        STATX_ATTR_COMPRESSED = 0x4,
        STATX_ATTR_IMMUTABLE = 0x10,
        STATX_ATTR_APPEND = 0x20,
        STATX_ATTR_NODUMP = 0x40,
        STATX_ATTR_ENCRYPTED = 0x800,
        STATX_ATTR_AUTOMOUNT = 0x1000,
        STATX_ATTR_MOUNT_ROOT = 0x2000,
        STATX_ATTR_VERITY = 0x100000,
        STATX_ATTR_DAX = 0x200000,
        STATX_ATTR_WRITE_ATOMIC = 0x40_0000,
    }
}

flags! {
    /// `f_flags` of [`StatFs`].
    pub struct StatFsFlags: u64 {
        ST_RDONLY = 1,
        ST_NOSUID = 2,
        ST_NODEV = 4,
        ST_NOEXEC = 8,
        ST_SYNCHRONOUS = 0x10,
        ST_VALID = 0x20,
        ST_MANDLOCK = 0x40,
        ST_NOATIME = 0x400,
        ST_NODIRATIME = 0x800,
        ST_RELATIME = 0x1000,
        ST_NOSYMFOLLOW = 0x2000,
    }
}

consts! { i64:
    ANON_INODE_FS_MAGIC = 0x9041934,
    BPF_FS_MAGIC = 0xcafe4a11,
    CGROUP2_SUPER_MAGIC = 0x63677270,
    CGROUP_SUPER_MAGIC = 0x27e0eb,
    DEVPTS_SUPER_MAGIC = 0x1cd1,
    EXT4_SUPER_MAGIC = 0xef53,
    NSFS_MAGIC = 0x6e736673,
    OVERLAYFS_SUPER_MAGIC = 0x794c7630,
    PIPEFS_MAGIC = 0x50495045,
    PROC_SUPER_MAGIC = 0x9fa0,
    RAMFS_MAGIC = 0x858458f6,
    SOCKFS_MAGIC = 0x534f434b,
    SYSFS_MAGIC = 0x62656572,
    TMPFS_MAGIC = 0x1021994,
    HUGETLBFS_MAGIC = 0x958458f6,
    DEBUGFS_MAGIC = 0x64626720,
    TRACEFS_MAGIC = 0x74726163,
    /// Linux's own number for mqueue, which no header gives.
    MQUEUE_MAGIC = 0x1980_0202,
    /// Linux's own number for pidfs.
    PID_FS_MAGIC = 0x5049_4446,
}

consts! { u32:
    S_IFMT = 0o170000,
    S_IFSOCK = 0o140000,
    S_IFLNK = 0o120000,
    S_IFREG = 0o100000,
    S_IFBLK = 0o60000,
    S_IFDIR = 0o40000,
    S_IFCHR = 0o20000,
    S_IFIFO = 0o10000,
    S_ISUID = 0o4000,
    S_ISGID = 0o2000,
    S_ISVTX = 0o1000,
    S_IRWXU = 0o700,
    S_IRUSR = 0o400,
    S_IWUSR = 0o200,
    S_IXUSR = 0o100,
    S_IRWXG = 0o70,
    S_IRGRP = 0o40,
    S_IWGRP = 0o20,
    S_IXGRP = 0o10,
    S_IRWXO = 0o7,
    S_IROTH = 0o4,
    S_IWOTH = 0o2,
    S_IXOTH = 0o1,
    /// Permissions, and the set-id and sticky bits.
    S_IALLUGO = 0o7777,
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A fifo.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
    /// None of these: the inode behind an eventfd, epoll or the like, whose mode has no kind.
    Anonymous,
}

impl FileType {
    /// The kind in these mode bits. Zero is a regular file where a mode is given to `mknod`, but not here.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & S_IFMT {
            S_IFIFO => Self::Fifo,
            S_IFCHR => Self::CharacterDevice,
            S_IFDIR => Self::Directory,
            S_IFBLK => Self::BlockDevice,
            S_IFREG => Self::Regular,
            S_IFLNK => Self::Symlink,
            S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The `S_IF` bits.
    pub const fn mode(self) -> u32 {
        match self {
            Self::Fifo => S_IFIFO,
            Self::CharacterDevice => S_IFCHR,
            Self::Directory => S_IFDIR,
            Self::BlockDevice => S_IFBLK,
            Self::Regular => S_IFREG,
            Self::Symlink => S_IFLNK,
            Self::Socket => S_IFSOCK,
            Self::Anonymous => 0,
        }
    }

    /// The `DT_` value in a directory entry.
    pub const fn dirent(self) -> u8 {
        (self.mode() >> 12) as u8
    }

    /// The kind a `DT_` value stands for, unless it is `DT_UNKNOWN` or none.
    pub const fn from_dirent(value: u8) -> Option<Self> {
        if value > 15 { None } else { Self::from_mode((value as u32) << 12) }
    }
}

/// A device number: twelve bits of major and twenty of minor.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of the driver's devices.
    pub minor: u32,
}

impl Device {
    /// The device with these numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// From the 64-bit form in [`Stat`] (the C library's `dev_t`).
    pub const fn from_raw(raw: u64) -> Self {
        let major = (raw >> 8) as u32 & 0xfff | (raw >> 32) as u32 & 0xffff_f000;
        let minor = raw as u32 & 0xff | (raw >> 12) as u32 & 0xffff_ff00;
        Self { major, minor }
    }

    /// The 64-bit form in [`Stat`]; equal to the 32-bit form `mknod` takes for numbers that the kernel can have.
    pub const fn raw(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | (major & 0xffff_f000) << 32
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The permission bits in an argument; prints in octal as strace does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl crate::FromRegister for FileMode {
    fn from_register(value: u64) -> Self {
        Self(value as u32)
    }
}

impl fmt::Display for FileMode {
    /// `0644`, or `S_IFCHR|0600` where a type is given, as `mknod` may.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match FileType::from_mode(self.0) {
            Some(FileType::Fifo) => "S_IFIFO|",
            Some(FileType::CharacterDevice) => "S_IFCHR|",
            Some(FileType::Directory) => "S_IFDIR|",
            Some(FileType::BlockDevice) => "S_IFBLK|",
            Some(FileType::Regular) => "S_IFREG|",
            Some(FileType::Symlink) => "S_IFLNK|",
            Some(FileType::Socket) => "S_IFSOCK|",
            Some(FileType::Anonymous) | None => return write!(f, "0{:03o}", self.0),
        };
        write!(f, "{name}0{:03o}", self.0 & !S_IFMT)
    }
}

/// A device number in an argument, 32 bits wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumber(pub u32);

impl DeviceNumber {
    /// The device.
    pub const fn device(self) -> Device {
        Device::from_raw(self.0 as u64)
    }
}

impl crate::FromRegister for DeviceNumber {
    fn from_register(value: u64) -> Self {
        Self(value as u32)
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device();
        write!(f, "makedev({:#x}, {:#x})", device.major, device.minor)
    }
}

layout! {
    /// The fixed part of an entry `getdents64` gives, less the type that follows at offset 18 and the name at 19.
    pub struct Dirent64Header: 24 {
        d_ino: u64,
        d_off: i64,
        d_reclen: u16,
        /// A `DT_` value.
        d_type: u8,
        /// The name's first bytes; it goes on for as long as it is, and ends with a zero.
        d_name: [u8; 5],
    }
}

/// Where the name begins in an entry of `getdents64`.
pub const DIRENT64_NAME: usize = 19;
/// Where the name begins in an entry of the older `getdents`, whose type is the entry's last byte.
pub const DIRENT_NAME: usize = 18;

consts! { u8:
    DT_UNKNOWN = 0,
    DT_FIFO = 1,
    DT_CHR = 2,
    DT_DIR = 4,
    DT_BLK = 6,
    DT_REG = 8,
    DT_LNK = 10,
    DT_SOCK = 12,
    DT_WHT = 14,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts() {
        assert_eq!(size_of::<Stat>(), size_of::<libc::stat>());
        assert_eq!(offset_of!(Stat, st_rdev), offset_of!(libc::stat, st_rdev));
        assert_eq!(offset_of!(Stat, st_mtime), offset_of!(libc::stat, st_mtime));
        assert_eq!(size_of::<Statx>(), size_of::<libc::statx>());
        assert_eq!(offset_of!(Statx, stx_rdev_major), offset_of!(libc::statx, stx_rdev_major));
        assert_eq!(offset_of!(Statx, stx_mnt_id), offset_of!(libc::statx, stx_mnt_id));
        assert_eq!(size_of::<StatFs>(), size_of::<libc::statfs>());
        assert_eq!(offset_of!(StatFs, f_namelen), offset_of!(libc::statfs, f_namelen));
        assert_eq!(offset_of!(Dirent64Header, d_name), DIRENT64_NAME);
    }

    #[test]
    fn devices_and_types() {
        for (major, minor) in [(0, 0), (1, 3), (136, 7), (259, 0x12345), (0xfff, 0xf_ffff)] {
            let device = Device::new(major, minor);
            assert_eq!(device.raw(), libc::makedev(major, minor));
            assert_eq!(Device::from_raw(device.raw()), device);
        }
        assert_eq!(FileType::from_mode(0o100644), Some(FileType::Regular));
        assert_eq!(FileType::Symlink.dirent(), DT_LNK);
        assert_eq!(FileType::from_dirent(DT_WHT), None);
        assert_eq!(FileMode(0o644).to_string(), "0644");
        assert_eq!(FileMode(0o020600).to_string(), "S_IFCHR|0600");
        assert_eq!(DeviceNumber(0x103).to_string(), "makedev(0x1, 0x3)");
    }
}
