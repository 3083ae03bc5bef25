//! Open files: the operations of a kind of file, and the open file description.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use amber_abi::Signal;
use amber_abi::errno::Errno;
use amber_abi::open::{FallocateMode, OpenFlags, Seals};
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;

use crate::error::{SysError, SysResult};
use crate::mm::Mappable;
use crate::sync::{Mutex, Rank};
use crate::vfs::epoll::Watchers;
use crate::vfs::locks::Owner;
use crate::vfs::notify::{self, mask};
use crate::vfs::sigio::{SignalIo, SignalOwner};
use crate::vfs::text_busy::FileUse;
use crate::vfs::{Caller, DirectorySink, Inode, Path, Vfs, Writer};
use crate::wait::WaitQueue;

/// The operations of an open file, whatever its kind.
///
/// No operation sleeps. One that would block returns `EAGAIN`; unless the description is non-blocking, the wait loop in
/// [`rw`](crate::syscalls::fs::rw) then registers with [`wait_queue`](Self::wait_queue) and retries.
pub(crate) trait File: Send + Sync + Any {
    /// The inode of the file. Anonymous files have one too, for fstat(2).
    fn inode(&self) -> Arc<dyn Inode>;

    /// Reads at `offset` (ignored by streams) and returns the number of bytes; 0 at the end of the file.
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Writes at `offset` (ignored by streams) and returns the number of bytes.
    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Writes at the end of the file, atomically with determining it. Returns the offset and the number of bytes.
    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        let offset = self.inode().metadata()?.size;
        self.write_at(buf, offset).map(|n| (offset, n))
    }

    /// The host descriptor of a stream whose data may be transferred directly between it and guest memory, without
    /// waiting.
    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Called before each attempt of a task's read or write. A terminal stops background tasks here.
    ///
    /// # Errors
    /// Errors of the read or write.
    fn admit(&self, _caller: &dyn Caller, _write: bool) -> Result<(), SysError> {
        Ok(())
    }

    /// The time at which a read that began at `began` stops waiting and returns the available data (`VTIME` of
    /// terminals). Data that arrives in the meantime may change it.
    fn read_deadline(&self, _began: Instant) -> Option<Instant> {
        None
    }

    /// Reads the available data, for a caller that does not wait (any longer) for the minimum of a read (`VMIN` of
    /// terminals).
    ///
    /// # Errors
    /// `EAGAIN` if there is no data.
    fn read_partial(&self, _buf: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EAGAIN.here())
    }

    /// Approximate kernel memory of the file beside pages, in bytes, which its last close frees.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Whether the file has offsets; if not, lseek(2) and pread(2) fail with `ESPIPE`.
    fn is_seekable(&self) -> bool {
        true
    }

    /// Whether seeking moves the position; it stays 0 on devices without content.
    fn keeps_position(&self) -> bool {
        true
    }

    /// The position, if it is not kept in the description.
    fn own_position(&self) -> Option<&dyn OwnPosition> {
        None
    }

    /// The result of a write of `len` bytes, for devices that discard the data.
    fn discard(&self, _len: usize) -> Option<Result<usize, Errno>> {
        None
    }

    /// Turns an offset into a new position, for `SEEK_DATA` and `SEEK_HOLE`. The caller handles `SEEK_SET`, `SEEK_CUR`
    /// and, by the file's size, `SEEK_END`.
    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let size = self.inode().metadata()?.size;
        if offset >= size {
            return Err(Errno::ENXIO.here());
        }
        Ok(if hole { size } else { offset })
    }

    /// The operations that would not block now. Files without polling are always readable and writable.
    fn poll(&self) -> PollEvents {
        PollEvents::POLLIN | PollEvents::POLLOUT | PollEvents::POLLRDNORM | PollEvents::POLLWRNORM
    }

    /// The queue notified when [`poll`](Self::poll) would return more events; none for files without polling, which
    /// epoll refuses.
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whether one event serves one reader, so that a single waiter is woken for it.
    fn is_read_in_turn(&self) -> bool {
        false
    }

    /// The behaviour of `O_ASYNC`.
    fn signal_io(&self) -> SignalIo {
        SignalIo::Absent
    }

    /// The number of bytes a read waits for, unless it requests fewer (`SO_RCVLOWAT`).
    fn low_water(&self) -> usize {
        1
    }

    /// Whether a write that fails with `EPIPE` sends SIGPIPE.
    fn signals_broken_pipe(&self) -> bool {
        true
    }

    /// The maximum time a read (or, if `writing`, a write) waits (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    fn timeout(&self, _writing: bool) -> Option<Duration> {
        None
    }

    /// Executes an ioctl(2) command of this kind of file.
    fn ioctl(&self, _caller: &dyn Caller, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY.here().into())
    }

    /// The object whose pages mmap(2) maps.
    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        Err(Errno::ENODEV.here())
    }

    /// Lists directory entries (without `.` and `..`) from the cookie `from` on, initially 0, into the sink until it is
    /// full. Cookies are below 2^62.
    fn read_directory(&self, _from: u64, _sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        Err(Errno::ENOTDIR.here())
    }

    /// Reserves, frees, zeroes or shifts storage (fallocate(2)). `offset` and `len` are positive and do not overflow.
    fn allocate(&self, _mode: FallocateMode, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// The seals of a memfd (`F_GET_SEALS`); other files have none.
    fn seals(&self) -> Result<Seals, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Adds seals (`F_ADD_SEALS`).
    fn add_seals(&self, _seals: Seals) -> Result<(), Errno> {
        Err(Errno::EINVAL.here())
    }

    /// The capacity of a pipe in bytes (`F_GETPIPE_SZ`).
    fn pipe_size(&self) -> Result<u32, Errno> {
        Err(Errno::EBADF.here())
    }

    /// Changes the capacity of a pipe and returns the new one (`F_SETPIPE_SZ`).
    fn set_pipe_size(&self, _size: u32, _privileged: bool) -> Result<u32, Errno> {
        Err(Errno::EBADF.here())
    }

    /// Writes the file to storage: fsync(2), or fdatasync(2) if `data_only`.
    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Called after fcntl(2) `F_SETFL` changed the status flags, for files that keep a copy of some.
    fn status_changed(&self, _flags: OpenFlags) {}

    /// Called at each close(2) of a descriptor of this file (Linux's `flush`); close(2) returns its errors.
    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Called before close(2) or similar calls close the last descriptor of the file; may wait (`SO_LINGER`).
    fn last_close(&self, _caller: &dyn Caller) {}

    /// The lines of `/proc/PID/fdinfo/N` that are specific to this kind, each with its newline.
    fn fdinfo(&self) -> String {
        String::new()
    }

    /// Like [`fdinfo`](Self::fdinfo) in parts, for kinds with a number of lines that the guest controls. Appends lines
    /// from a place on, initially (0, 0), and returns the place of the next part, if there is one.
    fn fdinfo_from(&self, _from: (i32, u64), lines: &mut String) -> Option<(i32, u64)> {
        lines.push_str(&self.fdinfo());
        None
    }

    /// The link text of `/proc/PID/fd/N` for a file without a path, such as `pipe:[42]` or `anon_inode:[eventfd]`.
    fn link_text(&self) -> Option<String> {
        None
    }

    /// For downcasts by calls that work on one kind only (sockets, epoll, …).
    fn as_any(&self) -> &dyn Any;
}

