//! Signals from other processes do not affect a guest.

use std::fs::{read_dir, read_to_string};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amber_platform::{GuestMemory, Trap};
use amber_platform_conformance::{Guest, Machine, call_forever, count_registers};
use amber_platform_ptrace::PtracePlatform;

/// The children of this process.
fn stubs() -> Vec<i32> {
    let tasks = read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|children| children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>())
        .collect()
}

#[test]
fn strangers_signals_are_swallowed() {
    let memory = GuestMemory::new(1 << 26).unwrap();
    let machine = Machine { platform: Arc::new(PtracePlatform::new(memory.clone()).unwrap()), memory };
    let mut first = Guest::new(&machine, call_forever());
    first.run_to_call();
    let _room = first.context.prepare_thread(&*first.space).unwrap();
    assert!(!stubs().is_empty());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let signals = [
                libc::SIGSTOP,
                libc::SIGUSR1,
                libc::SIGCONT,
                libc::SIGTERM,
                libc::SIGTSTP,
                libc::SIGHUP,
                libc::SIGINT,
                libc::SIGCHLD,
                libc::SIGRTMIN(),
            ];
            for _ in 0..100 {
                for stub in stubs() {
                    for signal in signals {
                        // SAFETY: touches no memory.
                        unsafe { libc::kill(stub, signal) };
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut busy = Guest::new(&machine, count_registers());
            let interrupter = busy.context.interrupter();
            while !done.load(Ordering::SeqCst) {
                let interrupter = interrupter.clone();
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(2));
                    interrupter.interrupt();
                });
                let before = busy.registers.rbx;
                assert_eq!(busy.run(), Trap::Interrupted);
                assert!(busy.registers.rbx >= before);
            }
        });
        let mut calls = 0;
        while !done.load(Ordering::SeqCst) {
            first.registers.rax = calls;
            first.run_to_call();
            assert_eq!(first.registers.orig_rax, calls);
            calls += 1;
            let space = first.context.fork_space(&*first.space).unwrap();
            let (machine, registers) = (&machine, first.registers);
            let child = scope.spawn(move || {
                let mut child = Guest::thread(machine, space);
                child.registers = registers;
                child.run_to_call();
            });
            child.join().unwrap();
        }
        assert!(calls > 10);
    });
}
