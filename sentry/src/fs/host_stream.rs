//! Host descriptors passed to the guest as streams: Amber's standard input, output and error.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::{FallocateMode, OpenFlags};
use amber_abi::poll::PollEvents;
use amber_abi::stat::FileType;
use amber_host::fs as host;
use amber_host::poller::{Ready, Watch, readiness};
use amber_host::users::UNMAPPED;
use amber_platform::GuestMemory;

use crate::error::SysResult;
use crate::fs::hostfs::{Descriptor, HostPages, metadata_of};
use crate::mm::{Mappable, PageCache, PageCaches};
use crate::slices::at_most;
use crate::vfs::anon::AnonymousFs;
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, FileDescription, FileSystem, Inode, Metadata, OwnPosition, SetAttributes, Vfs};
use crate::wait::{SigioEvent, WaitQueue};

/// A host descriptor as an open file of the guest. Its position is that of the host, shared with other processes of the
/// host, so that output of Amber and its parent to one file does not overlap. A file reopened in the guest has its own
/// position.
struct HostStream {
    file: Arc<OwnedFd>,
    inode: Arc<HostStreamInode>,
    watch: Option<Watch>,
    news: Arc<News>,
    is_seekable: bool,
    shares_position: bool,
}

/// The waiters of a stream, separate from it so that the poller's thread does not keep the stream alive.
struct News(WaitQueue);

impl Ready for News {
    fn ready(&self, events: PollEvents) {
        let mut told = events;
        told.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
        told.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
        self.0.notify(told);
        let kinds = [(PollEvents::POLLIN, SigioEvent::Input), (PollEvents::POLLOUT, SigioEvent::Output)];
        kinds.iter().filter(|(event, _)| events.contains(*event)).for_each(|(_, it)| self.0.signals().notify(*it));
    }
}

/// Opens a host descriptor for the guest.
///
/// # Errors
/// Errors of the host when it reads the file's attributes or polls it.
pub(crate) fn open(
    vfs: &Arc<Vfs>,
    file: Arc<OwnedFd>,
    memory: &Arc<GuestMemory>,
) -> Result<Arc<FileDescription>, Errno> {
    let flags = host::flags(file.as_fd())?;
    let kind = FileType::from_mode(host::stat(file.as_fd())?.mode).unwrap_or(FileType::Anonymous);
    let inode = HostStreamInode::new(vfs, file.clone(), kind, memory);
    let stream = HostStream::new(file, Arc::new(inode), true)?;
    Ok(FileDescription::new(vfs, Arc::new(stream), None, flags & (OpenFlags::O_ACCMODE | OpenFlags::O_APPEND)))
}

/// Opens the host's terminal again, for `/dev/tty` without a console.
///
/// # Errors
/// `EMFILE` or `ENFILE` if the host has no free descriptor.
pub(crate) fn open_terminal(
    vfs: &Vfs,
    terminal: BorrowedFd<'_>,
    memory: &Arc<GuestMemory>,
) -> Result<Arc<dyn File>, Errno> {
    let file = Arc::new(host::duplicate(terminal)?);
    let kind = FileType::CharacterDevice;
    let inode = HostStreamInode::new(vfs, file.clone(), kind, memory);
    Ok(Arc::new(HostStream::new(file, Arc::new(inode), true)?))
}

impl HostStream {
    fn new(file: Arc<OwnedFd>, inode: Arc<HostStreamInode>, shares_position: bool) -> Result<Self, Errno> {
        let news = Arc::new(News(WaitQueue::new()));
        let listener: Arc<dyn Ready> = news.clone();
        let weak: Weak<dyn Ready> = Arc::downgrade(&listener);
        let watch = Watch::new(file.clone(), weak).map_err(Errno::from_host)?;
        // Some files that need polling, such as an eventfd, report a position.
        let has_position = match inode.kind {
            FileType::Directory => false,
            FileType::Regular => true,
            _ => watch.is_none(),
        };
        let is_seekable = has_position && host::position(file.as_fd()).is_ok();
        Ok(HostStream { file, inode, watch, news, is_seekable, shares_position })
    }
}

impl HostStream {
    /// The events it is ready for now. Arms the poller for the others.
    fn look(&self) -> PollEvents {
        let Some(watch) = &self.watch else {
            return PollEvents::POLLIN | PollEvents::POLLOUT | PollEvents::POLLRDNORM | PollEvents::POLLWRNORM;
        };
        let now = readiness(self.file.as_fd());
        let missing = (PollEvents::POLLIN | PollEvents::POLLOUT) & !now;
        if !missing.is_empty() && !now.intersects(PollEvents::POLLHUP | PollEvents::POLLERR) {
            watch.arm(missing);
        }
        now
    }
}

