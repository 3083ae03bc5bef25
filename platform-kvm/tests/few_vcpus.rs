//! If there are more guest threads than vCPUs, they take turns.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use amber_platform::{GuestMemory, Trap};
use amber_platform_conformance::{Guest, Machine, conformance_tests, count_forever};
use amber_platform_kvm::KvmPlatform;

fn machine() -> Option<Machine> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        eprintln!("SKIPPED: /dev/kvm cannot be opened: {error}");
        return None;
    }
    let memory = GuestMemory::new(1 << 30).unwrap();
    Some(Machine { platform: Arc::new(KvmPlatform::with_vcpus(memory.clone(), 2).unwrap()), memory })
}

conformance_tests!(machine());

/// Guests that never exit by themselves all make progress.
#[test]
fn busy_guests_share() {
    const GUESTS: usize = 7;
    let Some(machine) = machine() else { return };
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..GUESTS {
            let (sender, machine) = (sender.clone(), &machine);
            scope.spawn(move || {
                let mut guest = Guest::new(machine, count_forever());
                let counter = guest.frames[1].range().start;
                sender.send((counter, guest.context.interrupter())).unwrap();
                assert_eq!(guest.run(), Trap::Interrupted);
            });
        }
        let guests: Vec<_> = receiver.iter().take(GUESTS).collect();
        let count = |counter: u64| machine.memory.atomic_u64(counter).load(std::sync::atomic::Ordering::SeqCst);
        // Each counter advances, twice.
        for _ in 0..2 {
            let before: Vec<u64> = guests.iter().map(|(counter, _)| count(*counter)).collect();
            for ((counter, _), before) in guests.iter().zip(before) {
                while count(*counter) == before {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        for (_, interrupter) in &guests {
            interrupter.interrupt();
        }
    });
}
