//! `/proc/sys`: the parameters of the kernel, in one table by path.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::ipc;

use super::process::written;
use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject};
use crate::kernel::Kernel;
use crate::task::{Limits, ProcessTable};

/// Takes a new value as it was written, or refuses it.
type Set = fn(&Kernel, &[u8]) -> Result<(), Errno>;

/// A parameter: its path below `/proc/sys`, its value, and what sets it if that can be.
pub struct Parameter {
    path: &'static str,
    get: fn(&Kernel) -> String,
    set: Option<Set>,
}

const fn fixed(path: &'static str, get: fn(&Kernel) -> String) -> Parameter {
    Parameter { path, get, set: None }
}

const fn variable(path: &'static str, get: fn(&Kernel) -> String, set: Set) -> Parameter {
    Parameter { path, get, set: Some(set) }
}

/// All parameters, by path: what belongs to one directory stands together.
static PARAMETERS: &[Parameter] = &[
    fixed("fs/aio-max-nr", |_| "65536".into()),
    fixed("fs/aio-nr", |_| "0".into()),
    fixed("fs/epoll/max_user_watches", |k| (k.memory.limit() / 25 / 160).to_string()),
    fixed("fs/file-max", |_| i64::MAX.to_string()),
    fixed("fs/file-nr", |_| format!("0\t0\t{}", i64::MAX)),
    fixed("fs/inotify/max_queued_events", |_| "16384".into()),
    fixed("fs/inotify/max_user_instances", |_| "128".into()),
    fixed("fs/inotify/max_user_watches", |_| "65536".into()),
    fixed("fs/lease-break-time", |_| "45".into()),
    fixed("fs/leases-enable", |_| "0".into()),
    fixed("fs/mount-max", |_| "100000".into()),
    fixed("fs/mqueue/msg_default", |_| ipc::MQ_MSG_MAX.to_string()),
    fixed("fs/mqueue/msg_max", |_| ipc::MQ_MSG_MAX.to_string()),
    fixed("fs/mqueue/msgsize_default", |_| ipc::MQ_MSGSIZE_MAX.to_string()),
    fixed("fs/mqueue/msgsize_max", |_| ipc::MQ_MSGSIZE_MAX.to_string()),
    fixed("fs/mqueue/queues_max", |_| ipc::MQ_QUEUES_MAX.to_string()),
    fixed("fs/nr_open", |_| Limits::NR_OPEN.to_string()),
    fixed("fs/overflowgid", |_| "65534".into()),
    fixed("fs/overflowuid", |_| "65534".into()),
    variable("fs/pipe-max-size", |k| k.pipes.max_size.load(Ordering::Relaxed).to_string(), set_pipe_size),
    variable(
        "fs/pipe-user-pages-hard",
        |k| k.pipes.user_pages_hard.load(Ordering::Relaxed).to_string(),
        |k, text| {
            k.pipes.user_pages_hard.store(written(text)?, Ordering::Relaxed);
            Ok(())
        },
    ),
    variable(
        "fs/pipe-user-pages-soft",
        |k| k.pipes.user_pages_soft.load(Ordering::Relaxed).to_string(),
        |k, text| {
            k.pipes.user_pages_soft.store(written(text)?, Ordering::Relaxed);
            Ok(())
        },
    ),
    fixed("fs/protected_fifos", |_| "1".into()),
    fixed("fs/protected_hardlinks", |_| "1".into()),
    fixed("fs/protected_regular", |_| "1".into()),
    fixed("fs/protected_symlinks", |_| "1".into()),
    fixed("fs/suid_dumpable", |_| "0".into()),
    fixed("kernel/cap_last_cap", |_| "40".into()),
    fixed("kernel/core_pattern", |_| "core".into()),
    fixed("kernel/core_uses_pid", |_| "0".into()),
    fixed("kernel/dmesg_restrict", |_| "1".into()),
    variable(
        "kernel/domainname",
        |k| String::from_utf8_lossy(&k.names.lock().domain).into_owned(),
        |k, text| {
            k.names.lock().domain = name(text);
            Ok(())
        },
    ),
    variable(
        "kernel/hostname",
        |k| String::from_utf8_lossy(&k.names.lock().host).into_owned(),
        |k, text| {
            k.names.lock().host = name(text);
            Ok(())
        },
    ),
    fixed("kernel/kptr_restrict", |_| "1".into()),
    fixed("kernel/msgmax", |_| ipc::MSGMAX.to_string()),
    fixed("kernel/msgmnb", |_| ipc::MSGMNB.to_string()),
    fixed("kernel/msgmni", |_| ipc::MSGMNI.to_string()),
    fixed("kernel/ngroups_max", |_| "65536".into()),
    fixed("kernel/osrelease", |k| k.profile.release_text().to_owned()),
    fixed("kernel/ostype", |_| "Linux".into()),
    fixed("kernel/overflowgid", |_| "65534".into()),
    fixed("kernel/overflowuid", |_| "65534".into()),
    fixed("kernel/panic", |_| "0".into()),
    fixed("kernel/panic_on_oops", |_| "0".into()),
    fixed("kernel/perf_event_paranoid", |_| "3".into()),
    fixed("kernel/pid_max", |_| ProcessTable::pid_max().to_string()),
    fixed("kernel/printk", |_| "4\t4\t1\t7".into()),
    fixed("kernel/pty/max", |_| "4096".into()),
    fixed("kernel/pty/reserve", |_| "1024".into()),
    fixed("kernel/random/boot_id", boot_id),
    fixed("kernel/random/entropy_avail", |_| "256".into()),
    fixed("kernel/random/poolsize", |_| "256".into()),
    fixed("kernel/random/urandom_min_reseed_secs", |_| "60".into()),
    fixed("kernel/random/uuid", |_| fresh_uuid()),
    fixed("kernel/random/write_wakeup_threshold", |_| "256".into()),
    fixed("kernel/randomize_va_space", |_| "2".into()),
    fixed("kernel/sched_autogroup_enabled", |_| "0".into()),
    fixed("kernel/seccomp/actions_avail", |_| "kill_process kill_thread trap errno user_notif trace log allow".into()),
    fixed("kernel/sem", |_| format!("{}\t{}\t{}\t{}", ipc::SEMMSL, ipc::SEMMNS, ipc::SEMOPM, ipc::SEMMNI)),
    fixed("kernel/shm_rmid_forced", |_| "0".into()),
    fixed("kernel/shmall", |_| ipc::SHMALL.to_string()),
    fixed("kernel/shmmax", |_| ipc::SHMMAX.to_string()),
    fixed("kernel/shmmni", |_| ipc::SHMMNI.to_string()),
    fixed("kernel/sysrq", |_| "0".into()),
    fixed("kernel/tainted", |_| "0".into()),
    fixed("kernel/threads-max", |_| ProcessTable::pid_max().to_string()),
    fixed("kernel/unprivileged_userns_clone", |_| "0".into()),
    fixed("kernel/version", |k| k.profile.version_text().to_owned()),
    fixed("net/core/netdev_max_backlog", |_| "1000".into()),
    fixed("net/core/rmem_default", |_| "212992".into()),
    fixed("net/core/rmem_max", |_| "212992".into()),
    fixed("net/core/somaxconn", |_| "4096".into()),
    fixed("net/core/wmem_default", |_| "212992".into()),
    fixed("net/core/wmem_max", |_| "212992".into()),
    fixed("net/ipv4/ip_forward", |_| "0".into()),
    fixed("net/ipv4/ip_local_port_range", |_| "32768\t60999".into()),
    fixed("net/ipv4/ip_unprivileged_port_start", |_| "1024".into()),
    fixed("net/ipv4/ping_group_range", |_| "1\t0".into()),
    fixed("net/ipv4/tcp_available_congestion_control", |_| "reno".into()),
    fixed("net/ipv4/tcp_congestion_control", |_| "reno".into()),
    fixed("net/ipv4/tcp_fin_timeout", |_| "60".into()),
    fixed("net/ipv4/tcp_keepalive_intvl", |_| "75".into()),
    fixed("net/ipv4/tcp_keepalive_probes", |_| "9".into()),
    fixed("net/ipv4/tcp_keepalive_time", |_| "7200".into()),
    fixed("net/ipv4/tcp_max_syn_backlog", |_| "512".into()),
    fixed("net/ipv4/tcp_rmem", |_| "4096\t131072\t6291456".into()),
    fixed("net/ipv4/tcp_sack", |_| "1".into()),
    fixed("net/ipv4/tcp_syncookies", |_| "1".into()),
    fixed("net/ipv4/tcp_timestamps", |_| "1".into()),
    fixed("net/ipv4/tcp_window_scaling", |_| "1".into()),
    fixed("net/ipv4/tcp_wmem", |_| "4096\t16384\t4194304".into()),
    fixed("net/ipv6/bindv6only", |_| "0".into()),
    fixed("net/ipv6/conf/all/disable_ipv6", |_| "0".into()),
    fixed("net/ipv6/conf/default/disable_ipv6", |_| "0".into()),
    fixed("net/ipv6/conf/lo/disable_ipv6", |_| "0".into()),
    fixed("net/unix/max_dgram_qlen", |_| "10".into()),
    fixed("vm/dirty_background_ratio", |_| "10".into()),
    fixed("vm/dirty_expire_centisecs", |_| "3000".into()),
    fixed("vm/dirty_ratio", |_| "20".into()),
    fixed("vm/dirty_writeback_centisecs", |_| "500".into()),
    fixed("vm/drop_caches", |_| "0".into()),
    fixed("vm/max_map_count", |_| "65530".into()),
    fixed("vm/min_free_kbytes", |_| "45056".into()),
    fixed("vm/mmap_min_addr", |_| "65536".into()),
    fixed("vm/nr_hugepages", |_| "0".into()),
    fixed("vm/overcommit_kbytes", |_| "0".into()),
    fixed("vm/overcommit_memory", |_| "1".into()),
    fixed("vm/overcommit_ratio", |_| "50".into()),
    fixed("vm/panic_on_oom", |_| "0".into()),
    fixed("vm/swappiness", |_| "60".into()),
    fixed("vm/vfs_cache_pressure", |_| "100".into()),
];

