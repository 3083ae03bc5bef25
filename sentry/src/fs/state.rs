//! The state of file systems of a kernel, and of files that are in none.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use amber_platform::GuestMemory;

use super::pipe::Pipes;
use super::tmpfs::{TmpFs, TmpfsOptions};
use super::{Registration, Registry, mqueue, proc};
use crate::tunables::Tunables;
use crate::vfs::{Mount, Vfs};

/// The file systems of a kernel.
pub(crate) struct FileSystems {
    /// The additions of subsystems.
    pub registry: Registry,
    /// The number of eventfds made.
    pub eventfds: AtomicU32,
    /// All pipes and fifos.
    pub pipes: Arc<Pipes>,
    /// The internal mount of memfds.
    pub memfds: Arc<Mount>,
    /// The internal mount of namespace files.
    pub nsfs: Arc<Mount>,
    /// The POSIX message queues.
    pub mqueues: Arc<Mount>,
    /// The value of `kernel.random.boot_id`, set on first use.
    pub boot_id: OnceLock<String>,
}

impl FileSystems {
    /// The state of a kernel with these subsystems.
    pub(crate) fn new(
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
