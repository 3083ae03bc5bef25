//! The KVM platform fulfils the platform contract.

use std::fs::File;
use std::sync::Arc;

use amber_platform::GuestMemory;
use amber_platform_conformance::{Machine, conformance_tests};
use amber_platform_kvm::KvmPlatform;

fn machine() -> Option<Machine> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return None;
    }
    let memory = GuestMemory::new(1 << 30).unwrap();
    Some(Machine { platform: Arc::new(KvmPlatform::new(memory.clone()).unwrap()), memory })
}

conformance_tests!(machine());
