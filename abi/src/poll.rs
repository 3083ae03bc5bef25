//! Waiting for descriptors: `poll`, `select`, `epoll`, and the descriptors that are made to be waited for.

layout! {
    /// One descriptor of `poll`.
    pub struct PollFd: 8 {
        fd: i32,
        /// [`PollEvents`] asked for.
        events: u16,
        /// [`PollEvents`] that are.
        revents: u16,
    }
}

flags! {
    /// What a descriptor is ready for; [`EpollEvents`] has the same numbers.
    pub struct PollEvents: u32 {
        POLLIN = 0x1,
        POLLPRI = 0x2,
        POLLOUT = 0x4,
        POLLERR = 0x8,
        POLLHUP = 0x10,
        POLLNVAL = 0x20,
        POLLRDNORM = 0x40,
        POLLRDBAND = 0x80,
        POLLWRNORM = 0x100,
        POLLWRBAND = 0x200,
        POLLMSG = 0x400,
        POLLRDHUP = 0x2000,
    }
}

/// One descriptor of epoll: what happened, and what the program wants to be told then. It is packed: 12 bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C, packed)]
pub struct EpollEvent {
    /// [`EpollEvents`].
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

const _: () = assert!(size_of::<EpollEvent>() == 12);

flags! {
    /// What happened to a descriptor of epoll, and how it is watched.
    pub struct EpollEvents: u32 {
        EPOLLIN = 0x1,
        EPOLLPRI = 0x2,
        EPOLLOUT = 0x4,
        EPOLLERR = 0x8,
        EPOLLHUP = 0x10,
        EPOLLNVAL = 0x20,
        EPOLLRDNORM = 0x40,
        EPOLLRDBAND = 0x80,
        EPOLLWRNORM = 0x100,
        EPOLLWRBAND = 0x200,
        EPOLLMSG = 0x400,
        EPOLLRDHUP = 0x2000,
        EPOLLEXCLUSIVE = 0x10000000,
        EPOLLWAKEUP = 0x20000000,
        EPOLLONESHOT = 0x40000000,
        EPOLLET = 0x80000000,
    }
}

impl EpollEvents {
    /// Flags that say how to watch, not what for.
    pub const MODES: Self =
        Self::EPOLLEXCLUSIVE.union(Self::EPOLLWAKEUP).union(Self::EPOLLONESHOT).union(Self::EPOLLET);
}

named! {
    /// The operation of `epoll_ctl`.
    pub struct EpollOp(u32) {
        EPOLL_CTL_ADD = 1,
        EPOLL_CTL_DEL = 2,
        EPOLL_CTL_MOD = 3,
    }
}

flags! {
    /// The flags of `epoll_create1`.
    pub struct EpollCreateFlags: u32 {
        EPOLL_CLOEXEC = 0x80000,
    }
}

layout! {
    /// The argument of the ioctls `EPIOCSPARAMS` and `EPIOCGPARAMS`.
    pub struct EpollParams: 8 {
        busy_poll_usecs: u32,
        busy_poll_budget: u16,
        prefer_busy_poll: u8,
        __pad: u8,
    }
}

flags! {
    /// The flags of `eventfd2`.
    pub struct EventfdFlags: u32 {
        EFD_SEMAPHORE = 0x1,
        EFD_CLOEXEC = 0x80000,
        EFD_NONBLOCK = 0x800,
    }
}

flags! {
    /// The flags of `signalfd4`.
    pub struct SignalfdFlags: u32 {
        SFD_CLOEXEC = 0x80000,
        SFD_NONBLOCK = 0x800,
    }
}

flags! {
    /// The flags of `pipe2` and `dup3`.
    pub struct PipeFlags: u32 {
        O_NONBLOCK = 0o4000,
        O_CLOEXEC = 0o2000000,
        O_DIRECT = 0o40000,
        /// The pipe carries the notices of a watch queue: `O_NOTIFICATION_PIPE`.
        O_EXCL = 0o200,
    }
}

/// The most descriptors `select` takes.
pub const FD_SETSIZE: usize = 1024;

/// What the sixth argument of `pselect6` points to.
pub type PselectSigmask = crate::open::Iovec;
