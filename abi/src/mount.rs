//! Mounting: the old calls, the new ones, and what can be asked about mounts.

flags! {
    /// The flags of `mount`.
    pub struct MountFlags: u64 {
        MS_RDONLY = 0x1,
        MS_NOSUID = 0x2,
        MS_NODEV = 0x4,
        MS_NOEXEC = 0x8,
        MS_SYNCHRONOUS = 0x10,
        MS_REMOUNT = 0x20,
        MS_MANDLOCK = 0x40,
        MS_DIRSYNC = 0x80,
        MS_NOSYMFOLLOW = 0x100,
        MS_NOATIME = 0x400,
        MS_NODIRATIME = 0x800,
        MS_BIND = 0x1000,
        MS_MOVE = 0x2000,
        MS_REC = 0x4000,
        MS_SILENT = 0x8000,
        MS_POSIXACL = 0x10000,
        MS_UNBINDABLE = 0x20000,
        MS_PRIVATE = 0x40000,
        MS_SLAVE = 0x80000,
        MS_SHARED = 0x100000,
        MS_RELATIME = 0x200000,
        MS_KERNMOUNT = 0x400000,
        MS_I_VERSION = 0x800000,
        MS_STRICTATIME = 0x1000000,
        MS_LAZYTIME = 0x2000000,
    }
}

/// The mark old programs put into the upper half of [`MountFlags`]; it is taken off and means nothing.
pub const MS_MGC_VAL: u64 = 0xc0ed_0000;

flags! {
    /// The flags of `umount2`.
    pub struct UmountFlags: u32 {
        MNT_FORCE = 0x1,
        MNT_DETACH = 0x2,
        MNT_EXPIRE = 0x4,
        UMOUNT_NOFOLLOW = 0x8,
    }
}

flags! {
    /// The flags of `open_tree`, besides those of [`AtFlags`](crate::open::AtFlags).
    pub struct OpenTreeFlags: u32 {
        OPEN_TREE_CLONE = 0x1,
        OPEN_TREE_CLOEXEC = 0x80000,
        AT_SYMLINK_NOFOLLOW = 0x100,
        AT_NO_AUTOMOUNT = 0x800,
        AT_EMPTY_PATH = 0x1000,
        AT_RECURSIVE = 0x8000,
    }
}

flags! {
    /// The flags of `move_mount`.
    pub struct MoveMountFlags: u32 {
        MOVE_MOUNT_F_SYMLINKS = 0x1,
        MOVE_MOUNT_F_AUTOMOUNTS = 0x2,
        MOVE_MOUNT_F_EMPTY_PATH = 0x4,
        MOVE_MOUNT_T_SYMLINKS = 0x10,
        MOVE_MOUNT_T_AUTOMOUNTS = 0x20,
        MOVE_MOUNT_T_EMPTY_PATH = 0x40,
        MOVE_MOUNT_SET_GROUP = 0x100,
        MOVE_MOUNT_BENEATH = 0x200,
    }
}

flags! {
    /// The flags of `fsopen`.
    pub struct FsopenFlags: u32 {
        FSOPEN_CLOEXEC = 0x1,
    }
}

flags! {
    /// The flags of `fspick`.
    pub struct FspickFlags: u32 {
        FSPICK_CLOEXEC = 0x1,
        FSPICK_SYMLINK_NOFOLLOW = 0x2,
        FSPICK_NO_AUTOMOUNT = 0x4,
        FSPICK_EMPTY_PATH = 0x8,
    }
}

flags! {
    /// The flags of `fsmount`.
    pub struct FsmountFlags: u32 {
        FSMOUNT_CLOEXEC = 0x1,
    }
}

named! {
    /// The command of `fsconfig`.
    pub struct FsconfigCommand(u32) {
        FSCONFIG_SET_FLAG = 0,
        FSCONFIG_SET_STRING = 1,
        FSCONFIG_SET_BINARY = 2,
        FSCONFIG_SET_PATH = 3,
        FSCONFIG_SET_PATH_EMPTY = 4,
        FSCONFIG_SET_FD = 5,
        FSCONFIG_CMD_CREATE = 6,
        FSCONFIG_CMD_RECONFIGURE = 7,
        FSCONFIG_CMD_CREATE_EXCL = 8,
    }
}

flags! {
    /// The attributes of a mount, in `fsmount` and `mount_setattr`.
    pub struct MountAttributes: u64 {
        MOUNT_ATTR_RDONLY = 0x1,
        MOUNT_ATTR_NOSUID = 0x2,
        MOUNT_ATTR_NODEV = 0x4,
        MOUNT_ATTR_NOEXEC = 0x8,
        MOUNT_ATTR__ATIME = 0x70,
        MOUNT_ATTR_NOATIME = 0x10,
        MOUNT_ATTR_STRICTATIME = 0x20,
        MOUNT_ATTR_NODIRATIME = 0x80,
        MOUNT_ATTR_IDMAP = 0x100000,
        MOUNT_ATTR_NOSYMFOLLOW = 0x200000,
    }
}

layout! {
    /// The argument of `mount_setattr`.
    pub struct MountAttr: 32 {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }

    /// The argument of `statmount` and `listmount`.
    pub struct MntIdReq: 32 {
        size: u32,
        spare: u32,
        mnt_id: u64,
        param: u64,
        mnt_ns_id: u64,
    }
}

flags! {
    /// What `statmount` is asked for.
    pub struct StatmountMask: u64 {
        STATMOUNT_SB_BASIC = 1,
        STATMOUNT_MNT_BASIC = 2,
        STATMOUNT_PROPAGATE_FROM = 4,
        STATMOUNT_MNT_ROOT = 8,
        STATMOUNT_MNT_POINT = 0x10,
        STATMOUNT_FS_TYPE = 0x20,
        STATMOUNT_MNT_NS_ID = 0x40,
        STATMOUNT_MNT_OPTS = 0x80,
    }
}

named! {
    /// The command of `quotactl`, which is in the upper 24 bits of its argument.
    pub struct QuotaCommand(u32) {
        Q_SYNC = 0x800001,
        Q_QUOTAON = 0x800002,
        Q_QUOTAOFF = 0x800003,
        Q_GETFMT = 0x800004,
        Q_GETINFO = 0x800005,
        Q_SETINFO = 0x800006,
        Q_GETQUOTA = 0x800007,
        Q_SETQUOTA = 0x800008,
        Q_GETNEXTQUOTA = 0x800009,
    }
}

/// What `quotactl` is asked to do: a [`QuotaCommand`] and a kind of quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotactlCommand(pub u32);

impl QuotactlCommand {
    /// What to do.
    pub const fn command(self) -> QuotaCommand {
        QuotaCommand::from_raw(self.0 >> 8)
    }

    /// Whose quota: 0 users, 1 groups, 2 projects.
    pub const fn kind(self) -> u32 {
        self.0 & 0xff
    }
}

impl crate::FromRegister for QuotactlCommand {
    fn from_register(value: u64) -> Self {
        Self(value as u32)
    }
}

impl core::fmt::Display for QuotactlCommand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "QCMD({}, {})", self.command(), self.kind())
    }
}
