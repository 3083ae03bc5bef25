//! The numeric kernel parameters in `/proc/sys`.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};

use amber_abi::errno::Errno;
use amber_abi::inotify::{INOTIFY_MAX_QUEUED_EVENTS, INOTIFY_MAX_USER_INSTANCES};
use amber_abi::ipc;
use amber_abi::mm::MMAP_MIN_ADDR;
use amber_abi::socket::SOMAXCONN;

/// A parameter and its range.
#[derive(Debug)]
pub(crate) struct Tunable {
    value: AtomicI64,
    least: i64,
    most: i64,
}

impl Tunable {
    /// A parameter with a value and the range that writes are checked against.
    pub(crate) const fn new(value: i64, range: RangeInclusive<i64>) -> Self {
        Tunable { value: AtomicI64::new(value), least: *range.start(), most: *range.end() }
    }

    /// The value.
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// The value of a parameter that is never negative.
    pub(crate) fn count(&self) -> u64 {
        self.get().unsigned_abs()
    }

    /// The smaller of two values.
    pub(crate) fn min(&self, other: &Tunable) -> u64 {
        self.count().min(other.count())
    }

    /// Sets the value.
    ///
    /// # Errors
    /// `EINVAL` outside of the range.
    pub(crate) fn set(&self, value: i64) -> Result<(), Errno> {
        if !(self.least..=self.most).contains(&value) {
            return Err(Errno::EINVAL.here());
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// The maximum of parameters of 32 bits.
pub(crate) const INT: i64 = i32::MAX as i64;

/// Defines a struct of parameters, each with its default and range.
macro_rules! tunables {
    ($(#[$all:meta])* $struct:ident { $($(#[$doc:meta])* $name:ident: $default:expr, $range:expr;)* }) => {
        $(#[$all])*
        #[derive(Debug)]
        pub(crate) struct $struct {
            $($(#[$doc])* pub $name: $crate::tunables::Tunable,)*
        }

        impl Default for $struct {
            fn default() -> Self {
                $struct { $($name: $crate::tunables::Tunable::new($default, $range),)* }
            }
        }
    };
}

pub(crate) use tunables;

tunables! {
/// All parameters except those of the network, with Linux's defaults and ranges.
Tunables {
    /// `fs.aio-max-nr`: maximum number of asynchronous I/O requests of all contexts.
    aio_requests: 65536, 0..=i64::MAX;
    /// `fs.file-max`: maximum number of open files of all processes, which `CAP_SYS_ADMIN` may exceed.
    file_max: i64::MAX, 0..=i64::MAX;
    /// `fs.epoll.max_user_watches`: maximum number of files that all epolls of a user watch.
    epoll_watches: INT, 0..=i64::MAX;
    /// `fs.inotify.max_queued_events`.
    inotify_events: INOTIFY_MAX_QUEUED_EVENTS as i64, 0..=INT;
    /// `fs.inotify.max_user_instances`.
    inotify_instances: INOTIFY_MAX_USER_INSTANCES as i64, 0..=INT;
    /// `fs.inotify.max_user_watches`.
    inotify_watches: 65536, 0..=INT;
    /// `fs.mqueue.msg_default`: default maximum number of messages in a queue.
    mqueue_messages_default: ipc::MQ_MSG_MAX as i64, 1..=65536;
    /// `fs.mqueue.msg_max`: limit of the maximum number of messages in a queue.
    mqueue_messages: ipc::MQ_MSG_MAX as i64, 1..=65536;
    /// `fs.mqueue.msgsize_default`: default maximum size of a message, in bytes.
    mqueue_bytes_default: ipc::MQ_MSGSIZE_MAX as i64, 128..=16 << 20;
    /// `fs.mqueue.msgsize_max`: limit of the maximum size of a message, in bytes.
    mqueue_bytes: ipc::MQ_MSGSIZE_MAX as i64, 128..=16 << 20;
    /// `fs.mqueue.queues_max`: maximum number of queues, which `CAP_SYS_RESOURCE` may exceed.
    mqueue_queues: ipc::MQ_QUEUES_MAX as i64, 0..=INT;
    /// `fs.nr_open`: upper bound of RLIMIT_NOFILE.
    nr_open: 1 << 20, 64..=(INT & !63);
    /// `fs.protected_fifos`: see proc_sys_fs(5).
    protected_fifos: 1, 0..=2;
    /// `fs.protected_hardlinks`: only owners may link files that they cannot write.
    protected_hardlinks: 1, 0..=1;
    /// `fs.protected_regular`: see proc_sys_fs(5).
    protected_regular: 1, 0..=2;
    /// `fs.protected_symlinks`: symbolic links in shared directories are followed only if they belong to the caller or
    /// to the owner of the directory.
    protected_symlinks: 1, 0..=1;
    /// `fs.suid_dumpable`: the `PR_GET_DUMPABLE` value of processes that changed their user ID.
    suid_dumpable: 0, 0..=2;
    /// `kernel.dmesg_restrict`: the kernel log is restricted to privileged callers.
    dmesg_restrict: 1, 0..=1;
    /// `kernel.kptr_restrict`; no kernel addresses are shown in any case.
    kptr_restrict: 1, 0..=2;
    /// `kernel.panic`: seconds until a reboot; no effect.
    panic: 0, -INT..=INT;
    /// `kernel.panic_on_oops`.
    panic_on_oops: 0, 0..=1;
    /// `kernel.pid_max`: the first number that can never be a PID.
    pid_max: 32768, 301..=1 << 22;
    /// The four levels of `kernel.printk`.
    printk_console: 4, -INT..=INT;
    /// See [`printk_console`](Self::printk_console).
    printk_default: 4, -INT..=INT;
    /// See [`printk_console`](Self::printk_console).
    printk_least: 1, -INT..=INT;
    /// See [`printk_console`](Self::printk_console).
    printk_boot: 7, -INT..=INT;
    /// `kernel.random.urandom_min_reseed_secs`; no effect, the host reseeds.
    urandom_reseed: 60, 0..=INT;
    /// `kernel.random.write_wakeup_threshold` in bits; no effect, the pool is always full.
    random_wakeup: 256, 0..=256;
    /// `kernel.randomize_va_space`: 0 for none, 1 for all but the heap, 2 for all.
    randomize: 2, 0..=INT;
    /// `kernel.sysrq`; no effect, there is no keyboard.
    sysrq: 0, 0..=INT;
    /// `kernel.threads-max`: maximum number of threads of the sandbox.
    threads_max: 32768, 1..=0x3fff_ffff;
    /// `net.core.somaxconn`: maximum backlog of listen(2).
    somaxconn: SOMAXCONN as i64, 0..=INT;
    /// `net.ipv4.ip_unprivileged_port_start`: lower ports need `CAP_NET_BIND_SERVICE`.
    unprivileged_ports: 1024, 0..=65535;
    /// `vm.dirty_background_ratio`; no effect, dirty pages are not kept.
    dirty_background_ratio: 10, 0..=100;
    /// `vm.dirty_expire_centisecs`; see [`dirty_background_ratio`](Self::dirty_background_ratio).
    dirty_expire: 3000, 0..=INT;
    /// `vm.dirty_ratio`; see [`dirty_background_ratio`](Self::dirty_background_ratio).
    dirty_ratio: 20, 0..=100;
    /// `vm.dirty_writeback_centisecs`; see [`dirty_background_ratio`](Self::dirty_background_ratio).
    dirty_writeback: 500, 0..=INT;
    /// `vm.max_map_count`: maximum number of VMAs of an address space.
    max_map_count: 65530, 0..=INT;
    /// `vm.min_free_kbytes`; no effect, the host has the reserve.
    min_free: 45056, 0..=INT;
    /// `vm.mmap_min_addr`: the lowest address that may be mapped. The minimum is the host's.
    mmap_min_addr: MMAP_MIN_ADDR as i64, MMAP_MIN_ADDR as i64..=i64::MAX;
    /// `vm.overcommit_memory`: 0 refuses what can never fit, 1 nothing. Strict accounting (2) is not supported.
    overcommit: 0, 0..=1;
    /// `vm.overcommit_kbytes`: the commit limit shown in `/proc/meminfo`; 0 to use the ratio.
    overcommit_kbytes: 0, 0..=i64::MAX;
    /// `vm.overcommit_ratio`: the commit limit as a percentage of memory.
    overcommit_ratio: 50, 0..=INT;
    /// `vm.panic_on_oom`; no effect, processes are killed.
    panic_on_oom: 0, 0..=2;
    /// `vm.swappiness`; no effect, there is no swap.
    swappiness: 60, 0..=200;
    /// `vm.vfs_cache_pressure`; no effect, caches keep only what is in use.
    cache_pressure: 100, 0..=INT;
}
}

impl Tunables {
    /// The defaults of a machine with this many bytes of memory.
    pub(crate) fn of(memory: u64) -> Self {
        let tunables = Self::default();
        // As on Linux: watches may use a twenty-fifth of the memory, 160 bytes each.
        let watches = i64::try_from(memory / 25 / 160).unwrap_or(i64::MAX);
        tunables.epoll_watches.value.store(watches, Ordering::Relaxed);
        tunables
    }

    /// `CommitLimit` of `/proc/meminfo` in bytes, for `memory` bytes in total.
    pub(crate) fn commit_limit(&self, memory: u64) -> u64 {
        match self.overcommit_kbytes.count() {
            0 => (u128::from(memory) * u128::from(self.overcommit_ratio.count()) / 100) as u64,
            kbytes => kbytes.saturating_mul(1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let tunables = Tunables::default();
        assert_eq!(tunables.pid_max.set(300), Err(Errno::EINVAL));
        assert_eq!(tunables.pid_max.set((1 << 22) + 1), Err(Errno::EINVAL));
        assert_eq!(tunables.pid_max.set(4000), Ok(()));
        assert_eq!(tunables.pid_max.get(), 4000);
        assert_eq!(tunables.commit_limit(1000), 500);
    }
}
