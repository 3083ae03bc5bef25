//! Descriptors that Amber was started with and hands on to the guest: its standard input, output and error.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::poll::PollEvents;
use amber_abi::stat::{Device, FileType};
use amber_host::fs as host;
use amber_host::poller::{Ready, Watch, readiness};

use crate::fs::anon::PIPEFS;
use crate::fs::sigio::{Happening, SignalIo};
use crate::fs::{File, FileDescription, FileSystem, Inode, Metadata, SetAttributes};
use crate::wait::WaitQueue;

/// A host descriptor as an open file of the guest. Its position is the host's, shared with whoever handed it over, so
/// that what Amber and its caller write to one file does not overlap; the guest cannot seek in it.
struct HostStream {
    file: Arc<OwnedFd>,
    inode: Arc<HostStreamInode>,
    watch: Option<Watch>,
    news: Arc<News>,
}

/// The waiters of a stream, apart from it so that the poller's thread does not keep it alive.
struct News(WaitQueue);

impl Ready for News {
    fn ready(&self, events: PollEvents) {
        let mut told = events;
        told.set(PollEvents::POLLRDNORM, events.contains(PollEvents::POLLIN));
        told.set(PollEvents::POLLWRNORM, events.contains(PollEvents::POLLOUT));
        self.0.notify(told);
        let happenings = [(PollEvents::POLLIN, Happening::Input), (PollEvents::POLLOUT, Happening::Output)];
        happenings.iter().filter(|(event, _)| events.contains(*event)).for_each(|(_, it)| self.0.signals().tell(*it));
    }
}

/// Opens a host descriptor for the guest.
///
/// # Errors
/// The host cannot tell what it is or watch it.
pub fn open(file: OwnedFd) -> Result<Arc<FileDescription>, Errno> {
    let flags = host::flags(file.as_fd())?;
    let file = Arc::new(file);
    let kind = FileType::from_mode(host::stat(file.as_fd())?.mode).unwrap_or(FileType::Regular);
    let news = Arc::new(News(WaitQueue::new()));
    let listener: Arc<dyn Ready> = news.clone();
    let weak: Weak<dyn Ready> = Arc::downgrade(&listener);
    let watch = Watch::new(file.clone(), weak).map_err(Errno::from_host)?;
    let inode = Arc::new(HostStreamInode { file: file.clone(), kind });
    let stream = HostStream { file, inode, watch, news };
    Ok(FileDescription::new(Arc::new(stream), None, flags & OpenFlags::O_ACCMODE))
}

impl HostStream {
    /// What can be done now; the poller is asked to tell when more can be.
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

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        // The descriptor may be in blocking mode, which is its owner's choice: never read where that could wait.
        let ready = self.look();
        if !ready.intersects(PollEvents::POLLIN | PollEvents::POLLHUP | PollEvents::POLLERR) {
            return Err(Errno::EAGAIN);
        }
        host::read(self.file.as_fd(), buf)
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        let ready = self.look();
        if !ready.intersects(PollEvents::POLLOUT | PollEvents::POLLHUP | PollEvents::POLLERR) {
            return Err(Errno::EAGAIN);
        }
        // A pipe that is writable takes PIPE_BUF bytes without waiting; more might wait for its reader.
        let most = if self.inode.kind == FileType::Regular { buf.len() } else { buf.len().min(4096) };
        host::write(self.file.as_fd(), &buf[..most])
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        self.write_at(buf, 0).map(|count| (0, count))
    }

    fn is_seekable(&self) -> bool {
        false
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

/// What `fstat` tells of a stream: the host's attributes, which the guest cannot change.
struct HostStreamInode {
    file: Arc<OwnedFd>,
    kind: FileType,
}

impl Inode for HostStreamInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        PIPEFS.clone()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata, Errno> {
        let stat = host::stat(self.file.as_fd())?;
        Ok(Metadata {
            device: PIPEFS.device(),
            number: stat.number,
            kind: self.kind,
            permissions: (stat.mode & 0o7777) as u16,
            links: stat.links as u32,
            uid: stat.uid,
            gid: stat.gid,
            special: Device::from_raw(stat.special),
            size: stat.size,
            blocks: stat.blocks,
            block_size: stat.block_size,
            accessed: stat.accessed,
            modified: stat.modified,
            changed: stat.changed,
            born: None,
        })
    }

    fn set_attributes(&self, _: &SetAttributes) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn File>, Errno> {
        Err(Errno::ENXIO)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
