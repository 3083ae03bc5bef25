//! What `open` returns: the behaviour behind a descriptor, and the open file description around it.

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

/// The behaviour of an open file, whatever its kind.
///
/// No operation sleeps: what cannot go on now answers `EAGAIN`, and the one waiting loop in
/// [`rw`](crate::syscalls::fs::rw) registers with [`wait_queue`](Self::wait_queue) and tries again, unless the
/// description is non-blocking.
pub trait File: Send + Sync + Any {
    /// The inode behind the file. Anonymous kinds have one too, so that `fstat` answers.
    fn inode(&self) -> Arc<dyn Inode>;

    /// Reads at `offset` (ignored by streams) and returns the bytes read; 0 is the end.
    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Writes at `offset` (ignored by streams) and returns the bytes written.
    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Writes at the end, atomically with finding it; returns where and how much.
    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        let offset = self.inode().metadata()?.size;
        self.write_at(buf, offset).map(|n| (offset, n))
    }

    /// The host's descriptor of a stream whose bytes may go straight between it and guest memory, without waiting.
    fn host_stream(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Asked before each try of a task's read or write: a terminal stops background tasks here.
    ///
    /// # Errors
    /// Those of the read or write.
    fn admit(&self, _caller: &dyn Caller, _write: bool) -> Result<(), SysError> {
        Ok(())
    }

    /// When a read that began at `began` waits no longer, and takes what there is (`VTIME` of terminals). What comes
    /// meanwhile may change it.
    fn read_deadline(&self, _began: Instant) -> Option<Instant> {
        None
    }

    /// Reads for somebody who may not wait, or no longer, for all that a read should have (`VMIN` of terminals).
    ///
    /// # Errors
    /// `EAGAIN` if there is nothing at all.
    fn read_partial(&self, _buf: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EAGAIN.here())
    }

    /// About how many bytes the kernel keeps for it, beside pages; its last close frees them.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// Whether offsets mean something: false makes `lseek` and `pread` answer `ESPIPE`.
    fn is_seekable(&self) -> bool {
        true
    }

    /// Whether seeking moves the position; devices without content stay at 0.
    fn keeps_position(&self) -> bool {
        true
    }

    /// The position, if the file keeps it itself.
    fn own_position(&self) -> Option<&dyn OwnPosition> {
        None
    }

    /// What a write of `len` bytes answers, for devices that do not look at what is written.
    fn discard(&self, _len: usize) -> Option<Result<usize, Errno>> {
        None
    }

    /// Turns a seek into a new position. `SEEK_SET`, `SEEK_CUR` and `SEEK_END` are done by the caller for files whose
    /// size says where the end is; what comes here is `SEEK_DATA` and `SEEK_HOLE`.
    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let size = self.inode().metadata()?.size;
        if offset >= size {
            return Err(Errno::ENXIO.here());
        }
        Ok(if hole { size } else { offset })
    }

    /// What could be done without waiting now. Files that never wait are always readable and writable.
    fn poll(&self) -> PollEvents {
        PollEvents::POLLIN | PollEvents::POLLOUT | PollEvents::POLLRDNORM | PollEvents::POLLWRNORM
    }

    /// Who is told when [`poll`](Self::poll) would answer more; none for files that never wait (epoll refuses those).
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whether one event serves one reader, so that it need wake only one of those that wait.
    fn is_read_in_turn(&self) -> bool {
        false
    }

    /// What `O_ASYNC` does.
    fn signal_io(&self) -> SignalIo {
        SignalIo::Absent
    }

    /// How many bytes a read waits for, unless it asks for fewer (`SO_RCVLOWAT`).
    fn low_water(&self) -> usize {
        1
    }

    /// Whether a write that answers `EPIPE` sends SIGPIPE.
    fn signals_broken_pipe(&self) -> bool {
        true
    }

    /// How long a read (or, if `writing`, a write) waits at most, where that can be set (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    fn timeout(&self, _writing: bool) -> Option<Duration> {
        None
    }

    /// ioctl(2) commands of this kind of file.
    fn ioctl(&self, _caller: &dyn Caller, _command: u32, _argument: u64) -> SysResult {
        Err(Errno::ENOTTY.here().into())
    }

    /// The object whose pages mmap(2) shows.
    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        Err(Errno::ENODEV.here())
    }

    /// Lists directory entries (without `.` and `..`) from the cookie `from` on, 0 at first, into the sink until it is
    /// full. Cookies stay below 2^62.
    fn read_directory(&self, _from: u64, _sink: &mut dyn DirectorySink) -> Result<(), Errno> {
        Err(Errno::ENOTDIR.here())
    }

    /// fallocate(2): reserves, frees, zeroes or shifts storage. `offset` and `len` are positive and do not overflow.
    fn allocate(&self, _mode: FallocateMode, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP.here())
    }

    /// The seals of a memfd, and their addition; other files have none.
    fn seals(&self) -> Result<Seals, Errno> {
        Err(Errno::EINVAL.here())
    }

    /// Adds seals (`F_ADD_SEALS`).
    fn add_seals(&self, _seals: Seals) -> Result<(), Errno> {
        Err(Errno::EINVAL.here())
    }

    /// The capacity of a pipe (`F_GETPIPE_SZ`).
    fn pipe_size(&self) -> Result<u32, Errno> {
        Err(Errno::EBADF.here())
    }

    /// Changes the capacity of a pipe and answers the one it got (`F_SETPIPE_SZ`).
    fn set_pipe_size(&self, _size: u32, _privileged: bool) -> Result<u32, Errno> {
        Err(Errno::EBADF.here())
    }

    /// fsync(2), or fdatasync(2) if `data_only`.
    fn sync(&self, _data_only: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL.here())
    }

    /// The status flags were changed by fcntl(2) `F_SETFL`, for files that keep something of them.
    fn status_changed(&self, _flags: OpenFlags) {}

    /// Called at each close(2) of a descriptor of this file (Linux's `flush`); its errors are close's.
    fn flush(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Called before the last descriptor of the file is closed by close(2) and its like: may wait (`SO_LINGER`).
    fn last_close(&self, _caller: &dyn Caller) {}

    /// The lines of `/proc/PID/fdinfo/N` that only this kind has, each with its newline.
    fn fdinfo(&self) -> String {
        String::new()
    }

    /// The same some lines at a time, for kinds with lines that a guest can make many: appends those from a place on, and
    /// returns the place of the next, if there is one. The first place is (0, 0).
    fn fdinfo_from(&self, _from: (i32, u64), lines: &mut String) -> Option<(i32, u64)> {
        lines.push_str(&self.fdinfo());
        None
    }

    /// What `/proc/PID/fd/N` shows for a file without a path, such as `pipe:[42]` or `anon_inode:[eventfd]`.
    fn link_text(&self) -> Option<String> {
        None
    }

    /// For the calls that work on one kind only (sockets, epoll, …) to find it again.
    fn as_any(&self) -> &dyn Any;
}

