//! The KVM platform fulfils the platform contract when it hands calls over at every opportunity.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_platform::{GuestMemory, Platform};
use amber_platform_conformance::{Guest, Machine, call_forever, conformance_tests};
use amber_platform_kvm::{HostQuirks, KvmPlatform};

/// How long a busy host may take to let two threads run at the same time.
const TIMEOUT: Duration = Duration::from_secs(100);

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

/// The calls are in fact handed over, on hosts where this is possible.
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
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1) {
        eprintln!("SKIPPED: one CPU cannot run a guest and a runner");
        return;
    }
    // A busy host often gives the second thread a CPU too late, but not forever.
    let started = Instant::now();
    while !handed_over() {
        assert!(started.elapsed() < TIMEOUT, "no call is handed over");
        guest.run_to_call();
    }
}
