//! What is written to files of `/proc`, `/sys` and `/dev` is hostile. It is taken or refused with an errno, and the file can
//! still be read.
#![no_main]

use amber_fuzz::{ARENA, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

/// Writable files, of which the input chooses one; with none of these it names one below `/proc/sys`.
const FILES: &[&str] = &[
    "/proc/self/uid_map",
    "/proc/self/gid_map",
    "/proc/self/setgroups",
    "/proc/self/oom_score_adj",
    "/proc/self/oom_adj",
    "/proc/self/comm",
    "/proc/self/coredump_filter",
    "/proc/self/clear_refs",
    "/proc/self/timerslack_ns",
    "/proc/self/attr/current",
    "/proc/self/loginuid",
    "/proc/self/autogroup",
    "/proc/self/task/1/comm",
    "/proc/self/sched",
    "/proc/self/pagemap",
    "/proc/self/mem",
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmni",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni",
    "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/random/write_wakeup_threshold",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/nr_open",
    "/proc/sys/fs/pipe-max-size",
    "/proc/sys/fs/pipe-user-pages-soft",
    "/proc/sys/fs/inotify/max_user_watches",
    "/proc/sys/fs/inotify/max_queued_events",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/fs/mqueue/msgsize_max",
    "/proc/sys/fs/mqueue/queues_max",
    "/proc/sys/fs/aio-max-nr",
    "/proc/sys/fs/epoll/max_user_watches",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/overcommit_ratio",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/swappiness",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/core/rmem_default",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/ip_local_reserved_ports",
    "/proc/sys/net/ipv4/tcp_congestion_control",
    "/proc/sys/net/unix/max_dgram_qlen",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cgroup.subtree_control",
    "/dev/full",
    "/dev/random",
    "/dev/kmsg",
    "/dev/mqueue/q",
];

fuzz_target!(|input: &[u8]| {
    let Some((&[file, offset, how], content)) = input.split_first_chunk() else { return };
    if content.len() > 1 << 14 {
        return;
    }
    let (name, content) = match FILES.get(usize::from(file)) {
        Some(name) => (name.as_bytes().to_vec(), content),
        None => {
            let at = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
            ([b"/proc/sys/", &content[..at]].concat(), content.get(at + 1..).unwrap_or_default())
        }
    };
    if name.len() > 4000 {
        return;
    }
    let (len, offset) = (content.len() as u64, u64::from(offset & 0x7f));
    let at = match how & 3 {
        0 => 0,
        1 => offset,
        2 => offset << 12,
        _ => (offset << 56) | u64::from(how),
    };
    // In a child: what a file does to the process that writes to it does not last.
    let child = vec![
        Op::call(libc::SYS_open, [PATH, (libc::O_RDWR | libc::O_NONBLOCK) as u64]),
        Op::call(libc::SYS_open, [PATH, (libc::O_WRONLY | libc::O_NONBLOCK | libc::O_TRUNC) as u64]),
        Op::on(libc::SYS_pwrite64, 0, [ARENA, len, at]),
        Op::on(libc::SYS_write, 1, [ARENA, len]),
        Op::on(libc::SYS_pread64, 0, [ARENA + 0x10000, 0x1000, at]),
        Op::on(libc::SYS_read, 0, [ARENA + 0x10000, 7]),
    ];
    with_guest(vec![
        Op::Store(PATH, [&name[..], b"\0"].concat()),
        Op::Store(ARENA, content.to_vec()),
        Op::Child(child),
        Op::call(libc::SYS_wait4, [u64::MAX, 0, 0, 0]),
    ]);
});
