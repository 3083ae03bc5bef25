//! `/proc/sys`: kernel parameters by path. Each subsystem has its own table.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;

use super::process::written;
use crate::fs::pseudo::{Entry, Listed, Listing, Query, Subject};
use crate::id_map::OVERFLOW_ID;
use crate::kernel::Kernel;
use crate::tunables::Tunable;

/// Sets a value from the text written to the file, or returns an error.
pub(crate) type Set = fn(&Kernel, &[u8]) -> Result<(), Errno>;

/// A parameter: a path below `/proc/sys` and a value.
pub(crate) struct Parameter {
    path: &'static str,
    value: Value,
}

enum Value {
    Fixed(fn(&Kernel) -> String),
    Variable(fn(&Kernel) -> String, Set),
    Number(fn(&Kernel) -> &Tunable),
}

impl Parameter {
    /// The path below `/proc/sys`.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// The value as text, without the newline.
    pub(crate) fn get(&self, kernel: &Kernel) -> String {
        match self.value {
            Value::Fixed(get) | Value::Variable(get, _) => get(kernel),
            Value::Number(of) => of(kernel).get().to_string(),
        }
    }

    /// Whether it is read-only.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self.value, Value::Fixed(_))
    }

    /// Sets the value from text.
    ///
    /// # Errors
    /// `EACCES` if it is read-only; `EINVAL` for an invalid value.
    pub(crate) fn set(&self, kernel: &Kernel, text: &[u8]) -> Result<(), Errno> {
        match self.value {
            Value::Fixed(_) => Err(Errno::EACCES.here()),
            Value::Variable(_, set) => set(kernel, text),
            Value::Number(of) => of(kernel).set(written(text)?),
        }
    }
}

/// The first cookie of foreign parameters, which follow those of the table.
const FOREIGN: u64 = 1 << 40;

/// A read-only parameter: a constant, or a value that only the kernel changes.
pub(crate) const fn fixed(path: &'static str, get: fn(&Kernel) -> String) -> Parameter {
    Parameter { path, value: Value::Fixed(get) }
}

/// A numeric parameter.
pub(crate) const fn number(path: &'static str, of: fn(&Kernel) -> &Tunable) -> Parameter {
    Parameter { path, value: Value::Number(of) }
}

/// A parameter with its own format.
pub(crate) const fn variable(path: &'static str, get: fn(&Kernel) -> String, set: Set) -> Parameter {
    Parameter { path, value: Value::Variable(get, set) }
}

