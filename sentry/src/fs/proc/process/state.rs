//! Files of `/proc/PID` on the state of a task: stat, statm and status.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use amber_abi::SignalSet;
use amber_abi::errno::Errno;
use amber_abi::sched::SchedPolicy;
use amber_abi::task::{Resource, WaitStatus};
use amber_platform::PAGE_SIZE;

use crate::fs::pseudo::Query;
use crate::kernel::Kernel;
use crate::mm::{Layout, MemoryManager, Totals};
use crate::task::{Activity, CpuSet, Task, Usage};
use crate::users::Counted;

/// Nanoseconds per clock tick as programs see it (`USER_HZ` is 100).
pub(crate) const TICK: u64 = 10_000_000;
/// `PF_RANDOMIZE` and `PF_FORKNOEXEC` of the flags in stat.
const RANDOMIZE: u32 = 0x0040_0000;
const FORK_NO_EXEC: u32 = 0x40;

/// A task's relations to others.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    parent: i32,
    pgid: i32,
    sid: i32,
    terminal: u32,
    foreground: i32,
    exit_signal: i32,
    zombie: Option<WaitStatus>,
}

fn place(kernel: &Kernel, pid: i32) -> Place {
    let table = kernel.processes.lock();
    let Some(process) = table.process(pid) else { return Place { foreground: -1, ..Place::default() } };
    let terminal = process.terminal.clone();
    Place {
        parent: process.parent,
        pgid: process.pgid,
        sid: process.sid,
        terminal: terminal.as_ref().map_or(0, |t| t.device_number()),
        foreground: terminal.map_or(-1, |t| t.foreground().unwrap_or(-1)),
        exit_signal: process.exit_signal,
        zombie: process.zombie,
    }
}

/// The activity of a task. One that has ended but not been reaped is a zombie, even a leader with running threads.
pub(super) fn activity(task: &Task) -> Activity {
    if task.has_ended() { Activity::Zombie } else { task.activity() }
}

/// The usage that the entry reports: of the process or of one thread.
pub(super) fn usage(query: &Query<'_>, task: &Task) -> Usage {
    if query.subject.is_thread { task.usage() } else { task.group().usage() }
}

/// Clock ticks from the start of the sandbox to that of the task.
fn start_ticks(kernel: &Kernel, task: &Task) -> u64 {
    let age = SystemTime::now().duration_since(task.started()).unwrap_or_default();
    kernel.time.started.elapsed().saturating_sub(age).as_nanos() as u64 / TICK
}

/// Sizes and layout of an address space; zeros without one.
fn facts(memory: Option<Arc<MemoryManager>>) -> Result<(Totals, Layout), Errno> {
    match memory {
        Some(mm) => Ok((mm.totals_unless_killed()?, mm.with_layout(|layout| layout.clone()))),
        None => Ok(Default::default()),
    }
}

fn pending(task: &Task) -> (SignalSet, SignalSet) {
    let shared = task.group().state().pending.set();
    (task.signals().pending.set(), shared)
}

fn policy_number(policy: SchedPolicy) -> u32 {
    policy.raw()
}

