//! The host directory file system: a tree of the host below a descriptor of its root.
//!
//! Inodes identify host files by directory and one component, so nothing outside the root is reachable, and no
//! descriptor of the host is necessary. Recently used directories and files keep one, up to a limit.
//!
//! A tree may contain mounts, and get more at any time. File systems whose files depend on the opener are not served:
//! each opened descriptor, not its name, is checked before it is used.

mod acl;
mod descriptor;
mod directory;
mod file;
mod identity;
mod inode;
mod lookup;
mod mapping;
mod pages;
mod reopen;
mod sealed;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::{Device, StatFs};
use amber_host::file_systems::{Standing, keeps_birth_times, standing, standing_of};
use amber_host::fs as host;
use amber_host::fs::Found;
use amber_host::trees::Start;
use amber_platform::GuestMemory;

use crate::fs::hostkernel::HostKernelFs;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::vfs::{FileSystem, Inode, Vfs};
pub(in crate::fs) use descriptor::Descriptor;
pub(in crate::fs) use directory::{HostDirectory, Listed};
use inode::HostInode;
pub(in crate::fs) use inode::metadata_of;
pub(in crate::fs) use pages::HostPages;
pub(in crate::fs) use sealed::Sealed;
use sealed::SealedFs;

/// The maximum number of unused host descriptors that a file system keeps open.
const KEPT_DESCRIPTORS: usize = 256;

/// The root of the file system.
enum Root {
    /// A directory.
    Directory(Arc<OwnedFd>),
    /// A single file: its directory and name.
    File(Arc<OwnedFd>, Box<[u8]>),
}

/// A tree of the host.
pub(crate) struct HostFs {
    vfs: Arc<Vfs>,
    memory: Arc<GuestMemory>,
    root: Root,
    /// Whether the host may change the tree, which the guest must then see at once.
    shared: bool,
    device: Device,
    devices: Mutex<HashMap<u64, Device>>,
    /// The root's attributes when the tree was opened.
    first: host::HostStat,
    /// Whether the file system of the root has birth times that last.
    keeps_birth_times: bool,
    /// The mount of the root, which the tree keeps in place. Files on it need no further check.
    mount: Option<u64>,
    /// Keeps the mount of a single file in place.
    _file: Option<OwnedFd>,
    inodes: Mutex<HashMap<(u64, u64), Weak<HostInode>>>,
    kept: Mutex<VecDeque<Weak<HostInode>>>,
    me: SelfRef<HostFs>,
}

/// Opens the file system of a directory or file of the host. A `shared` tree is looked up again in each walk; otherwise
/// the tree is assumed not to change, as Linux assumes of the lower layer of an overlay.
///
/// # Errors
/// Errors of the host.
pub(crate) fn open(
    vfs: &Arc<Vfs>,
    memory: &Arc<GuestMemory>,
    start: Start,
    shared: bool,
) -> Result<Arc<dyn FileSystem>, Errno> {
    match start {
        Start::Directory(fd) => HostFs::of(vfs, memory, Root::Directory(Arc::new(fd)), shared),
        Start::File(directory, name) => HostFs::of(vfs, memory, Root::File(Arc::new(directory), name), shared),
        Start::Read(file) => Ok(HostKernelFs::new(vfs, file)?),
        Start::Sealed(found) => Ok(SealedFs::new(vfs, found)),
    }
}

impl HostFs {
    fn of(vfs: &Arc<Vfs>, memory: &Arc<GuestMemory>, root: Root, shared: bool) -> Result<Arc<dyn FileSystem>, Errno> {
        let file = match &root {
            Root::Directory(_) => None,
            Root::File(directory, name) => Some(host::open_at(directory.as_fd(), name, OpenFlags::O_PATH, 0)?),
        };
        let (Root::Directory(fd) | Root::File(fd, _)) = &root;
        let place = file.as_ref().map_or(fd.as_fd(), AsFd::as_fd);
        let Found { stat, mount } = host::look(place)?;
        let magic = host::statfs(place)?.f_type;
        if standing_of(magic) == Standing::Kernel {
            return Ok(SealedFs::new(vfs, Found { stat, mount }));
        }
        Ok(Arc::new_cyclic(|me| HostFs {
            vfs: vfs.clone(),
            memory: memory.clone(),
            root,
            shared,
            device: vfs.anonymous_device(),
            devices: Mutex::new(Rank::Leaf, HashMap::new()),
            first: stat,
            keeps_birth_times: keeps_birth_times(magic),
            mount,
            _file: file,
            inodes: Mutex::new(Rank::Leaf, HashMap::new()),
            kept: Mutex::new(Rank::Leaf, VecDeque::new()),
            me: SelfRef::new(me),
        }))
    }