/// A position that is kept elsewhere: that of a host file, which whoever handed it over shares.
pub trait OwnPosition {
    /// Where it is.
    fn get(&self) -> Result<u64, Errno>;

    /// Moves it.
    fn set(&self, position: u64) -> Result<(), Errno>;

    /// Reads there and moves it on.
    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Writes there, or at the end if that is how the file was opened, and moves it on.
    fn write(&self, buf: &[u8]) -> Result<usize, Errno>;
}

/// The position of a file, locked; what it is set to holds when this is dropped.
pub struct Position<'a> {
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
            // What cannot be moved stays, and the next look tells so.
            let _ = own.set(*self.guard);
        }
    }
}

/// Flags that fcntl(2) `F_SETFL` may change.
pub const CHANGEABLE: OpenFlags = OpenFlags::O_APPEND
    .union(OpenFlags::O_NONBLOCK)
    .union(OpenFlags::FASYNC)
    .union(OpenFlags::O_DIRECT)
    .union(OpenFlags::O_NOATIME);

/// The open files of a kernel.
pub struct OpenFiles {
    count: AtomicU64,
    next_description: AtomicU64,
    next_table: AtomicU64,
}

impl OpenFiles {
    pub(super) fn new() -> Self {
        OpenFiles { count: AtomicU64::new(0), next_description: AtomicU64::new(1), next_table: AtomicU64::new(1) }
    }

    /// How many open file descriptions there are (`fs.file-nr`).
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A number for a table of descriptors, which no other ever had.
    pub(super) fn number_table(&self) -> u64 {
        self.next_table.fetch_add(1, Ordering::Relaxed)
    }
}

/// An open file description (see open(2)): shared by all descriptors made from it by dup and fork.
pub struct FileDescription {
    /// First, so that epolls forget the file before it goes.
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
    /// Keeps the file from being executed while it can be written here, or from being written while it is executed.
    file_use: OnceLock<FileUse>,
    /// Keeps the mount from becoming read-only while the file can be written here.
    writer: OnceLock<Writer>,
}

