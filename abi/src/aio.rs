//! Asynchronous I/O: requests, events, and the ring they are told in.

named! {
    /// What a request asks for.
    pub struct IocbCommand(u16) {
        IOCB_CMD_PREAD = 0,
        IOCB_CMD_PWRITE = 1,
        IOCB_CMD_FSYNC = 2,
        IOCB_CMD_FDSYNC = 3,
        IOCB_CMD_POLL = 5,
        IOCB_CMD_NOOP = 6,
        IOCB_CMD_PREADV = 7,
        IOCB_CMD_PWRITEV = 8,
    }
}

consts! { u32:
    /// The flag of a request that names an eventfd.
    IOCB_FLAG_RESFD = 1,
    /// The flag of a request with a priority of its own.
    IOCB_FLAG_IOPRIO = 2,
    /// The beginning of a ring says that programs may read it themselves.
    AIO_RING_MAGIC = 0xa10a_10a1,
    AIO_RING_COMPAT_FEATURES = 1,
    AIO_RING_INCOMPAT_FEATURES = 0,
}

layout! {
    /// A request: `struct iocb`.
    pub struct Iocb: 64 {
        aio_data: u64,
        aio_key: u32,
        aio_rw_flags: u32,
        aio_lio_opcode: u16,
        aio_reqprio: i16,
        aio_fildes: i32,
        aio_buf: u64,
        aio_nbytes: u64,
        aio_offset: i64,
        aio_reserved2: u64,
        aio_flags: u32,
        aio_resfd: i32,
    }

    /// What came of a request: `struct io_event`.
    pub struct IoEvent: 32 {
        data: u64,
        obj: u64,
        res: i64,
        res2: i64,
    }

    /// The beginning of a ring of events, which programs see.
    pub struct AioRing: 32 {
        id: u32,
        nr: u32,
        head: u32,
        tail: u32,
        magic: u32,
        compat_features: u32,
        incompat_features: u32,
        header_length: u32,
    }

    /// The signal mask of `io_pgetevents`.
    pub struct AioSigset: 16 {
        sigmask: u64,
        sigsetsize: u64,
    }
}
