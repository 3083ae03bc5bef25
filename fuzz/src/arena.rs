//! What is in the memory that the calls of a guest point to: paths, and structures that are right, for the input to spoil.

use crate::script::ARENA;

/// Structures are this far apart.
pub const SLOT: u64 = 256;
/// How many there are room for.
pub const SLOTS: u64 = 64;
/// Where the first path is; the others follow …
pub const PATHS: u64 = ARENA + 0x8000;
/// … this far apart.
pub const PATH_SPACING: u64 = 64;
/// Where buffers are.
pub const BUFFER: u64 = ARENA + 0x10000;
/// Where the handler of signals is said to be.
pub const HANDLER: u64 = 0x40_0100;

/// Paths of every file system a guest has.
pub const PATH_NAMES: &[&str] = &[
    "/tmp/a",
    "/tmp/b",
    "/tmp/d",
    "/tmp/d/e",
    "/tmp/link",
    "a",
    ".",
    "..",
    "/",
    "",
    "/dir/file",
    "/dir",
    "/link",
    "/bin/init",
    "/bin/script",
    "/etc/passwd",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/ptmx",
    "/dev/pts/0",
    "/dev/tty",
    "/dev/shm/a",
    "/dev/mqueue/q",
    "/proc/self/maps",
    "/proc/self/mem",
    "/proc/self/fd/3",
    "/proc/self/fd",
    "/proc/self/status",
    "/proc/self/root",
    "/proc/self/exe",
    "/proc/self/ns/user",
    "/proc/self/uid_map",
    "/proc/self/comm",
    "/proc/self/task",
    "/proc/1/stat",
    "/proc/2/stat",
    "/proc/self/mountinfo",
    "/proc/net/unix",
    "/proc/sys/kernel/hostname",
    "/proc/sys/fs/pipe-max-size",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/class/net",
    "/proc/self/oom_score_adj",
    "/proc/self/smaps",
    "/proc/sysvipc/shm",
    "/proc/self/environ",
    "/tmp/fifo",
    "/tmp/sock",
    "tmpfs",
    "proc",
    "overlay",
    "bind",
    "lowerdir=/dir,upperdir=/tmp/a,workdir=/tmp/b",
    "size=64k",
    "user.name",
    "security.capability",
    "system.posix_acl_access",
    "trusted.overlay.opaque",
    "mqueue",
    "sysfs",
    "cgroup2",
    "devpts",
];

/// A structure made of words of different sizes.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn u32(mut self, values: &[u32]) -> Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }
    fn u64(mut self, values: &[u64]) -> Self {
        self.0.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        self
    }
    fn text(mut self, text: &[u8]) -> Self {
        self.0.extend(text);
        self
    }
}

/// Where a structure is.
const fn slot(index: u64) -> u64 {
    ARENA + index * SLOT
}

