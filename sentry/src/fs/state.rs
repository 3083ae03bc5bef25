//! What a kernel has once of each file system and of the kinds of files that lie in none.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use amber_platform::GuestMemory;

use super::pipe::Pipes;
use super::tmpfs::{TmpFs, TmpfsOptions};
use super::{Registration, Registry, mqueue, proc};
use crate::tunables::Tunables;
use crate::vfs::{Mount, Vfs};

/// The file systems of a kernel.
pub struct FileSystems {
    /// What the subsystems add to them.
    pub registry: Registry,
    /// How many eventfds were made.
    pub eventfds: AtomicU32,
    /// All pipes and fifos.
    pub pipes: Arc<Pipes>,
    /// Where memfds live.
    pub memfds: Arc<Mount>,
    /// Where the files of namespaces live.
    pub nsfs: Arc<Mount>,
    /// The POSIX message queues.
    pub mqueues: Arc<Mount>,
    /// What `kernel.random.boot_id` says, once somebody asked.
    pub boot_id: OnceLock<String>,
}

impl FileSystems {
    /// Those of a kernel of these subsystems.
    pub fn new(
        registrations: &'static [&'static Registration],
        vfs: &Arc<Vfs>,
        memory: &Arc<GuestMemory>,
        tunables: &Arc<Tunables>,
    ) -> Self {
        FileSystems {
            registry: Registry::new(registrations),
            eventfds: AtomicU32::default(),
            pipes: Arc::default(),
            memfds: Mount::internal(vfs, TmpFs::new(vfs, memory.clone(), TmpfsOptions::default())),
            nsfs: proc::nsfs(vfs),
            mqueues: mqueue::new(vfs, memory, tunables),
            boot_id: OnceLock::new(),
        }
    }
}