    fn this(&self) -> Arc<HostFs> {
        self.me.get()
    }

    /// Checks that an opened file may be served: it is on the root's mount, or on a file system that the tree may
    /// include.
    ///
    /// # Errors
    /// `EACCES` if it may not be served.
    fn admit(&self, file: BorrowedFd<'_>, mount: Option<u64>) -> Result<(), Errno> {
        let is_first = mount.is_some() && mount == self.mount;
        if is_first || standing(file)? == Standing::Ordinary { Ok(()) } else { Err(Errno::EACCES.here()) }
    }

    /// The guest's device number for a host device. Each file system of the host below the root has its own.
    fn guest_device(&self, device: u64) -> Device {
        if device == self.first.device {
            return self.device;
        }
        *self.devices.lock().entry(device).or_insert_with(|| self.vfs.anonymous_device())
    }

    /// The inode of a host file that is in use.
    fn known(&self, stat: &host::HostStat) -> Option<Arc<HostInode>> {
        let known = self.inodes.lock().get(&(stat.device, stat.number)).and_then(Weak::upgrade)?;
        known.stands_for(stat).then_some(known)
    }

    /// The inode of a host file, shared with other users of it.
    fn inode(&self, parent: Option<Arc<HostInode>>, name: &[u8], stat: &host::HostStat) -> Arc<HostInode> {
        let key = (stat.device, stat.number);
        let mut inodes = self.inodes.lock();
        let known = inodes.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.stands_for(stat)) {
            drop(inodes);
            if !self.shared {
                known.adopt(stat);
            }
            known.found_at(parent, name);
            return known;
        }
        if inodes.len() >= 1024 && inodes.len() == inodes.capacity() {
            inodes.retain(|_, inode| inode.strong_count() > 0);
        }
        let fresh = HostInode::new(self.this(), parent, name, stat);
        inodes.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Notes that an inode keeps a descriptor, and closes the oldest ones.
    fn keep(&self, inode: &Arc<HostInode>) {
        let mut old = Vec::new();
        {
            let mut kept = self.kept.lock();
            kept.push_back(Arc::downgrade(inode));
            while kept.len() > KEPT_DESCRIPTORS {
                old.extend(kept.pop_front());
            }
        }
        for inode in old.iter().filter_map(Weak::upgrade) {
            if inode.let_go() {
                self.kept.lock().push_back(Arc::downgrade(&inode));
            }
        }
    }
}

impl FileSystem for HostFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        let (fd, name) = match &self.root {
            Root::Directory(fd) => (fd, &b""[..]),
            Root::File(fd, name) => (fd, &**name),
        };
        let fd = fd.as_fd();
        let stat = if name.is_empty() { host::stat(fd) } else { host::stat_at(fd, name) };
        // A root that no longer exists on the host still has an inode, whose operations return the error.
        self.inode(None, name, stat.as_ref().unwrap_or(&self.first))
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        let (Root::Directory(fd) | Root::File(fd, _)) = &self.root;
        host::statfs(fd.as_fd())
    }

    fn shut_down(&self) {
        if let Err(errno) = self.sync() {
            log::error!("writing back changed pages of mapped host files: {errno}");
        }
    }

    fn is_volatile(&self) -> bool {
        self.shared
    }

    fn sync(&self) -> Result<(), Errno> {
        let inodes: Vec<_> = self.inodes.lock().values().filter_map(Weak::upgrade).collect();
        // One error does not prevent the others from being written.
        inodes.iter().map(|inode| inode.write_back()).fold(Ok(()), Result::and)
    }
}