impl File for HostStream {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.is_seekable {
            return host::read_at(&*self.file, buf, offset);
        }
        // The descriptor may be in blocking mode, which is not ours to change, so it is only read when it would not
        // block.
        let ready = self.look();
        if !ready.intersects(PollEvents::POLLIN | PollEvents::POLLHUP | PollEvents::POLLERR) {
            return Err(Errno::EAGAIN.here());
        }
        host::read(self.file.as_fd(), buf)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize, Errno> {
        if self.is_seekable {
            return host::write_at(&*self.file, buf, offset);
        }
        let ready = self.look();
        if !ready.intersects(PollEvents::POLLOUT | PollEvents::POLLHUP | PollEvents::POLLERR) {
            return Err(Errno::EAGAIN.here());
        }
        // A writable pipe accepts PIPE_BUF bytes without blocking; more could block.
        host::write(self.file.as_fd(), at_most(buf, 4096))
    }

    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn own_position(&self) -> Option<&dyn OwnPosition> {
        (self.is_seekable && self.shares_position).then_some(self)
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        host::seek_data(self.file.as_fd(), offset, hole)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        match caller.kernel().fs.registry.host_terminal() {
            Some(ioctl) => ioctl(self.file.as_fd(), caller, command, argument),
            None => Err(Errno::ENOTTY.here().into()),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        self.inode.map()
    }

    fn allocate(&self, mode: FallocateMode, offset: u64, len: u64) -> Result<(), Errno> {
        host::allocate(self.file.as_fd(), mode.bits(), offset, len)
    }

    fn poll(&self) -> PollEvents {
        self.look()
    }

    fn signal_io(&self) -> SignalIo {
        SignalIo::Whole
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.watch.is_some().then_some(&self.news.0)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        host::sync(self.file.as_fd(), data_only)
    }

    fn link_text(&self) -> Option<String> {
        let number = host::stat(self.file.as_fd()).map_or(0, |stat| stat.number);
        Some(match self.inode.kind {
            FileType::Fifo => format!("pipe:[{number}]"),
            FileType::Socket => format!("socket:[{number}]"),
            _ => format!("host:[{number}]"),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl OwnPosition for HostStream {
    fn get(&self) -> Result<u64, Errno> {
        host::position(self.file.as_fd())
    }

    fn set(&self, position: u64) -> Result<(), Errno> {
        host::set_position(self.file.as_fd(), position)
    }

    fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        host::read(self.file.as_fd(), buf)
    }

    fn write(&self, buf: &[u8]) -> Result<usize, Errno> {
        host::write(self.file.as_fd(), buf)
    }
}

/// The inode of a stream: the host's attributes, of which the guest can change only the length.
pub(crate) struct HostStreamInode {
    pipefs: Arc<AnonymousFs>,
    page_caches: Arc<PageCaches>,
    file: Arc<OwnedFd>,
    kind: FileType,
    memory: Arc<GuestMemory>,
    /// Set by the first mapping.
    pages: OnceLock<Arc<PageCache>>,
}

impl HostStreamInode {
    fn new(vfs: &Vfs, file: Arc<OwnedFd>, kind: FileType, memory: &Arc<GuestMemory>) -> Self {
        let (pipefs, page_caches) = (vfs.anonymous.pipefs.clone(), vfs.page_caches.clone());
        HostStreamInode { pipefs, page_caches, file, kind, memory: memory.clone(), pages: OnceLock::new() }
    }

    /// The pages of a regular file, with its present length. Stores through shared mappings are written back.
    fn map(&self) -> Result<Arc<dyn Mappable>, Errno> {
        if self.kind != FileType::Regular {
            return Err(Errno::ENODEV.here());
        }
        let size = host::stat(self.file.as_fd())?.size;
        let pages = match self.pages.get() {
            Some(pages) => {
                pages.write_back(0, u64::MAX)?;
                pages.reload(size);
                pages
            }
            None => {
                let file = Descriptor::new(&self.memory, host::duplicate(self.file.as_fd())?);
                let (source, writer) = HostPages::new(file.clone());
                *writer.lock() = Some(file);
                let (caches, memory) = (&self.page_caches, self.memory.clone());
                self.pages.get_or_init(|| PageCache::new(caches, memory, Box::new(source), size))
            }
        };
        Ok(pages.clone())
    }
}

impl Drop for HostStreamInode {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.get()
            && let Err(errno) = pages.write_back(0, u64::MAX)
        {
            log::error!("writing back changed pages of a standard stream: {errno}");
        }
    }
}

impl Inode for HostStreamInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        self.pipefs.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let shown = metadata_of(&host::stat(self.file.as_fd())?, self.kind, self.pipefs.device());
        // Container runtimes give the standard streams to a user of the container, so that it can open them again.
        let owner = |id| if id == UNMAPPED { 0 } else { id };
        Ok(Metadata { uid: owner(shown.uid), gid: owner(shown.gid), ..shown })
    }

    fn set_attributes(&self, changes: &SetAttributes) -> Result<(), Errno> {
        let SetAttributes { permissions: None, uid: None, gid: None, size: Some(size), .. } = *changes else {
            return Err(Errno::EPERM.here());
        };
        if self.kind != FileType::Regular {
            return Err(Errno::EINVAL.here());
        }
        host::set_size(self.file.as_fd(), size)?;
        if let Some(pages) = self.pages.get() {
            pages.set_len(size);
        }
        Ok(())
    }

    /// Opens the stream again (`/dev/stdin` and the like), with no more access than the host's descriptor has.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        let had = host::flags(self.file.as_fd())?;
        if self.kind == FileType::Socket {
            return Err(Errno::ENXIO.here());
        }
        if (flags.reads() && !had.reads()) || (flags.writes() && !had.writes()) {
            return Err(Errno::EACCES.here());
        }
        // The host's poller distinguishes streams by descriptor number, so each has its own.
        let file = Arc::new(host::duplicate(self.file.as_fd())?);
        Ok(Arc::new(HostStream::new(file, self, false)?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
