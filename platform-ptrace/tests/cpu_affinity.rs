//! Guests that are busy at the same time get host CPUs of their own.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use amber_platform::{GuestMemory, Trap};
use amber_platform_conformance::{Guest, Machine, count_forever};
use amber_platform_ptrace::PtracePlatform;
use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, gettid};

#[test]
fn busy_guests_part() {
    let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus = (0..nix::sched::CpuSet::count()).filter(|&i| everywhere.is_set(i).unwrap()).count();
    if cpus < 2 {
        return;
    }
    let memory = GuestMemory::new(1 << 24).unwrap();
    let machine = Machine { platform: Arc::new(PtracePlatform::new(memory.clone()).unwrap()), memory };
    // Both start on one CPU.
    let mut here = nix::sched::CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &here).unwrap();
    let (sender, started) = channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (sender, machine) = (sender.clone(), &machine);
            scope.spawn(move || {
                let mut guest = Guest::new(machine, count_forever());
                sender.send((gettid(), guest.context.interrupter())).unwrap();
                assert_eq!(guest.run(), Trap::Interrupted);
            });
        }
        let (first, first_interrupter) = started.recv().unwrap();
        let (second, second_interrupter) = started.recv().unwrap();
        sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
        let start = Instant::now();
        while sched_getaffinity(first).unwrap() == sched_getaffinity(second).unwrap() {
            assert!(start.elapsed() < Duration::from_secs(10), "both stay on one processor");
            std::thread::sleep(Duration::from_millis(1));
        }
        first_interrupter.interrupt();
        second_interrupter.interrupt();
    });
}