/// The parameters that belong to no other subsystem.
pub(crate) const PARAMETERS: &[Parameter] = &[
    number("fs/aio-max-nr", |k| &k.tunables.aio_requests),
    fixed("fs/aio-nr", |k| k.mm.aio_requests.load(Ordering::Relaxed).to_string()),
    number("fs/epoll/max_user_watches", |k| &k.tunables.epoll_watches),
    number("fs/file-max", |k| &k.tunables.file_max),
    fixed("fs/file-nr", |k| format!("{}\t0\t{}", k.vfs.open_files.count(), k.tunables.file_max.get())),
    number("fs/inotify/max_queued_events", |k| &k.tunables.inotify_events),
    number("fs/inotify/max_user_instances", |k| &k.tunables.inotify_instances),
    number("fs/inotify/max_user_watches", |k| &k.tunables.inotify_watches),
    fixed("fs/lease-break-time", |_| "45".into()),
    fixed("fs/leases-enable", |_| "0".into()),
    fixed("fs/mount-max", |_| "100000".into()),
    number("fs/mqueue/msg_default", |k| &k.tunables.mqueue_messages_default),
    number("fs/mqueue/msg_max", |k| &k.tunables.mqueue_messages),
    number("fs/mqueue/msgsize_default", |k| &k.tunables.mqueue_bytes_default),
    number("fs/mqueue/msgsize_max", |k| &k.tunables.mqueue_bytes),
    number("fs/mqueue/queues_max", |k| &k.tunables.mqueue_queues),
    number("fs/nr_open", |k| &k.tunables.nr_open),
    fixed("fs/overflowgid", |_| OVERFLOW_ID.to_string()),
    fixed("fs/overflowuid", |_| OVERFLOW_ID.to_string()),
    variable("fs/pipe-max-size", |k| k.fs.pipes.max_size.load(Ordering::Relaxed).to_string(), set_pipe_size),
    variable(
        "fs/pipe-user-pages-hard",
        |k| k.fs.pipes.user_pages_hard.load(Ordering::Relaxed).to_string(),
        |k, text| {
            k.fs.pipes.user_pages_hard.store(written(text)?, Ordering::Relaxed);
            Ok(())
        },
    ),
    variable(
        "fs/pipe-user-pages-soft",
        |k| k.fs.pipes.user_pages_soft.load(Ordering::Relaxed).to_string(),
        |k, text| {
            k.fs.pipes.user_pages_soft.store(written(text)?, Ordering::Relaxed);
            Ok(())
        },
    ),
    number("fs/protected_fifos", |k| &k.tunables.protected_fifos),
    number("fs/protected_hardlinks", |k| &k.tunables.protected_hardlinks),
    number("fs/protected_regular", |k| &k.tunables.protected_regular),
    number("fs/protected_symlinks", |k| &k.tunables.protected_symlinks),
    number("fs/suid_dumpable", |k| &k.tunables.suid_dumpable),
    fixed("kernel/cap_last_cap", |_| "40".into()),
    fixed("kernel/core_pattern", |_| "core".into()),
    fixed("kernel/core_uses_pid", |_| "0".into()),
    number("kernel/dmesg_restrict", |k| &k.tunables.dmesg_restrict),
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
    number("kernel/kptr_restrict", |k| &k.tunables.kptr_restrict),
    fixed("kernel/ngroups_max", |_| "65536".into()),
    variable(
        "kernel/ns_last_pid",
        |k| k.processes.lock().last_pid().to_string(),
        |k, text| {
            let last = Some(written(text)?).filter(|last| (0..k.tunables.pid_max.get() as i32).contains(last));
            k.processes.lock().set_last_pid(last.ok_or_else(|| Errno::EINVAL.here())?);
            Ok(())
        },
    ),
    fixed("kernel/osrelease", |k| k.profile.release_text().to_owned()),
    fixed("kernel/ostype", |_| "Linux".into()),
    fixed("kernel/overflowgid", |_| OVERFLOW_ID.to_string()),
    fixed("kernel/overflowuid", |_| OVERFLOW_ID.to_string()),
    number("kernel/panic", |k| &k.tunables.panic),
    number("kernel/panic_on_oops", |k| &k.tunables.panic_on_oops),
    fixed("kernel/perf_event_paranoid", |_| "3".into()),
    number("kernel/pid_max", |k| &k.tunables.pid_max),
    variable("kernel/printk", printk, set_printk),
    fixed("kernel/random/boot_id", boot_id),
    fixed("kernel/random/entropy_avail", |_| "256".into()),
    fixed("kernel/random/poolsize", |_| "256".into()),
    number("kernel/random/urandom_min_reseed_secs", |k| &k.tunables.urandom_reseed),
    fixed("kernel/random/uuid", |_| fresh_uuid()),
    number("kernel/random/write_wakeup_threshold", |k| &k.tunables.random_wakeup),
    number("kernel/randomize_va_space", |k| &k.tunables.randomize),
    fixed("kernel/sched_autogroup_enabled", |_| "0".into()),
    fixed("kernel/seccomp/actions_avail", |_| "kill_process kill_thread trap errno user_notif trace log allow".into()),
    number("kernel/sysrq", |k| &k.tunables.sysrq),
    fixed("kernel/tainted", |_| "0".into()),
    number("kernel/threads-max", |k| &k.tunables.threads_max),
    fixed("kernel/unprivileged_userns_clone", |_| "0".into()),
    fixed("kernel/version", |k| k.profile.version_text().to_owned()),
    number("vm/dirty_background_ratio", |k| &k.tunables.dirty_background_ratio),
    number("vm/dirty_expire_centisecs", |k| &k.tunables.dirty_expire),
    number("vm/dirty_ratio", |k| &k.tunables.dirty_ratio),
    number("vm/dirty_writeback_centisecs", |k| &k.tunables.dirty_writeback),
    fixed("vm/drop_caches", |_| "0".into()),
    number("vm/max_map_count", |k| &k.tunables.max_map_count),
    number("vm/min_free_kbytes", |k| &k.tunables.min_free),
    number("vm/mmap_min_addr", |k| &k.tunables.mmap_min_addr),
    fixed("vm/nr_hugepages", |_| "0".into()),
    number("vm/overcommit_kbytes", |k| &k.tunables.overcommit_kbytes),
    number("vm/overcommit_memory", |k| &k.tunables.overcommit),
    number("vm/overcommit_ratio", |k| &k.tunables.overcommit_ratio),
    number("vm/panic_on_oom", |k| &k.tunables.panic_on_oom),
    number("vm/swappiness", |k| &k.tunables.swappiness),
    number("vm/vfs_cache_pressure", |k| &k.tunables.cache_pressure),
];

