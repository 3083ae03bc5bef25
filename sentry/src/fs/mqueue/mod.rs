//! POSIX message queues and their file system (mq_overview(7)).

mod file;
mod inode;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ipc;
use amber_abi::stat::{Device, MQUEUE_MAGIC, StatFs};
use amber_platform::GuestMemory;

use crate::credentials::Credentials;
use crate::kernel::Kernel;
use crate::self_ref::SelfRef;
use crate::sync::{Mutex, Rank};
use crate::tunables::Tunables;
use crate::vfs::access::{self, Access, STICKY};
use crate::vfs::attributes::Attributes;
use crate::vfs::{FileSystem, Inode, Mount, Vfs};

pub(crate) use file::MqFile;
use inode::{MqRoot, QueueInode};
pub(crate) use queue::Registration;

/// The limits of messages and of bytes per message with CAP_SYS_RESOURCE.
const HARD_MESSAGES: u64 = 65536;
const HARD_SIZE: u64 = 16 << 20;
/// What Linux charges for each message and each priority in addition to the bytes.
const MESSAGE_COST: u64 = 48;
const NODE_COST: u64 = 48;
/// Amber's memory for a queue without its messages, in bytes.
const QUEUE_BYTES: u64 = 1024;

/// The capacity of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// The maximum number of messages.
    pub messages: u64,
    /// The maximum size of a message in bytes.
    pub bytes: u64,
}

impl Size {
    /// The default capacity.
    pub(crate) fn usual(tunables: &Tunables) -> Self {
        Size {
            messages: tunables.mqueue_messages_default.min(&tunables.mqueue_messages),
            bytes: tunables.mqueue_bytes_default.min(&tunables.mqueue_bytes),
        }
    }

    /// Checks a requested capacity.
    ///
    /// # Errors
    /// `EINVAL` if it is zero or exceeds the caller's limits.
    pub(crate) fn check(self, who: &Credentials, tunables: &Tunables) -> Result<Self, Errno> {
        let privileged = who.has(Capability::CAP_SYS_RESOURCE);
        let (messages, bytes) = if privileged {
            (HARD_MESSAGES, HARD_SIZE)
        } else {
            (tunables.mqueue_messages.count(), tunables.mqueue_bytes.count())
        };
        let fits = (1..=messages).contains(&self.messages) && (1..=bytes).contains(&self.bytes);
        if fits { Ok(self) } else { Err(Errno::EINVAL.here()) }
    }

    /// The bytes charged against RLIMIT_MSGQUEUE.
    fn cost(self) -> u64 {
        let nodes = self.messages.min(ipc::MQ_PRIO_MAX) * NODE_COST;
        self.messages * (self.bytes + MESSAGE_COST) + nodes
    }
}

/// The queues of a sandbox.
pub(crate) struct MqueueFs {
    device: Device,
    next_number: AtomicU64,
    attributes: Mutex<Attributes>,
    /// Locked under the lock of a directory's names.
    queues: Mutex<BTreeMap<Vec<u8>, Arc<QueueInode>>>,
    /// Bytes charged to each user.
    used: Mutex<HashMap<u32, u64>>,
    memory: Arc<GuestMemory>,
    tunables: Arc<Tunables>,
    me: SelfRef<MqueueFs>,
}

/// Makes the file system of all queues, in an internal mount.
pub(crate) fn new(vfs: &Arc<Vfs>, memory: &Arc<GuestMemory>, tunables: &Arc<Tunables>) -> Arc<Mount> {
    let fs = Arc::new_cyclic(|me| MqueueFs {
        device: vfs.anonymous_device(),
        next_number: AtomicU64::new(2),
        attributes: Mutex::new(Rank::Leaf, Attributes::new(0o1777, 0, 0)),
        queues: Mutex::new(Rank::Inode, BTreeMap::new()),
        used: Mutex::new(Rank::Leaf, HashMap::new()),
        memory: memory.clone(),
        tunables: tunables.clone(),
        me: SelfRef::new(me),
    });
    Mount::internal(vfs, fs)
}