/// A name without its line's end, as long as names can be.
fn name(text: &[u8]) -> Vec<u8> {
    text.iter().copied().take_while(|&b| b != b'\n' && b != 0).take(64).collect()
}

fn set_pipe_size(kernel: &Kernel, text: &[u8]) -> Result<(), Errno> {
    let bytes: u32 = written(text)?;
    if bytes == 0 || bytes > 1 << 31 {
        return Err(Errno::EINVAL);
    }
    kernel.pipes.max_size.store(bytes.max(4096).next_power_of_two(), Ordering::Relaxed);
    Ok(())
}

/// A random number as RFC 4122 writes it, version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn fresh_uuid() -> String {
    let mut bytes = [0; 16];
    // Without random numbers the host would not have started the sandbox.
    let _ = getrandom::fill(&mut bytes);
    uuid(bytes)
}

fn boot_id(kernel: &Kernel) -> String {
    kernel.boot_id.get_or_init(fresh_uuid).clone()
}

static DIRECTORY: Entry = Entry::listing("", 0o555, &[], &Parameters);
static READ_ONLY: Entry = Entry::file("", 0o444, content);
static VARIABLE: Entry = Entry::writable("", 0o644, content, store);

fn parameter(query: &Query<'_>) -> Result<&'static Parameter, Errno> {
    let (at, _) = place(query.subject);
    PARAMETERS.get(at).ok_or(Errno::ENOENT)
}

fn content(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = (parameter(query)?.get)(query.kernel);
    text.push('\n');
    Ok(text.into_bytes())
}

fn store(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let set = parameter(query)?.set.ok_or(Errno::EACCES)?;
    set(query.kernel, text)
}

/// Directories are known by the first parameter in them and by their depth.
fn place(subject: &Subject) -> (usize, usize) {
    let index = usize::try_from(subject.index).unwrap_or(0);
    (index >> 4, index & 15)
}

/// The directories and files below `/proc/sys`, which follow from the paths.
pub struct Parameters;

impl Parameters {
    /// Each name in a directory, with what it stands for.
    fn entries(subject: &Subject) -> Vec<(&'static str, &'static Entry, i32)> {
        let (first, depth) = place(subject);
        let prefix: Vec<&str> = PARAMETERS.get(first).map_or("", |p| p.path).split('/').take(depth).collect();
        let mut all: Vec<(&str, &Entry, i32)> = Vec::new();
        for (i, parameter) in PARAMETERS.iter().enumerate().skip(if depth == 0 { 0 } else { first }) {
            let mut parts = parameter.path.split('/');
            if !prefix.iter().all(|part| parts.next() == Some(part)) {
                break;
            }
            let Some(name) = parts.next() else { continue };
            if all.last().is_some_and(|(last, ..)| *last == name) {
                continue;
            }
            let (entry, depth) = match (parts.next(), parameter.set) {
                (Some(_), _) => (&DIRECTORY, depth + 1),
                (None, Some(_)) => (&VARIABLE, 0),
                (None, None) => (&READ_ONLY, 0),
            };
            all.push((name, entry, (i << 4 | depth) as i32));
        }
        all
    }
}

impl Listing for Parameters {
    fn find(&self, _: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let found = Self::entries(subject).into_iter().find(|(entry, ..)| entry.as_bytes() == name);
        let (_, entry, index) = found.ok_or(Errno::ENOENT)?;
        Ok((entry, Subject { index, ..Subject::default() }))
    }

    fn list(&self, _: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        let all = Self::entries(subject).into_iter();
        Ok(all.map(|(name, entry, at)| Listed { cookie: at as u64 + 1, name: name.to_owned(), entry }).collect())
    }
}

/// Sets a parameter before the sandbox starts, by its name as sysctl(8) writes it.
///
/// # Errors
/// `ENOENT` if there is none, `EACCES` if it is fixed at another value, and those of the parameter.
pub fn set(kernel: &Kernel, name: &str, value: &str) -> Result<(), Errno> {
    let path = name.replace('.', "/");
    let parameter = PARAMETERS.iter().find(|p| p.path == path).ok_or(Errno::ENOENT)?;
    match parameter.set {
        Some(set) => set(kernel, value.as_bytes()),
        None if (parameter.get)(kernel).split_whitespace().eq(value.split_whitespace()) => Ok(()),
        None => Err(Errno::EACCES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        // Directories are found by walking on from their first parameter: what belongs together must stand together.
        let mut seen: Vec<&str> = Vec::new();
        for parameter in PARAMETERS {
            let directory = parameter.path.rsplit_once('/').map_or("", |(directory, _)| directory);
            if seen.last() != Some(&directory) {
                let nested = seen.last().is_some_and(|last| last.starts_with(directory));
                assert!(nested || !seen.contains(&directory), "{} stands apart", parameter.path);
                seen.push(directory);
            }
        }
        let names: Vec<_> = Parameters::entries(&Subject::default()).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["fs", "kernel", "net", "vm"]);
    }
}
