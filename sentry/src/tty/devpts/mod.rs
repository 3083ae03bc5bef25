//! `/dev/pts`: an instance of devpts has its own pseudo-terminals and the nodes of their slaves.

mod inode;
mod options;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use amber_abi::errno::Errno;
use amber_abi::stat::{DEVPTS_SUPER_MAGIC, Device, FileType, StatFs};

use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::tty::{MasterFile, Pty, PtyHome};
use crate::vfs::attributes::Attributes;
use crate::vfs::{Caller, File, FileSystem, Inode, Path};

pub(crate) use inode::pty_of;
use inode::{MASTER_NUMBER, PtsInode, ROOT_NUMBER, Role};
use options::Options;

/// An instance of devpts. Each mount has its own.
pub(crate) struct DevPts {
    device: Device,
    options: Options,
    state: Mutex<State>,
    root: Mutex<Option<Arc<PtsInode>>>,
    me: Weak<DevPts>,
}

#[derive(Default)]
struct State {
    /// The pairs by number. A pair whose master is closed keeps its number until the slave is closed too.
    pairs: BTreeMap<u32, Option<Arc<PtsInode>>>,
}

/// Makes an instance. Linux' documentation of devpts describes the mount options.
///
/// # Errors
/// `EINVAL` for an unknown option or an invalid value.
pub(crate) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    let options: Options = options.parse()?;
    kernel.id_maps.check_owner(options.uid, options.gid)?;
    let fs = Arc::new_cyclic(|me| DevPts {
        device: kernel.vfs.anonymous_device(),
        options,
        // Taken under the locks of directories; no lock is taken under it.
        state: Mutex::new(Rank::Leaf, State::default()),
        root: Mutex::new(Rank::Leaf, None),
        me: me.clone(),
    });
    let root = PtsInode::new(&fs, Role::Root, Attributes::new(0o755, 0, 0));
    *fs.root.lock() = Some(root);
    Ok(fs)
}

impl DevPts {
    /// The instance of a ptmx node and the root of its mount: the node's own instance, or the one mounted at `pts`
    /// beside it.
    pub(crate) fn beside(node: &Path) -> Option<(Arc<DevPts>, Path)> {
        let directory = node.dentry.parent()?;
        if let Some(instance) = inode::instance_of(directory.inode().ok()?) {
            return Some((instance, Path { mount: node.mount.clone(), dentry: directory }));
        }
        let dentry = directory.lookup(b"pts").ok().filter(|d| !d.is_negative())?;
        let root = Path { mount: node.mount.clone(), dentry }.topmost();
        let instance = inode::instance_of(root.inode().ok()?)?;
        Some((instance, root))
    }

    /// The instance with its root at a place.
    pub(crate) fn at(root: &Path) -> Option<Arc<DevPts>> {
        inode::instance_of(root.inode().ok()?)
    }

    /// Makes a pair owned by this user and group, and the master's file. `root` is the root of the instance's mount.
    ///
    /// # Errors
    /// `ENOSPC` at the maximum number of pairs.
    pub(crate) fn new_pair(
        self: &Arc<Self>,
        kernel: &Arc<Kernel>,
        uid: u32,
        gid: u32,
        master: Arc<dyn Inode>,
        root: Option<Path>,
    ) -> Result<Arc<MasterFile>, Errno> {
        let (pty, inode) = {
            let mut state = self.state.lock();
            let index =
                (0..self.options.max).find(|i| !state.pairs.contains_key(i)).ok_or_else(|| Errno::ENOSPC.here())?;
            let home: Weak<dyn PtyHome> = self.me.clone();
            let pty = Pty::new(kernel, index, Some(home));
            let (uid, gid) = (self.options.uid.unwrap_or(uid), self.options.gid.unwrap_or(gid));
            let attributes = Attributes::new(self.options.mode, uid, gid);
            let inode = PtsInode::new(self, Role::Slave(index, Arc::downgrade(&pty)), attributes);
            state.pairs.insert(index, Some(inode.clone()));
            (pty, inode)
        };
        let slave: Arc<dyn Inode> = inode;
        let path = root.and_then(|root| {
            let dentry = root.dentry.lookup(pty.index().to_string().as_bytes()).ok()?;
            Some(Path { mount: root.mount, dentry })
        });
        pty.set_slave_place(&slave, path);
        Ok(pty.open_master(master))
    }

    /// Opens ptmx.
    pub(super) fn open_master(
        self: &Arc<Self>,
        caller: &dyn Caller,
        inode: Arc<dyn Inode>,
        root: Path,
    ) -> Result<Arc<dyn File>, Errno> {
        let who = caller.credentials();
        Ok(self.new_pair(caller.kernel(), who.fsuid, who.fsgid, inode, Some(root))?)
    }

    /// The node of the slave with this number.
    fn slave(&self, index: u32) -> Option<Arc<PtsInode>> {
        self.state.lock().pairs.get(&index).cloned().flatten()
    }

    /// The numbers of the slaves with a node, from `from` on.
    fn slaves(&self, from: u32) -> Vec<u32> {
        let state = self.state.lock();
        state.pairs.range(from..).filter(|(_, node)| node.is_some()).map(|(&index, _)| index).collect()
    }
}

impl PtyHome for DevPts {
    fn master_closed(&self, index: u32) {
        let gone = self.state.lock().pairs.get_mut(&index).and_then(Option::take);
        drop(gone);
    }

    fn released(&self, index: u32) {
        let gone = self.state.lock().pairs.remove(&index);
        drop(gone);
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    #[expect(clippy::expect_used, reason = "the root goes only with the last reference to the file system")]
    fn root(&self) -> Arc<dyn Inode> {
        self.root.lock().clone().expect("a file system that can be mounted has a root")
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: DEVPTS_SUPER_MAGIC, f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }

    fn options(&self) -> String {
        self.options.to_string()
    }

    fn is_volatile(&self) -> bool {
        true
    }

    fn shut_down(&self) {
        let root = self.root.lock().take();
        drop(root);
    }
}

/// The inode number and file type of an entry of the root.
fn role_number(role: &Role) -> (u64, FileType) {
    match role {
        Role::Root => (ROOT_NUMBER, FileType::Directory),
        Role::Master => (MASTER_NUMBER, FileType::CharacterDevice),
        Role::Slave(index, _) => (u64::from(*index) + 3, FileType::CharacterDevice),
    }
}
