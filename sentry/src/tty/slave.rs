//! The slave of a pair: the terminal that programs use.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_abi::poll::PollEvents;
use amber_abi::{Errno, Signal};

use super::pty::{OUTPUT_LIMIT, Pty};
use crate::error::{SysError, SysResult};
use crate::task::TaskContext;
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, Inode};
use crate::wait::{SigioEvent, WaitQueue};

/// An open file of the slave.
pub(crate) struct SlaveFile {
    pub(super) pty: Arc<Pty>,
    inode: Arc<dyn Inode>,
    /// The number of hang-ups of the terminal when the file was opened.
    hang_ups: u64,
}

impl SlaveFile {
    pub(super) fn new(pty: Arc<Pty>, inode: Arc<dyn Inode>, hang_ups: u64) -> Self {
        SlaveFile { pty, inode, hang_ups }
    }

    /// Whether the terminal was hung up since it was opened.
    pub(super) fn is_hung_up(&self) -> bool {
        let state = self.pty.lock();
        state.master_closed || state.hang_ups != self.hang_ups
    }

    /// Stops a task of a background process group that accesses its controlling terminal.
    pub(super) fn check_foreground(&self, ctx: &TaskContext, signal: Signal) -> Result<(), SysError> {
        let (pgid, _) = ctx.group_and_session();
        let foreground = self.pty.lock().foreground;
        let background = foreground.is_some_and(|foreground| foreground != pgid)
            && ctx.controlling_terminal().is_some_and(|terminal| self.pty.is(&terminal));
        if background { ctx.stop_background(signal) } else { Ok(()) }
    }

    /// Reads input, and then fills the room in the line discipline with pending input. Returns none if there is no
    /// input.
    fn take(&self, buf: &mut [u8], enough: impl FnOnce(usize, bool) -> bool) -> Option<usize> {
        let mut state = self.pty.lock();
        let (complete, canonical) = (state.discipline.complete(), state.discipline.is_canonical());
        if !enough(complete, canonical) {
            return None;
        }
        let count = state.discipline.read(buf)?;
        let fed = state.feed();
        drop(state);
        self.pty.report(fed);
        self.pty.master.signals().notify_room();
        Some(count)
    }
}

impl File for SlaveFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn admit(&self, caller: &dyn Caller, write: bool) -> Result<(), SysError> {
        if self.is_hung_up() {
            return Ok(());
        }
        if !write {
            return self.check_foreground(TaskContext::of(caller)?, Signal::SIGTTIN);
        }
        let stops = self.pty.lock().discipline.stops_background_output();
        if stops { self.check_foreground(TaskContext::of(caller)?, Signal::SIGTTOU) } else { Ok(()) }
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        if buf.is_empty() || self.is_hung_up() {
            return Ok(0);
        }
        let (minimum, time) = self.pty.lock().discipline.minimum_and_time();
        let wanted = usize::from(minimum).min(buf.len());
        if let Some(count) = self.take(buf, |complete, canonical| canonical || complete >= wanted) {
            return Ok(count);
        }
        if minimum == 0 && time == 0 { Ok(0) } else { Err(Errno::EAGAIN.here()) }
    }

    fn read_partial(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.take(buf, |_, _| true).ok_or_else(|| Errno::EAGAIN.here())
    }

    fn read_deadline(&self, began: Instant) -> Option<Instant> {
        let state = self.pty.lock();
        let (minimum, time) = state.discipline.minimum_and_time();
        let pause = Duration::from_millis(u64::from(time) * 100);
        match (minimum, time) {
            (_, 0) => None,
            (0, _) => began.checked_add(pause),
            // The timeout starts with the first byte and restarts with each.
            _ if state.discipline.complete() > 0 => state.last_input.max(began).checked_add(pause),
            _ => None,
        }
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        let mut state = self.pty.lock();
        if state.master_closed || state.hang_ups != self.hang_ups {
            return Err(Errno::EIO.here());
        }
        let waits = state.discipline.is_stopped() || state.output.len() >= OUTPUT_LIMIT;
        if waits && !buf.is_empty() {
            self.pty.slave.signals().note_full();
            return Err(Errno::EAGAIN.here());
        }
        let room = OUTPUT_LIMIT.saturating_sub(state.output.len());
        let taken = buf.get(..room).unwrap_or(buf);
        let processed = state.discipline.process(taken);
        state.output.extend(processed);
        let seen = !state.output.is_empty();
        drop(state);
        self.pty.wake_master();
        if seen {
            self.pty.master.signals().notify(SigioEvent::Input);
        }
        if taken.len() < buf.len() {
            self.pty.slave.signals().note_full();
        }
        Ok(taken.len())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let (input, output) =
            (PollEvents::POLLIN | PollEvents::POLLRDNORM, PollEvents::POLLOUT | PollEvents::POLLWRNORM);
        if self.is_hung_up() {
            return input | output | PollEvents::POLLERR | PollEvents::POLLHUP;
        }
        let state = self.pty.lock();
        let mut events = PollEvents::empty();
        events.set(input, state.discipline.is_readable());
        events.set(output, !state.discipline.is_stopped() && state.output.len() < OUTPUT_LIMIT);
        events
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Terminal(self.pty.lock().foreground)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.slave)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        super::ioctl::slave(self, TaskContext::of(caller)?, command, argument)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        let last = {
            let mut state = self.pty.lock();
            state.slaves = state.slaves.saturating_sub(1);
            state.slaves == 0
        };
        if last {
            self.pty.master.notify_all();
        }
    }
}
