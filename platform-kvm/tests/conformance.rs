//! The KVM platform does what a platform must.

use std::sync::Arc;

use amber_platform::GuestMemory;
use amber_platform_conformance::{Machine, conformance_tests};
use amber_platform_kvm::KvmPlatform;

fn machine() -> Machine {
    let memory = GuestMemory::new(1 << 30).unwrap();
    Machine { platform: Arc::new(KvmPlatform::new(memory.clone()).unwrap()), memory }
}

conformance_tests!(machine());
