//! `/proc/PID` and `/proc/PID/task/TID`.

mod links;

use std::sync::Arc;

use amber_abi::errno::Errno;

pub use links::shown;

use super::descriptors::{Descriptors, Infos};
use crate::fs::pseudo::{Entry, Listed, Listing, Subject, number};
use crate::kernel::Kernel;

/// What both kinds of directories have.
macro_rules! entries {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            Entry::magic("cwd", links::cwd, links::cwd_text),
            Entry::magic("exe", links::exe, links::exe_text),
            Entry::magic("root", links::root, links::root_text),
            Entry::listing("fd", 0o500, &[], &Descriptors),
            Entry::listing("fdinfo", 0o555, &[], &Infos),
        ]
    };
}

const PROCESS: &[Entry] = entries![Entry::listing("task", 0o555, &[], &Threads)];
const THREAD: &[Entry] = entries![];

static PROCESS_DIRECTORY: Entry = Entry::directory("", PROCESS);
static THREAD_DIRECTORY: Entry = Entry::directory("", THREAD);

/// The processes, as entries of the root.
pub struct Processes;

impl Listing for Processes {
    /// Threads are found here too, though not listed.
    fn find(&self, kernel: &Arc<Kernel>, _: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let tid = number(name)?;
        let task = kernel.processes.lock().task(tid).cloned().ok_or(Errno::ENOENT)?;
        Ok((&PROCESS_DIRECTORY, Subject { task: Some(Arc::downgrade(&task)), is_thread: false, index: tid }))
    }

    fn list(&self, kernel: &Arc<Kernel>, _: &Subject) -> Result<Vec<Listed>, Errno> {
        let table = kernel.processes.lock();
        let pids = table.processes().map(|p| p.group.pid());
        Ok(pids.map(|pid| listed(pid, &PROCESS_DIRECTORY)).collect())
    }
}

fn listed(number: i32, entry: &'static Entry) -> Listed {
    Listed { cookie: u64::from(number.unsigned_abs()) + 1, name: number.to_string(), entry }
}

/// The threads of a process, as entries of `task`.
struct Threads;

impl Listing for Threads {
    fn find(&self, kernel: &Arc<Kernel>, subject: &Subject, name: &[u8]) -> Result<(&'static Entry, Subject), Errno> {
        let tid = number(name)?;
        let process = subject.task().map_err(|_| Errno::ENOENT)?;
        let task = kernel.processes.lock().task(tid).cloned().ok_or(Errno::ENOENT)?;
        if task.group().pid() != process.group().pid() {
            return Err(Errno::ENOENT);
        }
        Ok((&THREAD_DIRECTORY, Subject { task: Some(Arc::downgrade(&task)), is_thread: true, index: tid }))
    }

    fn list(&self, kernel: &Arc<Kernel>, subject: &Subject) -> Result<Vec<Listed>, Errno> {
        let pid = subject.task().map_err(|_| Errno::ENOENT)?.group().pid();
        let table = kernel.processes.lock();
        let mut tids: Vec<i32> = table.tasks().filter(|t| t.group().pid() == pid).map(|t| t.tid()).collect();
        drop(table);
        tids.sort_unstable();
        Ok(tids.into_iter().map(|tid| listed(tid, &THREAD_DIRECTORY)).collect())
    }
}
