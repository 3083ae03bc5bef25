//! Access to a host file: by an open descriptor, or by its name in its directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;
use amber_host::fs as host;
use amber_host::fs::HostStat;

use super::Root;
use super::descriptor::Descriptor;
use super::inode::{HostInode, ownership_of};

impl HostInode {
    /// Closes the cached descriptor unless it was used since the last call. Returns true if it stays open.
    pub(super) fn let_go(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return true;
        }
        let kept = self.state.lock().kept.take();
        drop(kept);
        false
    }

    pub(super) fn place(&self) -> Result<(Arc<Descriptor>, Box<[u8]>), Errno> {
        let (parent, name) = {
            let state = self.state.lock();
            (state.parent.clone(), state.name.clone())
        };
        match parent {
            Some(parent) => Ok((parent.directory()?, name)),
            None => match &self.fs.root {
                Root::File(fd, name) => {
                    let fd = fd.try_clone().map_err(Errno::from_host)?;
                    Ok((Descriptor::new(&self.fs.memory, fd), name.clone()))
                }
                Root::Directory(_) => Err(Errno::EBUSY.here()),
            },
        }
    }

    /// The descriptor of this directory, for access to its entries.
    pub(super) fn directory(&self) -> Result<Arc<Descriptor>, Errno> {
        self.used.store(true, Ordering::Relaxed);
        let is_root = {
            let state = self.state.lock();
            if let Some(fd) = state.kept.as_ref().or(state.orphan.as_ref()) {
                return Ok(fd.clone());
            }
            state.parent.is_none()
        };
        let fd = match (&self.fs.root, is_root) {
            (Root::Directory(fd), true) => fd.try_clone().map_err(Errno::from_host)?,
            _ => {
                let (parent, name) = self.place()?;
                host::open_at(parent.as_fd(), &name, OpenFlags::O_PATH | OpenFlags::O_DIRECTORY, 0)?
            }
        };
        let fd = self.keep(fd)?;
        Ok(fd)
    }

    fn keep(&self, fd: OwnedFd) -> Result<Arc<Descriptor>, Errno> {
        let mount = self.accept(fd.as_fd())?;
        let fd = Descriptor::new(&self.fs.memory, fd);
        let (file, new) = {
            let mut state = self.state.lock();
            state.mount = mount;
            // Another thread may have opened it in the meantime.
            let first = state.kept.clone();
            let new = first.is_none();
            let file = first.unwrap_or_else(|| fd.clone());
            state.reader = Arc::downgrade(&file);
            state.kept = Some(file.clone());
            (file, new)
        };
        self.used.store(true, Ordering::Relaxed);
        if new {
            self.fs.keep(&self.this());
        }
        Ok(file)
    }

    /// Checks a descriptor opened by this inode's name before it is used, since something may be mounted there at any
    /// time. Returns the number of its mount.
    pub(super) fn accept(&self, file: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
        let found = host::look(file)?;
        self.fs.admit(file, found.mount)?;
        self.check_identity(&found.stat)?;
        Ok(found.mount)
    }

    /// Checks whether the name still refers to the same file. In a tree that is not shared, another file of the same
    /// type is taken for this one with new content, as in a lower layer of Linux' overlay.
    pub(super) fn check_identity(&self, stat: &HostStat) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if (state.device, state.number) == (stat.device, stat.number) {
            return Ok(());
        }
        if self.fs.shared || !self.is_kind_of(stat) {
            return Err(Errno::ESTALE.here());
        }
        (state.device, state.number) = (stat.device, stat.number);
        state.ownership = ownership_of(stat);
        state.note_change(stat);
        Ok(())
    }

    /// A descriptor that is open already, if there is one.
    pub(super) fn at_hand(&self) -> Option<Arc<Descriptor>> {
        let state = self.state.lock();
        state
            .orphan
            .clone()
            .or_else(|| state.writer.upgrade())
            .or_else(|| state.reader.upgrade())
            .or_else(|| state.kept.clone())
    }

    pub(super) fn stat(&self) -> Result<HostStat, Errno> {
        if let Some(file) = self.at_hand() {
            return host::stat(file.as_fd());
        }
        if self.kind == FileType::Directory {
            return host::stat(self.directory()?.as_fd());
        }
        let (parent, name) = self.place()?;
        let stat = host::stat_at(parent.as_fd(), &name)?;
        self.check_identity(&stat)?;
        Ok(stat)
    }

    /// The host file open for reading.
    pub(super) fn reader(&self) -> Result<Arc<Descriptor>, Errno> {
        self.used.store(true, Ordering::Relaxed);
        {
            let state = self.state.lock();
            if let Some(file) = state.kept.clone().or_else(|| state.reader.upgrade()) {
                return Ok(file);
            }
        }
        let (parent, name) = self.place()?;
        let fd = host::open_file_at(parent.as_fd(), &name, OpenFlags::O_RDONLY)?;
        self.keep(fd)
    }

    /// The host file open for writing and, if permitted, for reading.
    pub(super) fn writer(&self) -> Result<Arc<Descriptor>, Errno> {
        if let Some(file) = self.state.lock().writer.upgrade() {
            return Ok(file);
        }
        let (parent, name) = self.place()?;
        let fd = match host::open_at(parent.as_fd(), &name, OpenFlags::O_RDWR, 0) {
            Err(Errno::EACCES) => host::open_at(parent.as_fd(), &name, OpenFlags::O_WRONLY, 0)?,
            opened => opened?,
        };
        self.accept(fd.as_fd())?;
        let file = Descriptor::new(&self.fs.memory, fd);
        let mut state = self.state.lock();
        // Another thread may have opened it in the meantime. There is one writer, which the pages share.
        if let Some(first) = state.writer.upgrade() {
            drop(state);
            return Ok(first);
        }
        state.writer = Arc::downgrade(&file);
        if let Some(mapped) = &state.mapped {
            *mapped.writer.lock() = Some(file.clone());
        }
        Ok(file)
    }

    /// A descriptor of this file, independent of changes of its name.
    pub(super) fn pinned(&self) -> Result<Arc<Descriptor>, Errno> {
        if let Some(file) = self.at_hand() {
            return Ok(file);
        }
        if self.kind == FileType::Directory {
            return self.directory();
        }
        let (parent, name) = self.place()?;
        let fd = host::open_at(parent.as_fd(), &name, OpenFlags::O_PATH, 0)?;
        self.accept(fd.as_fd())?;
        Ok(Descriptor::new(&self.fs.memory, fd))
    }

    /// A descriptor for calls that `O_PATH` does not support.
    pub(super) fn any_opened(&self) -> Result<Arc<Descriptor>, Errno> {
        match self.kind {
            FileType::Regular => {
                let orphan = self.state.lock().orphan.clone();
                match orphan {
                    Some(file) => Ok(file),
                    None => self.reader().or_else(|_| self.writer()),
                }
            }
            FileType::Directory => {
                let fd = host::reopen_directory(self.directory()?.as_fd())?;
                Ok(Descriptor::new(&self.fs.memory, fd))
            }
            _ => Err(Errno::EOPNOTSUPP.here()),
        }
    }

    /// Opens a descriptor before the name is removed, for the remaining users of the inode.
    pub(super) fn prepare_removal(&self) {
        if let Some(file) = self.at_hand() {
            self.state.lock().orphan = Some(file);
        } else if let Ok((parent, name)) = self.place()
            && let Ok(fd) = host::open_at(parent.as_fd(), &name, OpenFlags::O_PATH, 0)
            && self.accept(fd.as_fd()).is_ok()
        {
            self.state.lock().orphan = Some(Descriptor::new(&self.fs.memory, fd));
        }
    }
}