/// A position that is kept elsewhere: that of a host file, which other processes of the host may share.
pub(crate) trait OwnPosition {
    /// Returns the position.
    fn get(&self) -> Result<u64, Errno>;

    /// Sets the position.
    fn set(&self, position: u64) -> Result<(), Errno>;

    /// Reads at the position and advances it.
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Writes at the position, or at the end of a file opened with `O_APPEND`, and advances it.
    fn write(&self, buf: &[u8]) -> Result<usize, Errno>;
}

/// The locked position of a file. Its value is stored when this is dropped.
pub(crate) struct Position<'a> {
    guard: parking_lot::MutexGuard<'a, u64>,
    own: Option<&'a dyn OwnPosition>,
    before: u64,
}

impl Deref for Position<'_> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.guard
    }
}

impl DerefMut for Position<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.guard
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        if let Some(own) = self.own
            && *self.guard != self.before
        {
            // If it cannot be moved, the next read of the position shows that.
            let _ = own.set(*self.guard);
        }
    }
}

/// Flags that fcntl(2) `F_SETFL` may change.
pub(crate) const CHANGEABLE: OpenFlags = OpenFlags::O_APPEND
    .union(OpenFlags::O_NONBLOCK)
    .union(OpenFlags::FASYNC)
    .union(OpenFlags::O_DIRECT)
    .union(OpenFlags::O_NOATIME);

