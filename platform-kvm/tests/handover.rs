//! The KVM platform does what a platform must when it hands calls over at every opportunity.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_platform::{GuestMemory, Platform};
use amber_platform_conformance::{Guest, Machine, call_forever, conformance_tests};
use amber_platform_kvm::{HostQuirks, KvmPlatform};

/// How long a busy host may take to let two threads run at once.
const PATIENCE: Duration = Duration::from_secs(100);

fn platform() -> Option<(Arc<KvmPlatform>, Arc<GuestMemory>)> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return None;
    }
    let memory = GuestMemory::new(1 << 30).unwrap();
    Some((Arc::new(KvmPlatform::handing_over(memory.clone()).unwrap()), memory))
}

fn machine() -> Option<Machine> {
    platform().map(|(platform, memory)| Machine { platform, memory })
}

conformance_tests!(machine());

/// The calls of those tests are handed over indeed, where they can be.
#[test]
fn calls_are_handed_over() {
    let Some((platform, memory)) = platform() else { return };
    let machine = Machine { platform: platform.clone(), memory };
    let handed_over = || platform.counters().into_iter().any(|(name, count)| name == "calls.handed_over" && count > 0);
    let mut guest = Guest::new(&machine, call_forever());
    (0..1000).for_each(|_| guest.run_to_call());
    let HostQuirks { syscall_stays_in_ring_3, users_read_bases, .. } = platform.quirks();
    if !(syscall_stays_in_ring_3 && users_read_bases) {
        assert!(!handed_over());
        return;
    }
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        eprintln!("SKIPPED: one processor cannot run a guest and listen to it");
        return;
    }
    // A host with other things to do gives the second thread its processor too late for many calls, but not for ever.
    let started = Instant::now();
    while !handed_over() {
        assert!(started.elapsed() < PATIENCE, "no call is handed over");
        guest.run_to_call();
    }
}
