//! `/proc`: what proc(5) tells of processes and of the kernel.

mod descriptors;
mod process;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::PROC_SUPER_MAGIC;

use crate::fs::FileSystem;
use crate::fs::pseudo::{Entry, Kind, PseudoFs, Query};
use crate::kernel::Kernel;

static PROC: Kind = Kind {
    name: "proc",
    magic: PROC_SUPER_MAGIC,
    root: Entry::listing("", 0o555, ROOT, &process::Processes),
    is_volatile: true,
    file_size: 0,
};

const ROOT: &[Entry] = &[Entry::link("self", own_process), Entry::link("thread-self", own_thread).since("3.17")];

fn own_process(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(query.reader.task.group().pid().to_string().into_bytes())
}

fn own_thread(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    let task = &query.reader.task;
    Ok(format!("{}/task/{}", task.group().pid(), task.tid()).into_bytes())
}

/// Makes an instance; see proc(5) for the options.
///
/// # Errors
/// `EINVAL` for an unknown option.
pub fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    // A guest's processes are all of one sandbox: nothing is hidden from anybody, which is the default.
    let known = |option: &str| option.is_empty() || option == "hidepid=0" || option == "hidepid=off";
    if !options.split(',').all(known) {
        return Err(Errno::EINVAL);
    }
    Ok(PseudoFs::new(kernel, &PROC))
}