/// The open files of a kernel.
pub(crate) struct OpenFiles {
    count: AtomicU64,
    next_description: AtomicU64,
    next_table: AtomicU64,
}

impl OpenFiles {
    pub(super) fn new() -> Self {
        OpenFiles { count: AtomicU64::new(0), next_description: AtomicU64::new(1), next_table: AtomicU64::new(1) }
    }

    /// The number of open file descriptions (`fs.file-nr`).
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A unique number for a descriptor table.
    pub(super) fn number_table(&self) -> u64 {
        self.next_table.fetch_add(1, Ordering::Relaxed)
    }
}

/// An open file description (see open(2)), shared by all descriptors made from it by dup(2) and fork(2).
pub(crate) struct FileDescription {
    /// The first field, so that epolls drop their entries before the file is dropped.
    watchers: Watchers,
    vfs: Arc<Vfs>,
    file: Arc<dyn File>,
    path: Option<Path>,
    flags: AtomicU32,
    position: parking_lot::Mutex<u64>,
    id: u64,
    owner: Mutex<Option<Arc<dyn SignalOwner>>>,
    owner_signal: AtomicU32,
    write_hint: AtomicU64,
    /// Prevents execution while the file is open for writing, or writing while it is executed.
    file_use: OnceLock<FileUse>,
    /// Prevents the mount from becoming read-only while the file is open for writing.
    writer: OnceLock<Writer>,
}

impl FileDescription {
    /// Makes a description of `file`, found at `path` if it has one, with the access mode and status flags of `flags`.
    pub(crate) fn new(vfs: &Arc<Vfs>, file: Arc<dyn File>, path: Option<Path>, flags: OpenFlags) -> Arc<Self> {
        vfs.open_files.count.fetch_add(1, Ordering::Relaxed);
        Arc::new(FileDescription {
            watchers: Watchers::default(),
            vfs: vfs.clone(),
            file,
            path,
            flags: AtomicU32::new(flags.bits()),
            position: parking_lot::Mutex::new(0),
            id: vfs.open_files.next_description.fetch_add(1, Ordering::Relaxed),
            owner: Mutex::new(Rank::Leaf, None),
            owner_signal: AtomicU32::new(0),
            write_hint: AtomicU64::new(0),
            file_use: OnceLock::new(),
            writer: OnceLock::new(),
        })
    }

    /// Called when a descriptor of this file in the table with that number was closed. Releases the process's record
    /// locks.
    pub(crate) fn closed(&self, table: u64) {
        if self.vfs.locks.any() && !self.is_path_only() {
            self.vfs.locks.release_process(&*self.file.inode(), Owner::Process(table));
        }
    }