/// The structures, by slot.
fn structures() -> Vec<Bytes> {
    let new = Bytes::default;
    let path = |index: u64| PATHS + index * PATH_SPACING;
    vec![
        // 0: iovec
        new().u64(&[BUFFER, 16, BUFFER + 64, 4096, BUFFER + 8192, 1, 0, 0]),
        // 1: msghdr
        new().u64(&[slot(2), 110, slot(0), 2, slot(7), 24, 0]),
        // 2 to 6: sockaddr_un by path and by name, sockaddr_in, sockaddr_in6, sockaddr_nl
        new().u16(1).text(b"/tmp/sock\0"),
        new().u16(1).text(b"\0name"),
        new().u16(2).text(&[0x23, 0x28, 127, 0, 0, 1]),
        new().u16(10).text(&[0x23, 0x28, 0, 0, 0, 0]).u64(&[0, 1 << 56]),
        new().u16(16).u16(0).u32(&[0, 1]),
        // 7 and 8: control messages with a descriptor and with credentials
        new().u64(&[20]).u32(&[1, 1, 4, 0]),
        new().u64(&[28]).u32(&[1, 2, 1, 0, 0, 0]),
        // 9 to 11: timespec, itimerspec, a far time
        new().u64(&[0, 100_000]),
        new().u64(&[0, 500_000, 0, 500_000]),
        new().u64(&[1 << 40, 999_999_999, 1 << 62, 5]),
        // 12 and 13: signal sets
        new().u64(&[u64::MAX]),
        new().u64(&[1 << 13]),
        // 14: sigaction
        new().u64(&[HANDLER, 0x0400_0004, HANDLER, 0]),
        // 15: sigevent
        new().u64(&[7]).u32(&[14, 0, 1, 0]),
        // 16: clone_args
        new().u64(&[0, slot(60), slot(60) + 8, slot(60) + 16, 17, 0, 0, 0, 0, 0, 0]),
        // 17: open_how
        new().u64(&[0x42, 0o600, 0]),
        // 18: pollfd
        new().u32(&[3, 0x5, 4, 0x1, 5, 0x4, 9, 0x1f]),
        // 19: epoll_event
        new().u32(&[0x8000_0005]).u64(&[3]),
        // 20 and 21: lists of strings
        new().u64(&[path(13), path(5), 0]),
        new().u64(&[0]),
        // 22: stack_t
        new().u64(&[BUFFER + 0x8000, 0, 0x4000]),
        // 23: rlimit
        new().u64(&[64, 1 << 20]),
        // 24 and 25: capabilities
        new().u32(&[0x2008_0522, 0]),
        new().u32(&[u32::MAX, 0, u32::MAX, 0x1ff, 0, 0]),
        // 26: mmsghdr
        new().u64(&[slot(2), 110, slot(0), 1, slot(7), 24, 0, 0]).u64(&[0, 0, slot(0), 1, 0, 0, 0, 0]),
        // 27: sembuf
        new().u16(0).u16(1).u16(0).u16(1).u16(u16::MAX).u16(0x1800),
        // 28: msgbuf
        new().u64(&[1]).text(b"a message"),
        // 29: termios
        new().u32(&[0x500, 5, 0xbf, 0x8a3b]).text(&[0, 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26]),
        // 30: winsize
        new().u16(24).u16(80).u32(&[0]),
        // 31: an option's value
        new().u32(&[1, 0, 4096]),
        // 32: flock
        new().u32(&[1, 0]).u64(&[0, 100, 0]),
        // 33: fd_set
        new().u64(&[0xfff8, 0]),
        // 34: futex_waitv
        new().u64(&[0, slot(61)]).u32(&[2, 0]).u64(&[0, slot(61) + 4]).u32(&[2, 0]),
        // 35 and 36: a program for seccomp
        new().u64(&[2, slot(36)]),
        new().u16(0x20).u16(0).u32(&[0]).u16(6).u16(0).u32(&[0x7fff_0000]),
        // 37: robust_list_head
        new().u64(&[slot(37), 16, slot(61)]),
        // 38: mq_attr
        new().u64(&[0, 4, 64, 0]),
        // 39: a request of netlink for the links
        new().u32(&[20, 0x0301_0012, 1, 0, 0]),
        // 40: ifreq
        new().text(b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0").u64(&[0, 0]),
        // 41: linger, timeval
        new().u64(&[0, 1000]),
        // 42: iocb and the list of it
        new().u64(&[1, 0]).u32(&[0x1_0000, 4]).u64(&[BUFFER, 16, 0, 0, 0]),
        new().u64(&[slot(42), slot(42), 0]),
        // 44: file_handle
        new().u32(&[128, 0]).u64(&[0; 16]),
        // 45: mount_attr
        new().u64(&[1, 0, 0, 0]),
        // 46: sched_attr
        new().u32(&[56, 0]).u64(&[0, 0, 0, 0, 0, 0]),
        // 47: siginfo
        new().u32(&[14, 0, u32::MAX, 0, 1, 0]).u64(&[7]),
        // 48: f_owner_ex
        new().u32(&[0, 1]),
        // 49: xattr of an ACL
        new().u32(&[2, 0x7_0001, u32::MAX, 0x5_0004, u32::MAX, 0x5_0020, u32::MAX]),
    ]
}

/// All of it, from [`ARENA`] on.
pub fn image() -> Vec<u8> {
    let mut image = vec![0; (PATHS - ARENA) as usize + PATH_NAMES.len() * PATH_SPACING as usize];
    for (index, structure) in structures().into_iter().enumerate() {
        let at = index * SLOT as usize;
        image[at..at + structure.0.len()].copy_from_slice(&structure.0);
    }
    for (index, name) in PATH_NAMES.iter().enumerate() {
        let at = (PATHS - ARENA) as usize + index * PATH_SPACING as usize;
        image[at..at + name.len()].copy_from_slice(name.as_bytes());
    }
    image
}
