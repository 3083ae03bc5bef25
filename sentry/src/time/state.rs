//! What a kernel has once of time.

use std::sync::Arc;
use std::time::Instant;

use amber_platform::{GuestMemory, OutOfMemory};

use super::TimerService;
use crate::loader::Vdso;

/// The clocks and timers of a kernel.
pub struct Timekeeping {
    /// When the sandbox was started.
    pub started: Instant,
    /// What waits for timers.
    pub timers: Arc<TimerService>,
    /// What guests read clocks by.
    pub vdso: Vdso,
}

impl Timekeeping {
    /// That of a kernel that starts now.
    ///
    /// # Errors
    /// There is no memory for the vDSO.
    pub fn new(memory: &Arc<GuestMemory>) -> Result<Self, OutOfMemory> {
        Ok(Timekeeping { started: Instant::now(), timers: Arc::default(), vdso: Vdso::new(memory)? })
    }
}