/// `/proc/PID/stat`.
pub(super) fn stat(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = query.task()?;
    let group = task.group();
    let inspected = query.inspect(|task| task.memory());
    let open = inspected.is_ok();
    let place = place(query.kernel, group.pid());
    let (used, children) = (usage(query, &task), group.past_usage().children);
    let (totals, layout) = facts(inspected.unwrap_or_else(|_| task.memory()))?;
    let schedule = task.schedule();
    let (own, _) = pending(&task);
    let (ignored, caught) = group.actions().ignored_and_caught();
    let flags = RANDOMIZE | if group.has_executed() { 0 } else { FORK_NO_EXEC };
    // Addresses are shown only to tasks that may inspect the memory.
    let shown = |address: u64| if open { address } else { 0 };
    let code = |address: u64| if open || address == 0 { address } else { 1 };
    let threads = group.task_count().max(1);
    let exit_code = place.zombie.filter(|_| open).map_or(0, |status| status.raw());
    let mut text = format!("{} (", task.tid()).into_bytes();
    text.extend_from_slice(&task.name());
    let mut rest = String::from(") ");
    let ticks = |nanos: u64| nanos / TICK;
    let _ = write!(
        rest,
        "{} {} {} {} {} {} {flags} {} {} {} {} {} {} {} {} {} {} {threads} 0 {} {} {} {} {} {} {} 0 0 ",
        activity(&task).letter(),
        place.parent,
        place.pgid,
        place.sid,
        place.terminal as i32,
        place.foreground,
        used.minor_faults,
        children.minor_faults,
        used.major_faults,
        children.major_faults,
        ticks(used.user),
        ticks(used.system),
        ticks(children.user),
        ticks(children.system),
        schedule.shown_priority(),
        schedule.nice,
        start_ticks(query.kernel, &task),
        totals.size,
        totals.rss / PAGE_SIZE,
        group.limits().soft(Resource::RLIMIT_RSS),
        code(layout.start_code),
        code(layout.end_code),
        shown(layout.start_stack),
    );
    let _ = writeln!(
        rest,
        "{} {} {} {} 0 0 0 {} 0 {} {} 0 0 0 {} {} {} {} {} {} {} {exit_code}",
        own.0 & 0x7fff_ffff,
        task.blocked_signals().0 & 0x7fff_ffff,
        ignored.0 & 0x7fff_ffff,
        caught.0 & 0x7fff_ffff,
        if task.is_leader() { place.exit_signal } else { -1 },
        schedule.priority,
        policy_number(schedule.policy),
        shown(layout.start_data),
        shown(layout.end_data),
        shown(layout.start_brk),
        shown(layout.arg_start),
        shown(layout.arg_end),
        shown(layout.env_start),
        shown(layout.env_end),
    );
    text.extend_from_slice(rest.as_bytes());
    Ok(text)
}

/// `/proc/PID/statm`.
pub(super) fn statm(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let (totals, _) = facts(query.task()?.memory())?;
    let pages = |bytes: u64| bytes / PAGE_SIZE;
    let (size, rss, shared) = (pages(totals.size), pages(totals.rss), pages(totals.file + totals.shmem));
    let (text, data) = (pages(totals.exe), pages(totals.data + totals.stack));
    Ok(format!("{size} {rss} {shared} {text} 0 {data} 0\n").into_bytes())
}

/// A set of CPUs (or memory nodes) as words of 32 bits, highest first.
pub(crate) fn mask(set: &CpuSet, bits: usize) -> String {
    let word = |i: usize| set.words().get(i / 2).map_or(0, |w| (w >> (i % 2 * 32)) as u32);
    let count = bits.div_ceil(32).max(1);
    let first = bits - (count - 1) * 32;
    let width = first.div_ceil(4).max(1);
    let mut text = format!("{:0width$x}", word(count - 1));
    for i in (0..count - 1).rev() {
        let _ = write!(text, ",{:08x}", word(i));
    }
    text
}

/// The set as ranges, such as `0-3,8`.
pub(crate) fn ranges(set: &CpuSet, bits: usize) -> String {
    let has = |i: usize| set.words().get(i / 64).is_some_and(|w| w >> (i % 64) & 1 != 0);
    let mut parts = Vec::new();
    let mut at = 0;
    while at < bits {
        if !has(at) {
            at += 1;
            continue;
        }
        let end = (at..bits).take_while(|&i| has(i)).last().unwrap_or(at);
        parts.push(if end == at { at.to_string() } else { format!("{at}-{end}") });
        at = end + 1;
    }
    parts.join(",")
}

