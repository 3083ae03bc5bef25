//! Pipes (pipe(7)), and fifos, which are pipes found by the identity of an inode ([`open_fifo`]).

mod fifo;
mod limits;
mod ring;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest;
use amber_abi::open::OpenFlags;
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;

use crate::credentials::Credentials;
use crate::error::SysResult;
use crate::sync::{Mutex, Rank};
use crate::vfs::anon::AnonymousInode;
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, FileSystem, Inode, Metadata, SetAttributes, Vfs};
use crate::wait::{READABLE, SigioEvent, WRITABLE, WaitQueue};

pub(crate) use fifo::open_fifo;
pub(crate) use limits::Pipes;
pub(crate) use ring::{PAGE, Ring, Slot};

use limits::{Account, FifoKey};

struct State {
    ring: Ring,
    readers: usize,
    writers: usize,
    /// How often the pipe was opened for reading and for writing. Opening a fifo waits for a change of the other count.
    reader_opens: u64,
    writer_opens: u64,
}

/// A pipe: the buffer between its ends.
pub(crate) struct Pipe {
    state: Mutex<State>,
    queue: WaitQueue,
    account: Mutex<Account>,
    pipes: Weak<Pipes>,
    /// The key, for a fifo.
    fifo: OnceLock<FifoKey>,
}

impl Pipe {
    /// Makes a pipe without ends and charges it to the user.
    ///
    /// # Errors
    /// `ENFILE` at the user's limit of pages in pipes.
    fn new(pipes: &Arc<Pipes>, user: &Credentials) -> Result<Arc<Pipe>, Errno> {
        let (account, pages) = pipes.open_account(user)?;
        let state = State { ring: Ring::new(pages), readers: 0, writers: 0, reader_opens: 0, writer_opens: 0 };
        Ok(Arc::new(Pipe {
            state: Mutex::new(Rank::Buffer, state),
            queue: WaitQueue::new(),
            account: Mutex::new(Rank::Buffer, account),
            pipes: Arc::downgrade(pipes),
            fifo: OnceLock::new(),
        }))
    }

    /// Runs `work` on the buffer for splice(2) and similar calls, and notifies waiters of changes.
    ///
    /// # Errors
    /// `EPIPE` if `for_writing` is set and there is no reader; errors of the closure.
    pub(crate) fn with_ring<T>(
        &self,
        for_writing: bool,
        work: impl FnOnce(&mut Ring) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.state.lock();
        if for_writing && state.readers == 0 {
            return Err(Errno::EPIPE.here());
        }
        let was_full = state.ring.is_full();
        let result = work(&mut state.ring);
        let mut events = PollEvents::empty();
        events.set(READABLE, !state.ring.is_empty());
        events.set(WRITABLE, was_full && !state.ring.is_full());
        drop(state);
        if !events.is_empty() {
            self.queue.notify(events);
        }
        if for_writing && result.is_ok() {
            self.queue.signals().notify(SigioEvent::Input);
        } else if events.contains(WRITABLE) {
            self.queue.signals().notify(SigioEvent::Output);
        }
        result
    }

    /// Like [`with_ring`](Self::with_ring) for the buffers of two pipes; the second one is written.
    pub(crate) fn with_rings<T>(
        from: &Pipe,
        to: &Pipe,
        work: impl FnOnce(&mut Ring, &mut Ring) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        // The locks are taken in order of their addresses to avoid deadlocks.
        let (mut first, mut second);
        let (source, sink) = if std::ptr::from_ref(from) < std::ptr::from_ref(to) {
            first = from.state.lock();
            second = to.state.lock_beside();
            (&mut *first, &mut *second)
        } else {
            first = to.state.lock();
            second = from.state.lock_beside();
            (&mut *second, &mut *first)
        };
        if sink.readers == 0 {
            return Err(Errno::EPIPE.here());
        }
        let was_full = source.ring.is_full();
        let result = work(&mut source.ring, &mut sink.ring);
        let freed = was_full && !source.ring.is_full();
        drop((first, second));
        if freed {
            from.queue.notify_and_signal(WRITABLE, SigioEvent::Output);
        }
        to.queue.notify_and_signal(READABLE, SigioEvent::Input);
        result
    }

    /// Whether the pipe is empty, and whether it has no writer.
    pub(crate) fn is_empty_and_over(&self) -> (bool, bool) {
        let state = self.state.lock();
        (state.ring.is_empty(), state.writers == 0)
    }

