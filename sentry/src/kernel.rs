//! What there is once in a sandbox.

use std::collections::HashSet;
use std::sync::Arc;

use amber_platform::{GuestMemory, Platform};

use crate::fs::pipe::Pipes;
use crate::profile::KernelProfile;
use crate::sync::Mutex;
use crate::syscalls::{CallTable, Tracer};

/// The kernel of one sandbox.
pub struct Kernel {
    /// Which Linux it is.
    pub profile: KernelProfile,
    /// What runs the guest's code.
    pub platform: Arc<dyn Platform>,
    /// The frames of all guests.
    pub memory: Arc<GuestMemory>,
    /// The system calls of its release.
    pub calls: CallTable,
    /// Prints system calls, if asked to.
    pub tracer: Option<Arc<Tracer>>,
    /// Numbers of calls that were refused, and logged, already.
    pub refused: Mutex<HashSet<u32>>,
    /// All pipes and fifos.
    pub pipes: Arc<Pipes>,
}
