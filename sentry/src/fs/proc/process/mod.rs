//! `/proc/PID` and `/proc/PID/task/TID`.

mod control;
mod links;
mod memory;
mod mounts;
mod namespaces;
mod state;
mod strings;

use std::sync::Arc;

use amber_abi::errno::Errno;

pub(crate) use control::written;
pub(super) use links::shown;
pub(crate) use namespaces::nsfs;
pub(super) use state::TICK;
pub(crate) use state::{mask, ranges};
pub(crate) use strings::command_line;

use self::namespaces::Namespaces;
use super::descriptors::{Descriptors, Infos};
use crate::fs::pseudo::{Entry, Listed, Listing, PseudoInode, Subject, number};
use crate::kernel::Kernel;
use crate::task::Task;
use crate::vfs::Inode;

/// The entries of both kinds of directories.
macro_rules! entries {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            Entry::magic("cwd", links::cwd, links::cwd_text),
            Entry::magic("exe", links::exe, links::exe_text),
            Entry::magic("root", links::root, links::root_text),
            Entry::file("stat", 0o444, state::stat),
            Entry::file("statm", 0o444, state::statm),
            Entry::file("status", 0o444, state::status),
            Entry::writable("comm", 0o644, control::comm, control::set_comm).since("2.6.33"),
            Entry::special("cmdline", 0o444, strings::open_cmdline).shown_as(strings::listed_command_line),
            Entry::special("environ", 0o400, strings::open_environ).guarded(),
            Entry::special("auxv", 0o400, memory::open_auxv).guarded(),
            Entry::special("maps", 0o444, memory::open_maps).guarded(),
            Entry::special("smaps", 0o444, memory::open_smaps).guarded(),
            Entry::special("smaps_rollup", 0o444, memory::open_smaps_rollup).guarded().since("4.14"),
            Entry::special("mem", 0o600, memory::open_mem).guarded(),
            Entry::special("pagemap", 0o400, memory::open_pagemap).guarded(),
            Entry::writable("clear_refs", 0o200, control::stack, control::clear_refs),
            Entry::special("mounts", 0o444, mounts::open_mounts),
            Entry::special("mountinfo", 0o444, mounts::open_mountinfo),
            Entry::file("limits", 0o444, control::limits),
            Entry::file("io", 0o400, control::io).guarded(),
            Entry::file("oom_score", 0o444, control::oom_score),
            Entry::writable("oom_adj", 0o644, control::oom_adj, control::set_oom_adj),
            Entry::writable("oom_score_adj", 0o644, control::oom_score_adj, control::set_oom_score_adj),
            Entry::file("wchan", 0o444, control::wchan),
            Entry::file("sched", 0o644, control::sched),
            Entry::file("schedstat", 0o444, control::schedstat),
            Entry::file("personality", 0o400, control::personality).guarded(),
            Entry::file("syscall", 0o400, control::syscall).guarded(),
            Entry::file("stack", 0o400, control::stack),
            Entry::file("loginuid", 0o644, control::unset),
            Entry::file("sessionid", 0o444, control::unset),
            Entry::writable("uid_map", 0o644, control::uid_map, control::set_id_map).since("3.5"),
            Entry::writable("gid_map", 0o644, control::gid_map, control::set_id_map).since("3.5"),
            Entry::writable("projid_map", 0o644, control::projid_map, control::set_id_map).since("3.7"),
            Entry::writable("setgroups", 0o644, control::setgroups, control::set_setgroups).since("3.19"),
            Entry::listing("ns", 0o511, &[], &Namespaces),
            Entry::listing("fd", 0o500, &[], &Descriptors).open_to_self(),
            Entry::listing("fdinfo", 0o555, &[], &Infos).guarded(),
        ]
    };
}

const PROCESS: &[Entry] = entries![
    Entry::listing("task", 0o555, &[], &Threads),
    Entry::file("mountstats", 0o400, mounts::mountstats),
    Entry::file("coredump_filter", 0o644, control::coredump_filter),
    Entry::writable("timerslack_ns", 0o666, control::timer_slack, control::set_timer_slack).since("4.6"),
];
const THREAD: &[Entry] = entries![Entry::file("children", 0o444, control::children).since("3.5")];

static PROCESS_DIRECTORY: Entry = Entry::directory("", PROCESS).extended(|r| r.process);
static THREAD_DIRECTORY: Entry = Entry::directory("", THREAD).extended(|r| r.process);

/// The processes, as entries of the root.
pub(super) struct Processes;

impl Listing for Processes {
    /// Threads are found, but not listed.
    fn find(&self, kernel: &Arc<Kernel>, _: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let tid = number(name)?;
        let task = kernel.processes.lock().task(tid).cloned().ok_or_else(|| Errno::ENOENT.here())?;
        Ok((
            &PROCESS_DIRECTORY,
            Subject { task: Some(Arc::downgrade(&task)), is_thread: false, index: tid, path: None },
        ))
    }

    fn list(&self, kernel: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let table = kernel.processes.lock();
        let pids = table.processes().map(|p| p.group.pid());
        Ok(pids.map(|pid| listed(pid, &PROCESS_DIRECTORY)).collect())
    }

    fn links(&self, kernel: &Arc<Kernel>, _: &Subject) -> u32 {
        kernel.processes.lock().process_count() as u32
    }
}

/// The process of a directory `/proc/PID`: none if it is another directory, `ESRCH` if the process has ended.
pub(crate) fn process_of(directory: &dyn Inode) -> Option<Result<Arc<Task>, Errno>> {
    let inode = directory.as_any().downcast_ref::<PseudoInode>()?;
    std::ptr::eq(inode.entry(), &PROCESS_DIRECTORY).then(|| inode.subject().task())
}

fn listed(number: i32, entry: &'static Entry) -> Listed {
    Listed { cookie: u64::from(number.unsigned_abs()) + 1, name: number.to_string(), entry }
}

/// The threads of a process, as entries of `task`.
struct Threads;

impl Listing for Threads {
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let tid = number(name)?;
        let process = subject.task().map_err(|_| Errno::ENOENT.here())?;
        let task = kernel.processes.lock().task(tid).cloned().ok_or_else(|| Errno::ENOENT.here())?;
        if task.group().pid() != process.group().pid() {
            return Err(Errno::ENOENT.here());
        }
        Ok((&THREAD_DIRECTORY, Subject { task: Some(Arc::downgrade(&task)), is_thread: true, index: tid, path: None }))
    }

    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        let group = subject.task().map_err(|_| Errno::ENOENT.here())?.group().clone();
        let mut tids: Vec<i32> = {
            let table = kernel.processes.lock();
            // A leader that has ended is not in the thread group's list.
            let leader = table.task(group.pid()).map(|_| group.pid());
            group.tasks().iter().map(|task| task.tid()).chain(leader).collect()
        };
        tids.sort_unstable();
        tids.dedup();
        Ok(tids.into_iter().map(|tid| listed(tid, &THREAD_DIRECTORY)).collect())
    }

    fn links(&self, _: &Arc<Kernel>, subject: &Subject) -> u32 {
        subject.task().map_or(0, |task| task.group().task_count() as u32)
    }
}
