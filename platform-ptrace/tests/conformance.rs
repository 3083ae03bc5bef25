//! The ptrace platform fulfils the platform contract.

use std::sync::Arc;

use amber_platform::GuestMemory;
use amber_platform_conformance::{Machine, conformance_tests};
use amber_platform_ptrace::PtracePlatform;

fn machine() -> Machine {
    let memory = GuestMemory::new(1 << 30).unwrap();
    Machine { platform: Arc::new(PtracePlatform::new(memory.clone()).unwrap()), memory }
}

conformance_tests!(machine());