/// `/proc/PID/status`.
pub(super) fn status(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = query.task()?;
    let mut text = b"Name:\t".to_vec();
    for &byte in &task.name() {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            byte => text.push(byte),
        }
    }
    let mut rest = String::new();
    identity_lines(&mut rest, query.kernel, &task);
    if let Some(mm) = task.memory() {
        memory_lines(&mut rest, &mm.totals_unless_killed()?);
    }
    signal_lines(&mut rest, query.kernel, &task);
    let who = task.credentials();
    for (name, set) in [
        ("Inh", who.inheritable),
        ("Prm", who.permitted),
        ("Eff", who.effective),
        ("Bnd", who.bounding),
        ("Amb", who.ambient),
    ] {
        let _ = writeln!(rest, "Cap{name}:\t{:016x}", set.bits());
    }
    let (affinity, cpus) = (task.schedule().affinity, query.kernel.cpus);
    let used = task.usage();
    let seccomp = task.seccomp();
    let _ = writeln!(rest, "NoNewPrivs:\t{}", u8::from(seccomp.no_new_privs()));
    let _ = writeln!(rest, "Seccomp:\t{}\nSeccomp_filters:\t{}", seccomp.mode().raw(), seccomp.count());
    rest.push_str("Speculation_Store_Bypass:\tthread vulnerable\nSpeculationIndirectBranch:\tconditional enabled\n");
    let _ = writeln!(rest, "Cpus_allowed:\t{}\nCpus_allowed_list:\t{}", mask(&affinity, cpus), ranges(&affinity, cpus));
    rest.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\n");
    let _ = writeln!(rest, "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t0", used.waits);
    text.extend_from_slice(rest.as_bytes());
    Ok(text)
}

fn identity_lines(text: &mut String, kernel: &Kernel, task: &Arc<Task>) {
    let (pid, tid) = (task.group().pid(), task.tid());
    let place = place(kernel, pid);
    let who = task.credentials();
    let activity = activity(task);
    let _ = writeln!(text, "\nUmask:\t{:04o}\nState:\t{} ({})", task.fs().umask(), activity.letter(), activity.word());
    let _ = writeln!(text, "Tgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{}\nTracerPid:\t0", place.parent);
    let _ = writeln!(text, "Uid:\t{}\t{}\t{}\t{}", who.uid, who.euid, who.suid, who.fsuid);
    let _ = writeln!(text, "Gid:\t{}\t{}\t{}\t{}", who.gid, who.egid, who.sgid, who.fsgid);
    let size = if task.has_ended() { 0 } else { task.files().size().max(64) };
    let _ = write!(text, "FDSize:\t{size}\nGroups:\t");
    for group in &who.groups {
        let _ = write!(text, "{group} ");
    }
    let _ = write!(text, "{}", if who.groups.is_empty() { " " } else { "" });
    let _ = writeln!(text, "\nNStgid:\t{pid}\nNSpid:\t{tid}\nNSpgid:\t{}\nNSsid:\t{}", place.pgid, place.sid);
    if "6.10".parse().is_ok_and(|since| kernel.profile.release() >= since) {
        text.push_str("Kthread:\t0\n");
    }
}

fn memory_lines(text: &mut String, totals: &Totals) {
    for (name, bytes) in [
        ("VmPeak", totals.peak),
        ("VmSize", totals.size),
        ("VmLck", totals.locked),
        ("VmPin", 0),
        ("VmHWM", totals.hwm),
        ("VmRSS", totals.rss),
        ("RssAnon", totals.anon),
        ("RssFile", totals.file),
        ("RssShmem", totals.shmem),
        ("VmData", totals.data),
        ("VmStk", totals.stack),
        ("VmExe", totals.exe),
        ("VmLib", totals.lib),
        ("VmPTE", totals.pte),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ] {
        let _ = writeln!(text, "{name}:\t{:8} kB", bytes / 1024);
    }
    text.push_str("CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n");
}

fn signal_lines(text: &mut String, kernel: &Kernel, task: &Arc<Task>) {
    let group = task.group();
    let queued = kernel.users.get(task.credentials().uid).count(Counted::Signals);
    let limit = group.limits().soft(Resource::RLIMIT_SIGPENDING);
    let (own, shared) = pending(task);
    let (ignored, caught) = group.actions().ignored_and_caught();
    let _ = writeln!(text, "Threads:\t{}\nSigQ:\t{queued}/{limit}", group.task_count().max(1));
    for (name, set) in [
        ("SigPnd", own),
        ("ShdPnd", shared),
        ("SigBlk", task.blocked_signals()),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        let _ = writeln!(text, "{name}:\t{:016x}", set.0);
    }
}