    /// The number of free slots.
    ///
    /// # Errors
    /// `EPIPE` if there is no reader.
    pub(crate) fn room(&self) -> Result<usize, Errno> {
        let state = self.state.lock();
        if state.readers == 0 { Err(Errno::EPIPE.here()) } else { Ok(state.ring.room()) }
    }

    /// The wait queue of both ends.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let (Some(key), Some(pipes)) = (self.fifo.get(), self.pipes.upgrade()) {
            pipes.forget_fifo(*key);
        }
    }
}

/// The state of the other side when an end was opened.
struct Partner {
    is_missing: bool,
    /// How often the other side had been opened.
    opens: u64,
}

/// An open description of a pipe or fifo: one end, or both (a fifo opened with `O_RDWR`).
pub(crate) struct PipeEnd {
    pipe: Arc<Pipe>,
    inode: Arc<dyn Inode>,
    /// The number in `pipe:[…]`; none for a fifo, which has a path.
    number: Option<u64>,
    reads: bool,
    writes: bool,
    /// Whether writes make packets (`O_DIRECT`).
    packets: AtomicBool,
    /// For a reader opened without a writer, the number of opens for writing at that time: it gets no hang-up before a
    /// writer has come and gone.
    quiet_until: u64,
}

impl PipeEnd {
    /// Opens an end of the pipe. Also returns the state of the other side.
    fn join(pipe: &Arc<Pipe>, inode: Arc<dyn Inode>, number: Option<u64>, flags: OpenFlags) -> (PipeEnd, Partner) {
        let mode = flags & OpenFlags::O_ACCMODE;
        let (reads, writes) = (mode != OpenFlags::O_WRONLY, mode != OpenFlags::O_RDONLY);
        let mut state = pipe.state.lock();
        state.readers += usize::from(reads);
        state.writers += usize::from(writes);
        state.reader_opens += u64::from(reads);
        state.writer_opens += u64::from(writes);
        let quiet = reads && state.writers == 0 && flags.contains(OpenFlags::O_NONBLOCK);
        let quiet_until = if quiet { state.writer_opens } else { u64::MAX };
        let partner = Partner {
            is_missing: (reads && state.writers == 0) || (writes && state.readers == 0),
            opens: if reads { state.writer_opens } else { state.reader_opens },
        };
        drop(state);
        let packets = AtomicBool::new(flags.contains(OpenFlags::O_DIRECT));
        (PipeEnd { pipe: pipe.clone(), inode, number, reads, writes, packets, quiet_until }, partner)
    }

    /// How often the other side was opened.
    fn partner_opens(&self) -> u64 {
        let state = self.pipe.state.lock();
        if self.reads { state.writer_opens } else { state.reader_opens }
    }

    /// The pipe.
    pub(crate) fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// The capacity in bytes (`F_GETPIPE_SZ`).
    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.pipe.state.lock().ring.limit() * PAGE).unwrap_or(u32::MAX)
    }

    /// Sets the capacity to at least `bytes` and returns the new one (`F_SETPIPE_SZ`). Privileged callers may exceed
    /// the limits.
    ///
    /// # Errors
    /// `EINVAL` above 2 GiB; `EPERM` above the user's limit; `EBUSY` if the pipe holds more.
    pub(crate) fn set_capacity(&self, bytes: u32, privileged: bool) -> Result<u32, Errno> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL.here());
        }
        let pages = (bytes.next_power_of_two() as usize).div_ceil(PAGE).max(1);
        let mut account = self.pipe.account.lock();
        let old = account.pages();
        if let Some(pipes) = self.pipe.pipes.upgrade() {
            pipes.check_growth(&account, pages, privileged)?;
        }
        // The account is locked before the buffer; both are locked only here.
        self.pipe.state.lock_beside().ring.set_limit(pages)?;
        account.change(pages);
        drop(account);
        if pages > old {
            self.pipe.queue.notify(WRITABLE);
        }
        u32::try_from(pages * PAGE).map_err(|_| Errno::EINVAL.here())
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.reads);
        state.writers -= usize::from(self.writes);
        let one_sided = (state.readers == 0) != (state.writers == 0);
        drop(state);
        if one_sided {
            self.pipe.queue.notify_all();
            self.pipe.queue.signals().notify(SigioEvent::Input);
            self.pipe.queue.signals().notify(SigioEvent::Output);
        }
    }
}

