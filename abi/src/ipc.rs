//! System V message queues, semaphores and shared memory; POSIX message queues; keys.

use core::fmt;

use bitflags::Flags;

flag_set! {
    /// The flags of `semget`, `msgget`, `msgsnd` and `msgrcv`; the low nine bits are a mode.
    pub struct IpcFlags: u32 {
        IPC_CREAT = 0o1000,
        IPC_EXCL = 0o2000,
        IPC_NOWAIT = 0o4000,
        MSG_NOERROR = 0o10000,
        MSG_EXCEPT = 0o20000,
        MSG_COPY = 0o40000,
    }
}

flag_set! {
    /// The flags of `shmget`; the low nine bits are a mode.
    pub struct ShmFlags: u32 {
        IPC_CREAT = 0o1000,
        IPC_EXCL = 0o2000,
        SHM_HUGETLB = 0o4000,
        SHM_NORESERVE = 0o10000,
    }
}

impl fmt::Display for IpcFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spell_with_mode(f, self)
    }
}

impl fmt::Display for ShmFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        spell_with_mode(f, self)
    }
}

/// Writes the names of the flags that are set, then the mode in octal: `IPC_CREAT|0600`.
fn spell_with_mode<F: Flags<Bits = u32>>(f: &mut fmt::Formatter<'_>, all: &F) -> fmt::Result {
    let (flags, mode) = (all.bits() & !0o777, all.bits() & 0o777);
    if flags != 0 {
        crate::macros::spell(f, "0", &F::from_bits_retain(flags))?;
    }
    match (flags, mode) {
        (0, _) => write!(f, "0{mode:03o}"),
        (_, 0) => Ok(()),
        _ => write!(f, "|0{mode:03o}"),
    }
}

flags! {
    /// The flags of `shmat`.
    pub struct ShmAttachFlags: u32 {
        SHM_RDONLY = 0o10000,
        SHM_RND = 0o20000,
        SHM_REMAP = 0o40000,
        SHM_EXEC = 0o100000,
    }
}

named! {
    /// The command of `shmctl`, less [`IPC_64`].
    pub struct ShmCommand(u32) {
        IPC_RMID = 0,
        IPC_SET = 1,
        IPC_STAT = 2,
        IPC_INFO = 3,
        SHM_LOCK = 11,
        SHM_UNLOCK = 12,
        SHM_STAT = 13,
        SHM_INFO = 14,
        SHM_STAT_ANY = 15,
    }
}

named! {
    /// The command of `semctl`, less [`IPC_64`].
    pub struct SemCommand(u32) {
        IPC_RMID = 0,
        IPC_SET = 1,
        IPC_STAT = 2,
        IPC_INFO = 3,
        GETPID = 11,
        GETVAL = 12,
        GETALL = 13,
        GETNCNT = 14,
        GETZCNT = 15,
        SETVAL = 16,
        SETALL = 17,
        SEM_STAT = 18,
        SEM_INFO = 19,
        SEM_STAT_ANY = 20,
    }
}

named! {
    /// The command of `msgctl`, less [`IPC_64`].
    pub struct MsgCommand(u32) {
        IPC_RMID = 0,
        IPC_SET = 1,
        IPC_STAT = 2,
        IPC_INFO = 3,
        MSG_STAT = 11,
        MSG_INFO = 12,
        MSG_STAT_ANY = 13,
    }
}

consts! { u32:
    /// The flag in a command that 32-bit programs set; it means nothing to 64-bit ones.
    IPC_64 = 0x100,
    SHM_DEST = 0o1000,
    SHM_LOCKED = 0o2000,
    SEM_UNDO = 0o10000,
}

consts! { i32:
    IPC_PRIVATE = 0,
    /// Semaphores in a set.
    SEMMSL = 32000,
    /// Semaphore sets.
    SEMMNI = 32000,
    /// Semaphores in all.
    SEMMNS = 1_024_000_000,
    /// Operations in one call.
    SEMOPM = 500,
    /// The greatest value of a semaphore.
    SEMVMX = 32767,
    /// Message queues.
    MSGMNI = 32000,
    /// Bytes in one message.
    MSGMAX = 8192,
    /// Bytes in one queue.
    MSGMNB = 16384,
    /// Shared memory segments.
    SHMMNI = 4096,
}

consts! { u64:
    /// The most bytes of a shared memory segment.
    SHMMAX = u64::MAX - (1 << 24),
    /// The most pages of all shared memory segments.
    SHMALL = u64::MAX - (1 << 24),
    /// The least bytes of a segment.
    SHMMIN = 1,
}