impl FileDescription {
    /// Opens `file`, found at `path` if it has one, with the access mode and status of `flags`.
    pub fn new(vfs: &Arc<Vfs>, file: Arc<dyn File>, path: Option<Path>, flags: OpenFlags) -> Arc<Self> {
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

    /// A descriptor of this file in the table of that number was closed.
    pub fn closed(&self, table: u64) {
        if self.vfs.locks.any() && !self.is_path_only() {
            self.vfs.locks.release_process(&*self.file.inode(), Owner::Process(table));
        }
    }

    /// The behaviour.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The behaviour as one certain kind, if it is that kind.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.file.as_any().downcast_ref()
    }

    /// Counts the file as written or executed, and its mount as written, for as long as this description lives.
    pub(crate) fn hold(&self, file_use: Option<FileUse>, writer: Option<Writer>) {
        // A description is made for one use.
        if let Some(file_use) = file_use {
            let _ = self.file_use.set(file_use);
        }
        if let Some(writer) = writer {
            let _ = self.writer.set(writer);
        }
    }

    /// The epolls that watch it.
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Where it was opened; none for anonymous files.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// A number no other description of the sandbox ever had: the owner of its locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the status flags named in [`CHANGEABLE`], leaves the others. `O_ASYNC` is for
    /// [`signal::io::switch`](crate::signal::io::switch) to change.
    pub(crate) fn set_flags(&self, new: OpenFlags) {
        let kept = self.flags() & !CHANGEABLE;
        let flags = kept | (new & CHANGEABLE);
        self.flags.store(flags.bits(), Ordering::Relaxed);
        self.file.status_changed(flags);
    }

    /// Whether a call that cannot go on answers `EAGAIN`.
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::O_NONBLOCK)
    }

    /// Whether the access mode allows reading (and it was not opened with `O_PATH`).
    pub fn is_readable(&self) -> bool {
        let flags = self.flags();
        !flags.contains(OpenFlags::O_PATH) && flags.reads()
    }

    /// Whether the access mode allows writing (and it was not opened with `O_PATH`).
    pub fn is_writable(&self) -> bool {
        let flags = self.flags();
        let mode = flags & OpenFlags::O_ACCMODE;
        !flags.contains(OpenFlags::O_PATH) && (mode == OpenFlags::O_WRONLY || mode == OpenFlags::O_RDWR)
    }

    /// Whether only the path can be used (`O_PATH`).
    pub fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::O_PATH)
    }

    /// The file position; held over a read or write that uses it, guest memory included, so that those are atomic to
    /// each other. It is outside the lock order: who holds it has no other lock, and no one takes it below another.
    pub fn position(&self) -> Position<'_> {
        let mut guard = self.position.lock();
        let own = self.file.own_position();
        if let Some(Ok(position)) = own.map(OwnPosition::get) {
            *guard = position;
        }
        Position { before: *guard, guard, own }
    }

    /// The file position, unless somebody is just using it.
    pub fn position_at_rest(&self) -> Option<u64> {
        let position = *self.position.try_lock()?;
        Some(self.file.own_position().and_then(|own| own.get().ok()).unwrap_or(position))
    }

    /// Who gets its signals.
    pub(crate) fn owner(&self) -> Option<Arc<dyn SignalOwner>> {
        self.owner.lock().clone()
    }

    /// Sets who gets its signals.
    pub(crate) fn set_owner(&self, owner: Arc<dyn SignalOwner>) {
        let old = self.owner.lock().replace(owner);
        drop(old);
    }

    /// The signal the owner gets; none for a plain SIGIO.
    pub fn owner_signal(&self) -> Option<Signal> {
        Signal::from_raw(self.owner_signal.load(Ordering::Relaxed) as i32)
    }

    /// Sets the signal the owner gets.
    pub fn set_owner_signal(&self, signal: Option<Signal>) {
        self.owner_signal.store(signal.map_or(0, |s| s.raw() as u32), Ordering::Relaxed);
    }

    /// How long written data is expected to live (`F_GET_RW_HINT`).
    pub fn write_hint(&self) -> u64 {
        self.write_hint.load(Ordering::Relaxed)
    }

    /// Notes that expectation.
    pub fn set_write_hint(&self, hint: u64) {
        self.write_hint.store(hint, Ordering::Relaxed);
    }

    /// The kind of file.
    pub fn kind(&self) -> FileType {
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