/// A name without the line's end, truncated to the maximum length.
fn name(text: &[u8]) -> Vec<u8> {
    text.iter().copied().take_while(|&b| b != b'\n' && b != 0).take(64).collect()
}

fn set_pipe_size(kernel: &Kernel, text: &[u8]) -> Result<(), Errno> {
    let bytes: u32 = written(text)?;
    if bytes == 0 || bytes > 1 << 31 {
        return Err(Errno::EINVAL.here());
    }
    kernel.fs.pipes.max_size.store(bytes.max(4096).next_power_of_two(), Ordering::Relaxed);
    Ok(())
}

fn printk_levels(kernel: &Kernel) -> [&Tunable; 4] {
    let t = &kernel.tunables;
    [&t.printk_console, &t.printk_default, &t.printk_least, &t.printk_boot]
}

fn printk(kernel: &Kernel) -> String {
    printk_levels(kernel).map(|level| level.get().to_string()).join("\t")
}

/// Sets the first of the four levels, as many as are given.
fn set_printk(kernel: &Kernel, text: &[u8]) -> Result<(), Errno> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let values = words.map(written).collect::<Result<Vec<i64>, Errno>>()?;
    printk_levels(kernel).iter().zip(values).try_for_each(|(level, value)| level.set(value))
}

/// A random UUID, version 4, as in RFC 4122.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes.iter().enumerate().fold(String::new(), |text, (at, byte)| {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        format!("{text}{dash}{byte:02x}")
    })
}

fn fresh_uuid() -> String {
    let mut bytes = [0; 16];
    // Cannot fail: the sandbox does not start without random numbers.
    let _ = getrandom::fill(&mut bytes);
    uuid(bytes)
}

fn boot_id(kernel: &Kernel) -> String {
    kernel.fs.boot_id.get_or_init(fresh_uuid).clone()
}

static DIRECTORY: Entry = Entry::listing("", 0o555, &[], &Parameters);
static READ_ONLY: Entry = Entry::file("", 0o444, content);
static VARIABLE: Entry = Entry::writable("", 0o644, content, store);

