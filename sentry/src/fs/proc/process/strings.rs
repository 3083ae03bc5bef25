//! `/proc/PID/cmdline` and `environ`, which each read copies from the process's memory.

use std::any::Any;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_platform::PAGE_SIZE;

use super::memory::bound;
use crate::fs::pseudo::{PseudoInode, Query};
use crate::mm::MemoryManager;
use crate::slices::{at_most_mut, copy_fitting};
use crate::vfs::{File, Inode};

/// The maximum length of a command line that its program has overwritten, as setproctitle(3) does, in bytes.
const TITLE_MOST: usize = PAGE_SIZE as usize;
/// The maximum length of a command line in a list of processes, in bytes.
const LISTED_MOST: usize = 32 << 10;

/// `/proc/PID/cmdline`, of the program that runs at the time of the read.
struct CommandLine(Arc<PseudoInode>);

/// Opens `/proc/PID/cmdline`.
pub(super) fn open_cmdline(inode: &Arc<PseudoInode>, _: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    Ok(Arc::new(CommandLine(inode.clone())))
}

impl File for CommandLine {
    fn inode(&self) -> Arc<dyn Inode> {
        self.0.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.0.subject().task()?.memory() else { return Ok(0) };
        Ok(read_command_line(&mm, buf, offset))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `/proc/PID/environ`, of the program that ran at the time of the open.
struct Environment {
    inode: Arc<PseudoInode>,
    memory: Weak<MemoryManager>,
}

/// Opens `/proc/PID/environ`.
pub(super) fn open_environ(inode: &Arc<PseudoInode>, query: &Query<'_>) -> Result<Arc<dyn File>, Errno> {
    Ok(Arc::new(Environment { inode: inode.clone(), memory: bound(query)? }))
}

impl File for Environment {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let Some(mm) = self.memory.upgrade() else { return Ok(0) };
        let (start, end) = mm.with_layout(|layout| (layout.env_start, layout.env_end));
        Ok(read_range(&mm, buf, start, end, offset))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Reads from `offset` on in a range of memory. Returns fewer bytes at its end, or where memory is not readable.
fn read_range(mm: &MemoryManager, buf: &mut [u8], start: u64, end: u64, offset: u64) -> usize {
    let place = at_most_mut(buf, end.saturating_sub(start).saturating_sub(offset) as usize);
    if place.is_empty() { 0 } else { mm.read_forced(start.wrapping_add(offset), place) }
}

/// Reads the arguments of a program as they are now, each with a terminating zero. If the last one has none, the
/// program has overwritten them with a text, which may extend into the environment and ends at the first zero.
fn read_command_line(mm: &MemoryManager, buf: &mut [u8], offset: u64) -> usize {
    let (start, end, further) = mm.with_layout(|layout| {
        let adjoins = layout.env_start == layout.arg_end && layout.env_end >= layout.env_start;
        (layout.arg_start, layout.arg_end, if adjoins { layout.env_end } else { layout.arg_end })
    });
    if offset >= further.saturating_sub(start) {
        return 0;
    }
    let mut last = [0];
    if mm.read_forced(end.wrapping_sub(1), &mut last) == 1 && last[0] != 0 {
        let mut title = [0; TITLE_MOST];
        let got = mm.read_forced(start, &mut title);
        let end = title.iter().take(got).position(|&byte| byte == 0).map_or(got, |zero| zero + 1);
        let rest = title.get(offset as usize..end).unwrap_or_default();
        return copy_fitting(rest, buf);
    }
    read_range(mm, buf, start, end, offset)
}

/// The start of a process's command line, for tools outside the sandbox.
pub(super) fn listed_command_line(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(query.task()?.memory().map(|mm| command_line(&mm)).unwrap_or_default())
}

/// The start of a program's command line, for a list of processes.
pub(crate) fn command_line(mm: &MemoryManager) -> Vec<u8> {
    let mut line = vec![0; LISTED_MOST];
    let got = read_command_line(mm, &mut line, 0);
    line.truncate(got);
    line
}