layout! {
    /// Who owns an object and who may use it: `struct ipc64_perm`.
    pub struct IpcPerm: 48 {
        key: i32,
        uid: u32,
        gid: u32,
        cuid: u32,
        cgid: u32,
        mode: u32,
        seq: u16,
        _pad0: u16,
        _pad1: u32,
        _unused: [u64; 2],
    }

    /// A shared memory segment: `struct shmid64_ds`.
    pub struct ShmidDs: 112 {
        shm_perm: IpcPerm,
        shm_segsz: u64,
        shm_atime: i64,
        shm_dtime: i64,
        shm_ctime: i64,
        shm_cpid: i32,
        shm_lpid: i32,
        shm_nattch: u64,
        _unused: [u64; 2],
    }

    /// The limits of shared memory.
    pub struct ShmInfo64: 72 {
        shmmax: u64,
        shmmin: u64,
        shmmni: u64,
        shmseg: u64,
        shmall: u64,
        _unused: [u64; 4],
    }

    /// The use of shared memory: `struct shm_info`.
    pub struct ShmInfo: 48 {
        used_ids: i32,
        _pad0: u32,
        shm_tot: u64,
        shm_rss: u64,
        shm_swp: u64,
        swap_attempts: u64,
        swap_successes: u64,
    }

    /// A semaphore set: `struct semid64_ds`.
    pub struct SemidDs: 104 {
        sem_perm: IpcPerm,
        sem_otime: i64,
        _unused1: u64,
        sem_ctime: i64,
        _unused2: u64,
        sem_nsems: u64,
        _unused3: [u64; 2],
    }

    /// One operation on a semaphore.
    pub struct Sembuf: 6 {
        sem_num: u16,
        sem_op: i16,
        sem_flg: i16,
    }

    /// The limits and use of semaphores.
    pub struct Seminfo: 40 {
        semmap: i32,
        semmni: i32,
        semmns: i32,
        semmnu: i32,
        semmsl: i32,
        semopm: i32,
        semume: i32,
        semusz: i32,
        semvmx: i32,
        semaem: i32,
    }

    /// A message queue: `struct msqid64_ds`.
    pub struct MsqidDs: 120 {
        msg_perm: IpcPerm,
        msg_stime: i64,
        msg_rtime: i64,
        msg_ctime: i64,
        msg_cbytes: u64,
        msg_qnum: u64,
        msg_qbytes: u64,
        msg_lspid: i32,
        msg_lrpid: i32,
        _unused: [u64; 2],
    }

    /// The limits and use of message queues.
    pub struct Msginfo: 32 {
        msgpool: i32,
        msgmap: i32,
        msgmax: i32,
        msgmnb: i32,
        msgmni: i32,
        msgssz: i32,
        msgtql: i32,
        msgseg: u16,
        _pad0: u16,
    }

    /// The attributes of a POSIX message queue.
    pub struct MqAttr: 64 {
        mq_flags: i64,
        mq_maxmsg: i64,
        mq_msgsize: i64,
        mq_curmsgs: i64,
        __reserved: [i64; 4],
    }
}

consts! { u64:
    /// One more than the greatest priority of a POSIX message.
    MQ_PRIO_MAX = 32768,
    /// The default of `/proc/sys/fs/mqueue/msg_max`.
    MQ_MSG_MAX = 10,
    /// The default of `/proc/sys/fs/mqueue/msgsize_max`.
    MQ_MSGSIZE_MAX = 8192,
    /// The default of `/proc/sys/fs/mqueue/queues_max`.
    MQ_QUEUES_MAX = 256,
    /// How many bytes of queues a user can have by default.
    MQ_BYTES_MAX = 819_200,
}

named! {
    /// The operation of `keyctl`.
    pub struct KeyctlOperation(u32) {
        KEYCTL_GET_KEYRING_ID = 0,
        KEYCTL_JOIN_SESSION_KEYRING = 1,
        KEYCTL_UPDATE = 2,
        KEYCTL_REVOKE = 3,
        KEYCTL_CHOWN = 4,
        KEYCTL_SETPERM = 5,
        KEYCTL_DESCRIBE = 6,
        KEYCTL_CLEAR = 7,
        KEYCTL_LINK = 8,
        KEYCTL_UNLINK = 9,
        KEYCTL_SEARCH = 10,
        KEYCTL_READ = 11,
        KEYCTL_INSTANTIATE = 12,
        KEYCTL_NEGATE = 13,
        KEYCTL_SET_REQKEY_KEYRING = 14,
        KEYCTL_SET_TIMEOUT = 15,
        KEYCTL_ASSUME_AUTHORITY = 16,
        KEYCTL_GET_SECURITY = 17,
        KEYCTL_SESSION_TO_PARENT = 18,
        KEYCTL_REJECT = 19,
        KEYCTL_INSTANTIATE_IOV = 20,
        KEYCTL_INVALIDATE = 21,
        KEYCTL_GET_PERSISTENT = 22,
        KEYCTL_DH_COMPUTE = 23,
        KEYCTL_PKEY_QUERY = 24,
        KEYCTL_PKEY_ENCRYPT = 25,
        KEYCTL_PKEY_DECRYPT = 26,
        KEYCTL_PKEY_SIGN = 27,
        KEYCTL_PKEY_VERIFY = 28,
        KEYCTL_RESTRICT_KEYRING = 29,
        KEYCTL_MOVE = 30,
        KEYCTL_CAPABILITIES = 31,
        KEYCTL_WATCH_KEY = 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layouts() {
        assert_eq!(size_of::<ShmidDs>(), size_of::<libc::shmid_ds>());
        assert_eq!(offset_of!(ShmidDs, shm_nattch), offset_of!(libc::shmid_ds, shm_nattch));
        assert_eq!(size_of::<SemidDs>(), size_of::<libc::semid_ds>());
        assert_eq!(offset_of!(SemidDs, sem_nsems), offset_of!(libc::semid_ds, sem_nsems));
        assert_eq!(size_of::<MsqidDs>(), size_of::<libc::msqid_ds>());
        assert_eq!(offset_of!(MsqidDs, msg_lspid), offset_of!(libc::msqid_ds, msg_lspid));
        assert_eq!(size_of::<MqAttr>(), size_of::<libc::mq_attr>());
        assert_eq!((IpcFlags::IPC_CREAT | IpcFlags::from_bits_retain(0o600)).to_string(), "IPC_CREAT|0600");
    }
}