/// Another mount of the sandbox's queues, of which there is one set.
///
/// # Errors
/// `EINVAL` for any option.
pub(crate) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    if options.is_empty() { Ok(kernel.fs.mqueues.fs().clone()) } else { Err(Errno::EINVAL.here()) }
}

/// The file system of the queues, by its root directory.
pub(crate) fn queues_of(root: &Arc<dyn Inode>) -> Option<Arc<MqueueFs>> {
    root.as_any().downcast_ref::<MqRoot>().map(|root| root.fs().clone())
}

impl MqueueFs {
    /// Creates a queue.
    ///
    /// # Errors
    /// `EEXIST`; `ENOSPC` for too many queues; `ENOMEM`; `EMFILE` at the user's limit of bytes in queues.
    pub(crate) fn create(
        &self,
        name: &[u8],
        attributes: Attributes,
        size: Size,
        limits: Option<(&Credentials, u64)>,
    ) -> Result<Arc<dyn Inode>, Errno> {
        let fs = self.me.get();
        let mut queues = self.queues.lock();
        if queues.contains_key(name) {
            return Err(Errno::EEXIST.here());
        }
        let privileged = limits.is_some_and(|(who, _)| who.has(Capability::CAP_SYS_RESOURCE));
        if queues.len() as u64 >= self.tunables.mqueue_queues.count() && !privileged {
            return Err(Errno::ENOSPC.here());
        }
        self.memory.admit_lasting(QUEUE_BYTES)?;
        let owner = attributes.ownership.uid;
        self.charge(owner, size.cost(), limits.map_or(u64::MAX, |(_, limit)| limit))?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let inode = QueueInode::new(&fs, number, attributes, size, owner);
        queues.insert(name.to_vec(), inode.clone());
        Ok(inode)
    }

    fn charge(&self, uid: u32, cost: u64, limit: u64) -> Result<(), Errno> {
        let mut used = self.used.lock();
        let used = used.entry(uid).or_default();
        let sum = used.checked_add(cost).filter(|&sum| sum <= limit).ok_or_else(|| Errno::EMFILE.here())?;
        *used = sum;
        Ok(())
    }

    fn give_back(&self, uid: u32, cost: u64) {
        if let Some(used) = self.used.lock().get_mut(&uid) {
            *used = used.saturating_sub(cost);
        }
    }

    /// Removes the name of a queue, with the credentials `who`.
    ///
    /// # Errors
    /// `ENOENT`; `EPERM` if the caller owns neither the queue nor the directory.
    pub(crate) fn unlink_as(&self, root: &Arc<dyn Inode>, name: &[u8], who: &Credentials) -> Result<(), Errno> {
        let directory = self.attributes.lock().ownership;
        let victim = self.queues.lock().get(name).cloned().ok_or_else(|| Errno::ENOENT.here())?;
        access::check(who, &**root, Access::WRITE | Access::EXECUTE)?;
        let owner = victim.ownership()?.uid;
        let sticky = directory.permissions & STICKY != 0 && directory.uid != who.fsuid;
        if sticky && owner != who.fsuid && !who.has(Capability::CAP_FOWNER) {
            return Err(Errno::EPERM.here());
        }
        self.remove(name)
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        let gone = self.queues.lock().remove(name).ok_or_else(|| Errno::ENOENT.here())?;
        gone.note_unlinked();
        Ok(())
    }
}

impl FileSystem for MqueueFs {
    fn name(&self) -> &'static str {
        "mqueue"
    }

    fn root(&self) -> Arc<dyn Inode> {
        let fs = self.me.get();
        Arc::new(MqRoot::new(fs))
    }

    fn device(&self) -> Device {
        self.device
    }

    /// Remaining queues and the file system refer to each other.
    fn shut_down(&self) {
        let queues = std::mem::take(&mut *self.queues.lock());
        drop(queues);
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs { f_type: MQUEUE_MAGIC, f_bsize: 4096, f_frsize: 4096, f_namelen: 255, ..StatFs::default() })
    }

    fn is_volatile(&self) -> bool {
        true
    }
}
