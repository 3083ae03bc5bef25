//! Which platform runs the guest.

use std::sync::Arc;

use amber_platform::{GuestMemory, Platform, PlatformError};
use amber_platform_kvm::KvmPlatform;
use amber_platform_ptrace::PtracePlatform;
use anyhow::{Error, Result};

use crate::cli::PlatformName;

/// Makes the platform asked for; with `auto`, the best that works here, and the log says why.
///
/// # Errors
/// The host does not offer what the platform needs.
pub fn choose(name: PlatformName, memory: &Arc<GuestMemory>) -> Result<Arc<dyn Platform>> {
    match name {
        PlatformName::Ptrace => Ok(Arc::new(PtracePlatform::new(memory.clone()).map_err(told)?)),
        PlatformName::Kvm => Ok(Arc::new(KvmPlatform::new(memory.clone()).map_err(told)?)),
        PlatformName::Auto => match KvmPlatform::new(memory.clone()) {
            Ok(kvm) if !kvm.quirks().syscall_stays_in_ring_3 => {
                log::info!("platform kvm: /dev/kvm works, on a processor with virtualization");
                Ok(Arc::new(kvm))
            }
            Ok(_) => {
                log::info!("platform ptrace: /dev/kvm works, but interprets ring 0, which is slower");
                choose(PlatformName::Ptrace, memory)
            }
            Err(fault) => {
                log::info!("platform ptrace: {fault}");
                choose(PlatformName::Ptrace, memory)
            }
        },
    }
}

/// The fault in its own words, which say what the host answered: it is not to be told again.
fn told(fault: PlatformError) -> Error {
    Error::msg(fault.to_string())
}
