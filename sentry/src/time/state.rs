//! The kernel's time state.

use std::sync::Arc;
use std::time::Instant;

use amber_platform::{GuestMemory, OutOfMemory};

use super::TimerService;
use crate::loader::Vdso;

/// The clocks and timers of a kernel.
pub(crate) struct Timekeeping {
    /// The start of the sandbox.
    pub started: Instant,
    /// The timer thread.
    pub timers: Arc<TimerService>,
    /// The vDSO, with which guests read clocks.
    pub vdso: Vdso,
}

impl Timekeeping {
    /// The state of a kernel that starts now.
    ///
    /// # Errors
    /// No memory for the vDSO.
    pub(crate) fn new(memory: &Arc<GuestMemory>) -> Result<Self, OutOfMemory> {
        Ok(Timekeeping { started: Instant::now(), timers: Arc::default(), vdso: Vdso::new(memory)? })
    }
}
