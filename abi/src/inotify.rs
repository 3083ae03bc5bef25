//! Being told of changes to files.

flags! {
    /// The flags of `inotify_init1`.
    pub struct InotifyInitFlags: u32 {
        IN_CLOEXEC = 0x80000,
        IN_NONBLOCK = 0x800,
    }
}

flags! {
    /// What to tell of, how to watch, and what happened.
    pub struct InotifyMask: u32 {
        IN_ALL_EVENTS = 0xfff,
        IN_MOVE = 0xc0,
        IN_CLOSE = 0x18,
        IN_ACCESS = 0x1,
        IN_MODIFY = 0x2,
        IN_ATTRIB = 0x4,
        IN_CLOSE_WRITE = 0x8,
        IN_CLOSE_NOWRITE = 0x10,
        IN_OPEN = 0x20,
        IN_MOVED_FROM = 0x40,
        IN_MOVED_TO = 0x80,
        IN_CREATE = 0x100,
        IN_DELETE = 0x200,
        IN_DELETE_SELF = 0x400,
        IN_MOVE_SELF = 0x800,
        IN_UNMOUNT = 0x2000,
        IN_Q_OVERFLOW = 0x4000,
        IN_IGNORED = 0x8000,
        IN_ONLYDIR = 0x1000000,
        IN_DONT_FOLLOW = 0x2000000,
        IN_EXCL_UNLINK = 0x4000000,
        IN_MASK_CREATE = 0x10000000,
        IN_MASK_ADD = 0x20000000,
        IN_ISDIR = 0x40000000,
        IN_ONESHOT = 0x80000000,
    }
}

layout! {
    /// The header of an event; `len` bytes of name follow, padded with zeros to a multiple of 16.
    pub struct InotifyEvent: 16 {
        wd: i32,
        /// [`InotifyMask`].
        mask: u32,
        cookie: u32,
        len: u32,
    }
}

consts! { u32:
    /// How many instances a user can have by default.
    INOTIFY_MAX_USER_INSTANCES = 128,
    /// How many events wait to be read by default.
    INOTIFY_MAX_QUEUED_EVENTS = 16384,
}
