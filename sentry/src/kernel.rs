//! What there is once in a sandbox.

use std::sync::Arc;

use amber_platform::{GuestMemory, Platform};

use crate::profile::KernelProfile;

/// The kernel of one sandbox.
pub struct Kernel {
    /// Which Linux it is.
    pub profile: KernelProfile,
    /// What runs the guest's code.
    pub platform: Arc<dyn Platform>,
    /// The frames of all guests.
    pub memory: Arc<GuestMemory>,
}