fn parameter(query: &Query<'_>) -> Result<&'static Parameter, Errno> {
    let (at, _) = place(query.subject);
    query.kernel.fs.registry.parameters().get(at).copied().ok_or_else(|| Errno::ENOENT.here())
}

fn content(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let mut text = parameter(query)?.get(query.kernel);
    text.push('\n');
    Ok(text.into_bytes())
}

/// Sets a parameter. The permission of the writer is checked, not only that of the opener.
fn store(query: &Query<'_>, text: &[u8]) -> Result<(), Errno> {
    let parameter = parameter(query)?;
    let (_, who) = query.caller();
    let of_network = parameter.path.starts_with("net/");
    if who.euid != 0 && !(of_network && who.has(Capability::CAP_NET_ADMIN)) {
        return Err(Errno::EPERM.here());
    }
    parameter.set(query.kernel, text)
}

/// A directory's subject encodes its first parameter and its depth.
fn place(subject: &Subject) -> (usize, usize) {
    let index = usize::try_from(subject.index).unwrap_or(0);
    (index >> 4, index & 15)
}

/// The directories and files below `/proc/sys`, derived from the paths.
pub(crate) struct Parameters;

impl Parameters {
    /// The names in a directory with their entries and subjects.
    fn entries(parameters: &[&'static Parameter], subject: &Subject) -> Vec<(&'static str, &'static Entry, i32)> {
        let (first, depth) = place(subject);
        let prefix: Vec<&str> = parameters.get(first).map_or("", |p| p.path).split('/').take(depth).collect();
        let mut all: Vec<(&str, &Entry, i32)> = Vec::new();
        for (i, parameter) in parameters.iter().enumerate().skip(if depth == 0 { 0 } else { first }) {
            let mut parts = parameter.path.split('/');
            if !prefix.iter().all(|part| parts.next() == Some(part)) {
                break;
            }
            let Some(name) = parts.next() else { continue };
            if all.last().is_some_and(|(last, ..)| *last == name) {
                continue;
            }
            let (entry, depth) = match (parts.next(), parameter.is_fixed()) {
                (Some(_), _) => (&DIRECTORY, depth + 1),
                (None, false) => (&VARIABLE, 0),
                (None, true) => (&READ_ONLY, 0),
            };
            all.push((name, entry, (i << 4 | depth) as i32));
        }
        all
    }
}

/// A directory with parameters of another kernel, such as those of the host's network.
pub(crate) struct Foreign {
    /// The directory, below `/proc/sys`.
    pub directory: &'static str,
    /// The entry in it that remains the sentry's.
    pub own: &'static str,
    /// Whether the other entries are those of another kernel.
    pub is_present: fn(&Kernel) -> bool,
    /// Finds the entry at a path below `/proc/sys`.
    pub find: fn(&Kernel, &str) -> Result<(&'static Entry, Subject), Errno>,
    /// Lists the directory at a path, with cookies from a number on.
    pub list: fn(&Kernel, &str, u64) -> Result<Vec<Listed>, Errno>,
}

/// The other kernel's parameters in the directory of a subject, if it has any.
fn foreign(kernel: &Kernel, subject: &Subject) -> Option<&'static Foreign> {
    let (first, depth) = place(subject);
    let path = kernel.fs.registry.parameters().get(first).filter(|_| depth == 1)?.path;
    let directory = path.split_once('/').map_or(path, |(directory, _)| directory);
    kernel.fs.registry.foreign().find(|foreign| foreign.directory == directory && (foreign.is_present)(kernel))
}

/// The parameter at a path below `/proc/sys`.
pub(crate) fn find(kernel: &Kernel, path: &str) -> Option<&'static Parameter> {
    kernel.fs.registry.parameters().iter().find(|parameter| parameter.path == path).copied()
}

/// The file of a writable parameter, by path.
pub(crate) fn file_of(kernel: &Kernel, path: &str) -> Option<(&'static Entry, Subject)> {
    let at = kernel.fs.registry.parameters().iter().position(|parameter| parameter.path == path)?;
    Some((&VARIABLE, Subject { index: (at << 4) as i32, ..Subject::default() }))
}

impl Listing for Parameters {
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        if let Some(foreign) = foreign(kernel, subject).filter(|foreign| name != foreign.own.as_bytes()) {
            let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT.here())?;
            return (foreign.find)(kernel, &format!("{}/{name}", foreign.directory));
        }
        let entries = Self::entries(kernel.fs.registry.parameters(), subject);
        let (_, entry, index) =
            entries.into_iter().find(|(entry, ..)| entry.as_bytes() == name).ok_or_else(|| Errno::ENOENT.here())?;
        Ok((entry, Subject { index, ..Subject::default() }))
    }

    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        let foreign = foreign(kernel, subject);
        let own = Self::entries(kernel.fs.registry.parameters(), subject).into_iter();
        let own = own.filter(|(name, ..)| foreign.is_none_or(|foreign| *name == foreign.own));
        let mut all: Vec<Listed> =
            own.map(|(name, entry, at)| Listed { cookie: at as u64 + 1, name: name.to_owned(), entry }).collect();
        if let Some(foreign) = foreign {
            let others = (foreign.list)(kernel, foreign.directory, FOREIGN)?;
            all.extend(others.into_iter().filter(|listed| listed.name != foreign.own));
        }
        Ok(all)
    }
}

/// Sets a parameter before the sandbox starts, by its sysctl(8) name.
///
/// # Errors
/// `ENOENT` if there is no such parameter; `EACCES` if it is read-only with another value; errors of the parameter.
pub(crate) fn set(kernel: &Kernel, name: &str, value: &str) -> Result<(), Errno> {
    let path = name.replace('.', "/");
    let parameter = find(kernel, &path).ok_or_else(|| Errno::ENOENT.here())?;
    let same = parameter.is_fixed() && parameter.get(kernel).split_whitespace().eq(value.split_whitespace());
    if same { Ok(()) } else { parameter.set(kernel, value.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{REGISTRATION, Registration, Registry};

    #[test]
    fn directories_follow_from_the_paths() {
        static OTHER: Registration = Registration {
            parameters: &[fixed("net/core/somaxconn", |_| String::new()), fixed("kernel/shmall", |_| String::new())],
            ..Registration::EMPTY
        };
        static ALL: &[&Registration] = &[&OTHER, &REGISTRATION];
        let registry = Registry::new(ALL);
        let names = |subject: &Subject| -> Vec<&str> {
            Parameters::entries(registry.parameters(), subject).into_iter().map(|(name, ..)| name).collect()
        };
        assert_eq!(names(&Subject::default()), ["fs", "kernel", "net", "vm"]);
        let kernel = registry.parameters().iter().position(|p| p.path.starts_with("kernel/")).unwrap();
        let below = names(&Subject { index: (kernel << 4 | 1) as i32, ..Subject::default() });
        // A directory merges the parameters of all subsystems, without duplicates.
        assert!(below.contains(&"shmall") && below.contains(&"hostname"));
        assert!(below.is_sorted() && below.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