    /// The file's operations.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The file as a concrete type, if it has that type.
    pub(crate) fn downcast<T: 'static>(&self) -> Option<&T> {
        self.file.as_any().downcast_ref()
    }

    /// Counts the file as written or executed, and its mount as written, for the lifetime of this description.
    pub(crate) fn hold(&self, file_use: Option<FileUse>, writer: Option<Writer>) {
        // Both are set at most once: a description has one use.
        if let Some(file_use) = file_use {
            let _ = self.file_use.set(file_use);
        }
        if let Some(writer) = writer {
            let _ = self.writer.set(writer);
        }
    }

    /// The epolls that watch it.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// The path at which it was opened; none for anonymous files.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// A number that is unique in the sandbox and never reused: the owner of its locks.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Access mode and status flags.
    pub(crate) fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the status flags in [`CHANGEABLE`] and keeps the others. `O_ASYNC` is changed by
    /// [`signal::io::switch`](crate::signal::io::switch).
    pub(crate) fn set_flags(&self, new: OpenFlags) {
        let kept = self.flags() & !CHANGEABLE;
        let flags = kept | (new & CHANGEABLE);
        self.flags.store(flags.bits(), Ordering::Relaxed);
        self.file.status_changed(flags);
    }

    /// Whether a call that would block fails with `EAGAIN`.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::O_NONBLOCK)
    }

    /// Whether it is open for reading; false with `O_PATH`.
    pub(crate) fn is_readable(&self) -> bool {
        let flags = self.flags();
        !flags.contains(OpenFlags::O_PATH) && flags.reads()
    }

    /// Whether it is open for writing; false with `O_PATH`.
    pub(crate) fn is_writable(&self) -> bool {
        let flags = self.flags();
        let mode = flags & OpenFlags::O_ACCMODE;
        !flags.contains(OpenFlags::O_PATH) && (mode == OpenFlags::O_WRONLY || mode == OpenFlags::O_RDWR)
    }

    /// Whether it was opened with `O_PATH`.
    pub(crate) fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::O_PATH)
    }

    /// Locks the file position. It is locked over a whole read or write that uses it, including the access to guest
    /// memory, so that these are atomic. It is outside the lock order: its holder has no other lock, and it is never
    /// taken under another.
    pub(crate) fn position(&self) -> Position<'_> {
        let mut guard = self.position.lock();
        let own = self.file.own_position();
        if let Some(Ok(position)) = own.map(OwnPosition::get) {
            *guard = position;
        }
        Position { before: *guard, guard, own }
    }

    /// The file position, unless a read or write is using it.
    pub(crate) fn position_at_rest(&self) -> Option<u64> {
        let position = *self.position.try_lock()?;
        Some(self.file.own_position().and_then(|own| own.get().ok()).unwrap_or(position))
    }

    /// The receiver of its signals.
    pub(crate) fn owner(&self) -> Option<Arc<dyn SignalOwner>> {
        self.owner.lock().clone()
    }

    /// Sets the receiver of its signals.
    pub(crate) fn set_owner(&self, owner: Arc<dyn SignalOwner>) {
        let old = self.owner.lock().replace(owner);
        drop(old);
    }

    /// The signal that the owner receives; none for a plain SIGIO.
    pub(crate) fn owner_signal(&self) -> Option<Signal> {
        Signal::from_raw(self.owner_signal.load(Ordering::Relaxed) as i32)
    }

    /// Sets the signal that the owner receives (`F_SETSIG`).
    pub(crate) fn set_owner_signal(&self, signal: Option<Signal>) {
        self.owner_signal.store(signal.map_or(0, |s| s.raw() as u32), Ordering::Relaxed);
    }

    /// The expected lifetime of written data (`F_GET_RW_HINT`).
    pub(crate) fn write_hint(&self) -> u64 {
        self.write_hint.load(Ordering::Relaxed)
    }

    /// Sets the expected lifetime of written data (`F_SET_RW_HINT`).
    pub(crate) fn set_write_hint(&self, hint: u64) {
        self.write_hint.store(hint, Ordering::Relaxed);
    }

    /// The file type.
    pub(crate) fn kind(&self) -> FileType {
        self.file.inode().kind()
    }
}

impl Drop for FileDescription {
    fn drop(&mut self) {
        self.vfs.open_files.count.fetch_sub(1, Ordering::Relaxed);
        if self.is_path_only() {
            return;
        }
        if self.vfs.locks.any() {
            self.vfs.locks.release_description(&*self.file.inode(), self.id);
        }
        if let Some(path) = &self.path {
            let event = if self.is_writable() { mask::IN_CLOSE_WRITE } else { mask::IN_CLOSE_NOWRITE };
            notify::happened(path, event);
        }
    }
}
