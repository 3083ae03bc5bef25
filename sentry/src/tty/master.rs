//! The master of a pair: the side of the terminal emulator.

use std::any::Any;
use std::sync::Arc;

use amber_abi::Errno;
use amber_abi::poll::PollEvents;

use super::pty::{Pty, packet};
use crate::error::SysResult;
use crate::task::TaskContext;
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, Inode};
use crate::wait::WaitQueue;

/// The open file of the master. Closing it hangs up the slave.
pub(crate) struct MasterFile {
    pub(super) pty: Arc<Pty>,
    inode: Arc<dyn Inode>,
}

impl MasterFile {
    pub(super) fn new(pty: Arc<Pty>, inode: Arc<dyn Inode>) -> Self {
        MasterFile { pty, inode }
    }

    /// The pair.
    pub(crate) fn pty(&self) -> &Arc<Pty> {
        &self.pty
    }

    /// Reads output of the slave's programs. For a console, the sandbox's operator holds the master.
    pub(crate) fn read_screen(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.pty.lock();
        let mut used = 0;
        if state.packet_mode {
            let Some(first) = buf.first_mut() else { return Ok(0) };
            let status = std::mem::take(&mut state.packet_status);
            if status != 0 {
                *first = status;
                return Ok(1);
            }
            *first = packet::DATA;
            used = 1;
        }
        if state.output.is_empty() {
            let hung_up = state.was_opened && state.slaves == 0;
            return Err(if hung_up { Errno::EIO.here() } else { Errno::EAGAIN.here() });
        }
        let room = buf.get_mut(used..).unwrap_or_default();
        let count = room.len().min(state.output.len());
        for (to, from) in room.iter_mut().zip(state.output.drain(..count)) {
            *to = from;
        }
        drop(state);
        self.pty.wake_slave();
        self.pty.slave.signals().notify_room();
        Ok(used + count)
    }
}

impl File for MasterFile {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    /// The pair is charged to the master, not to slaves.
    fn kept_bytes(&self) -> u64 {
        self.pty.kept_bytes()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        self.read_screen(buf)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        self.pty.type_keys(buf)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let state = self.pty.lock();
        let mut events = PollEvents::empty();
        events.set(PollEvents::POLLOUT | PollEvents::POLLWRNORM, state.room_for_keys() > 0);
        let status = state.packet_mode && state.packet_status != 0;
        events.set(PollEvents::POLLIN | PollEvents::POLLRDNORM, !state.output.is_empty() || status);
        events.set(PollEvents::POLLPRI, status);
        events.set(PollEvents::POLLHUP, state.was_opened && state.slaves == 0);
        events
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Terminal(None)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.master)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        super::ioctl::master(self, TaskContext::of(caller)?, command, argument)
    }

    fn fdinfo(&self) -> String {
        format!("tty-index:\t{}\n", self.pty.index())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.pty.lock().master_closed = true;
        if let Some(home) = self.pty.home() {
            home.master_closed(self.pty.index());
        }
        self.pty.hang_up();
    }
}