impl File for PipeEnd {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn kept_bytes(&self) -> u64 {
        // Unread data counts for the reader, so it counts once for a process with both ends.
        let state = self.pipe.state.lock();
        if self.reads || state.readers == 0 { state.ring.len() as u64 } else { 0 }
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN.here()) };
        }
        let was_full = state.ring.is_full();
        let count = state.ring.read(buf);
        let freed = was_full && !state.ring.is_full();
        drop(state);
        if freed {
            self.pipe.queue.notify(WRITABLE);
        }
        self.pipe.queue.signals().notify(SigioEvent::Output);
        Ok(count)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE.here());
        }
        let count = state.ring.write(buf, self.packets.load(Ordering::Relaxed));
        drop(state);
        if count == 0 {
            return Err(Errno::EAGAIN.here());
        }
        self.inode.touch_modified();
        self.pipe.queue.notify_and_signal(READABLE, SigioEvent::Input);
        Ok(count)
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        Ok((0, self.write_at(buf, 0)?))
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn poll(&self) -> PollEvents {
        let state = self.pipe.state.lock();
        let mut events = PollEvents::empty();
        if self.reads {
            events.set(READABLE, !state.ring.is_empty());
            events.set(PollEvents::POLLHUP, state.writers == 0 && state.writer_opens != self.quiet_until);
        }
        if self.writes {
            events.set(WRITABLE, !state.ring.is_full());
            events.set(PollEvents::POLLERR, state.readers == 0);
        }
        events
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::End
    }

    fn is_read_in_turn(&self) -> bool {
        true
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn pipe_size(&self) -> Result<u32, Errno> {
        Ok(self.capacity())
    }

    fn set_pipe_size(&self, size: u32, privileged: bool) -> Result<u32, Errno> {
        self.set_capacity(size, privileged)
    }

    fn status_changed(&self, flags: OpenFlags) {
        self.packets.store(flags.contains(OpenFlags::O_DIRECT), Ordering::Relaxed);
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        match IoctlRequest::from_raw(command) {
            IoctlRequest::FIONREAD => {
                let waiting = self.pipe.state.lock().ring.len();
                caller.write_object(argument, &i32::try_from(waiting).unwrap_or(i32::MAX))?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.here().into()),
        }
    }

    fn link_text(&self) -> Option<String> {
        self.number.map(|number| format!("pipe:[{number}]"))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The inode of a pipe made by pipe(2), for reopening through `/proc/PID/fd`.
struct PipeInode {
    node: Arc<AnonymousInode>,
    pipe: Arc<Pipe>,
}

impl Inode for PipeInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.node.file_system()
    }

    fn kind(&self) -> FileType {
        FileType::Fifo
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        self.node.metadata()
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        self.node.set_attributes(changes)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let (pipe, number) = (self.pipe.clone(), self.node.number());
        let (end, _) = PipeEnd::join(&pipe, self, Some(number), flags);
        pipe.queue.notify(READABLE | WRITABLE);
        Ok(Arc::new(end))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The ends of a new pipe.
pub(crate) struct Ends {
    /// The read end.
    pub reader: Arc<dyn File>,
    /// The write end.
    pub writer: Arc<dyn File>,
}

/// Makes a pipe; `flags` may set packet mode.
///
/// # Errors
/// `ENFILE` at the user's limit of pages in pipes.
pub(crate) fn create(vfs: &Vfs, pipes: &Arc<Pipes>, user: &Credentials, flags: OpenFlags) -> Result<Ends, Errno> {
    let pipe = Pipe::new(pipes, user)?;
    let node = Arc::new(AnonymousInode::new(&vfs.anonymous.pipefs, FileType::Fifo, 0o600, user.fsuid, user.fsgid));
    let number = Some(node.number());
    let inode: Arc<dyn Inode> = Arc::new(PipeInode { node, pipe: pipe.clone() });
    let packets = flags & OpenFlags::O_DIRECT;
    // The writer is opened first, so that the reader is not one opened without a writer.
    let (writer, _) = PipeEnd::join(&pipe, inode.clone(), number, OpenFlags::O_WRONLY | packets);
    let (reader, _) = PipeEnd::join(&pipe, inode, number, OpenFlags::O_RDONLY | packets);
    Ok(Ends { reader: Arc::new(reader), writer: Arc::new(writer) })
}

#[cfg(test)]
mod tests;
