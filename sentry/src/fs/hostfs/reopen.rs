//! Access to a host file: by an open descriptor, or by its name in its directory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;
use amber_host::fs as host;
use amber_host::fs::HostStat;

use super::Root;
use super::descriptor::Descriptor;
use super::inode::HostInode;

impl HostInode {
    /// Closes the kept descriptors unless they were used since the last time; true if they stay.
    pub(super) fn let_go(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return true;
        }
        let closed = {
            let mut state = self.state.lock();
            (state.kept.take(), state.listing.take(), state.pin.take(), state.made.take())
        };
        drop(closed);
        false
    }

    /// The directory that the file is in, and its name there.
    fn place(&self) -> Result<(Arc<Descriptor>, Box<[u8]>), Errno> {
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
        let (fd, mount) = match (&self.fs.root, is_root) {
            (Root::Directory(fd), true) => {
                let fd = fd.try_clone().map_err(Errno::from_host)?;
                let mount = self.accept(fd.as_fd())?;
                (fd, mount)
            }
            _ => self.open_by_name(OpenFlags::O_PATH | OpenFlags::O_DIRECTORY)?,
        };
        Ok(self.keep(fd, mount))
    }

    /// Keeps a descriptor while it is in recent use.
    fn keep(&self, fd: OwnedFd, mount: Option<u64>) -> Arc<Descriptor> {
        let mut kept = Descriptor::new(&self.fs.memory, fd);
        self.hold(|state| {
            state.mount = mount;
            // Another thread may have opened it meanwhile.
            kept = state.kept.get_or_insert_with(|| kept.clone()).clone();
            state.reader = Arc::downgrade(&kept);
            // From now on, the reader is at hand.
            state.made = None;
        });
        kept
    }

    /// The error of an operation by name. In a shared tree, a name that is gone was there when it was looked up.
    fn error_of_name(&self, errno: Errno) -> Errno {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if self.is_shared() => self.replaced(),
            errno => errno,
        }
    }

    /// Opens the file by its name, and returns the mount that it is on too.
    fn open_by_name(&self, flags: OpenFlags) -> Result<(OwnedFd, Option<u64>), Errno> {
        let (parent, name) = self.place()?;
        let file = host::open_at(parent.as_fd(), &name, flags, 0).map_err(|errno| self.error_of_name(errno))?;
        let mount = self.accept(file.as_fd())?;
        Ok((file, mount))
    }

    /// Opens the file by a descriptor that is at hand, or else by its name.
    fn open_anew(&self, flags: OpenFlags) -> Result<(OwnedFd, Option<u64>), Errno> {
        if let Some(file) = self.at_hand() {
            match host::reopen(file.as_fd(), flags) {
                // The host has no /proc.
                Err(Errno::ENOENT) => {}
                opened => return Ok((opened?, None)),
            }
        }
        match self.open_by_name(flags) {
            // Another attempt without O_NOATIME follows.
            Err(Errno::EPERM) if flags.contains(OpenFlags::O_NOATIME) => Err(Errno::EPERM.here()),
            Err(errno) if errno != Errno::ESTALE && self.is_shared() => {
                // The error may be that of another file which had the name for a moment.
                let (pin, mount) = self.open_by_name(OpenFlags::O_PATH)?;
                match host::reopen(pin.as_fd(), flags) {
                    Err(Errno::ENOENT) => Err(errno),
                    opened => Ok((opened?, mount)),
                }
            }
            opened => opened,
        }
    }

    /// A descriptor of the file, if there is one.
    pub(super) fn at_hand(&self) -> Option<Arc<Descriptor>> {
        let state = self.state.lock();
        state
            .orphan
            .clone()
            .or_else(|| state.writer.upgrade())
            .or_else(|| state.reader.upgrade())
            .or_else(|| state.kept.clone())
            .or_else(|| state.pin.clone())
            .or_else(|| state.made.clone())
    }

    pub(super) fn stat(&self) -> Result<HostStat, Errno> {
        if let Some(file) = self.at_hand() {
            return host::stat(file.as_fd());
        }
        if self.is_directory() {
            return host::stat(self.directory()?.as_fd());
        }
        let (parent, name) = self.place()?;
        let settled = self.settled.load(Ordering::Acquire);
        let stat = host::stat_at(parent.as_fd(), &name).map_err(|errno| self.error_of_name(errno))?;
        self.check_named(&stat, settled)?;
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
        // Without a new access time if the host permits that.
        let (fd, mount) = match self.open_anew(OpenFlags::O_RDONLY | OpenFlags::O_NOATIME) {
            Err(Errno::EPERM) => self.open_anew(OpenFlags::O_RDONLY)?,
            opened => opened?,
        };
        Ok(self.keep(fd, mount))
    }

    /// The host file open for writing and, if permitted, for reading.
    pub(super) fn writer(&self) -> Result<Arc<Descriptor>, Errno> {
        let made = {
            let mut state = self.state.lock();
            if let Some(file) = state.writer.upgrade() {
                return Ok(file);
            }
            state.made.take()
        };
        let file = match made {
            Some(file) => file,
            None => {
                let (fd, _) = match self.open_anew(OpenFlags::O_RDWR) {
                    Err(Errno::EACCES) => self.open_anew(OpenFlags::O_WRONLY)?,
                    opened => opened?,
                };
                Descriptor::new(&self.fs.memory, fd)
            }
        };
        let mut state = self.state.lock();
        // Another thread may have opened it meanwhile: there is one writer, so that the pages have it as long as any file.
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

    /// A descriptor that names this very file, whatever is done to its name meanwhile.
    pub(super) fn pinned(&self) -> Result<Arc<Descriptor>, Errno> {
        if let Some(file) = self.at_hand() {
            return Ok(file);
        }
        if self.is_directory() {
            return self.directory();
        }
        let (file, _) = self.open_by_name(OpenFlags::O_PATH)?;
        Ok(Descriptor::new(&self.fs.memory, file))
    }

    /// A descriptor for calls that `O_PATH` does not support.
    pub(super) fn any_opened(&self) -> Result<Arc<Descriptor>, Errno> {
        match self.kind {
            // Opening for writing is for changes only: the tree may be read-only.
            FileType::Regular => self.reader().or_else(|errno| self.state.lock().writer.upgrade().ok_or(errno)),
            FileType::Directory => {
                let known = self.state.lock().listing.clone();
                if let Some(file) = known {
                    return Ok(file);
                }
                let fd = host::reopen_directory(self.directory()?.as_fd())?;
                let file = Descriptor::new(&self.fs.memory, fd);
                let mut state = self.state.lock();
                // The two are closed together.
                if state.kept.is_some() {
                    state.listing = Some(file.clone());
                }
                Ok(file)
            }
            _ => Err(Errno::EOPNOTSUPP.here()),
        }
    }

    /// A descriptor for calls that change the file and that `O_PATH` does not do.
    pub(super) fn opened_to_change(&self) -> Result<Arc<Descriptor>, Errno> {
        match self.any_opened() {
            Err(Errno::EACCES) if self.kind == FileType::Regular => self.writer(),
            file => file,
        }
    }

    /// Before its name goes: keeps a descriptor for those who still use the inode.
    pub(super) fn prepare_removal(&self) {
        if let Ok(file) = self.pinned() {
            self.state.lock().orphan = Some(file);
        }
    }
}
