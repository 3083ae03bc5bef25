//! Costs of the ptrace platform: `cargo run --release --example cost`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use amber_platform::{GuestMemory, PAGE_SIZE, Trap};
use amber_platform_conformance::{DATA, Guest, Machine, READ, READ_WRITE, call_forever, write_byte, write_pages};
use amber_platform_ptrace::PtracePlatform;

/// Prints the mean time of `action`: the best of five series of `count`.
fn measure(name: &str, count: u32, mut action: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(|_| action());
            start.elapsed() / count
        })
        .min();
    println!("{name:42} {:9.2} µs", best.unwrap_or_default().as_secs_f64() * 1e6);
}

fn main() {
    let start = Instant::now();
    let memory = GuestMemory::new(1 << 30).unwrap();
    let platform = PtracePlatform::new(memory.clone()).unwrap();
    let machine = Machine { platform: Arc::new(platform), memory };
    println!("{:42} {:9.2} µs", "start of the platform", start.elapsed().as_secs_f64() * 1e6);

    let mut guest = Guest::new(&machine, call_forever());
    measure("system call", 20_000, || {
        guest.registers.rax = 39;
        guest.run_to_call();
    });
    let frames = guest.allocate(64);
    let mut turn = false;
    measure("system call and a change of mappings", 5_000, || {
        turn = !turn;
        guest.space.map(0x5000_0000, frames, if turn { READ } else { READ_WRITE });
        guest.registers.rax = 39;
        guest.run_to_call();
    });
    measure("system call and 64 changes of mappings", 500, || {
        turn = !turn;
        for page in 0..32 {
            let at = 0x5000_0000 + page * 2 * PAGE_SIZE;
            guest.space.map(at, frames, if turn { READ } else { READ_WRITE });
            guest.space.unmap(at..at + 64 * PAGE_SIZE, Vec::new());
        }
        guest.registers.rax = 39;
        guest.run_to_call();
    });
    measure("interruption", 5_000, || {
        guest.context.interrupter().interrupt();
        assert_eq!(guest.run(), Trap::Interrupted);
    });
    measure("floating-point state, read and written", 5_000, || {
        let state = guest.context.fpu_state().unwrap();
        guest.context.set_fpu_state(&state).unwrap();
        guest.registers.rax = 39;
        guest.run_to_call();
    });

    let mut guest = Guest::new(&machine, write_byte());
    let data = guest.allocate(1);
    measure("page fault, served and repeated", 5_000, || {
        guest.space.unmap(DATA..DATA + PAGE_SIZE, Vec::new());
        guest.registers.rip = amber_platform_conformance::CODE;
        assert!(matches!(guest.run(), Trap::PageFault { .. }));
        guest.space.map(DATA, data, READ_WRITE);
        guest.run_to_call();
    });

    let mut guest = Guest::new(&machine, write_pages());
    let frames = guest.allocate(64);
    guest.registers.r9 = 64;
    measure("mapping 64 pages and touching them", 500, || {
        guest.space.unmap(DATA..DATA + 64 * PAGE_SIZE, Vec::new());
        guest.space.map(DATA, frames, READ_WRITE);
        guest.run_to_call();
    });

    measure("fork_space and dropping it", 500, || drop(guest.context.fork_space(&*guest.space).unwrap()));
    measure("fork_space, run there on a new thread", 500, || {
        let space = guest.context.fork_space(&*guest.space).unwrap();
        let registers = guest.registers;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut child = Guest::thread(&machine, space);
                child.registers = registers;
                child.run_to_call();
            });
        });
    });
    measure("a host thread alone", 500, || {
        std::thread::scope(|scope| {
            scope.spawn(|| ());
        });
    });
    measure("prepare_thread, run on a new thread", 500, || {
        let _room = guest.context.prepare_thread(&*guest.space).unwrap();
        let (space, registers) = (guest.space.clone(), guest.registers);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut thread = Guest::thread(&machine, space);
                thread.registers = registers;
                thread.run_to_call();
            });
        });
    });
    // Each waits in its sentry for the other, like two processes at the ends of a pipe.
    let turn = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let waiting = (Mutex::new(()), Condvar::new());
    let play = |me: u32, guest: &mut Guest| {
        guest.registers.rax = 0;
        guest.run_to_call();
        let mut held = waiting.0.lock().unwrap();
        while turn.load(Ordering::SeqCst) % 2 != me && !done.load(Ordering::SeqCst) {
            held = waiting.1.wait(held).unwrap();
        }
        turn.fetch_add(1, Ordering::SeqCst);
        waiting.1.notify_all();
        drop(held);
        guest.registers.rax = 1;
        guest.run_to_call();
    };
    let mut first = Guest::new(&machine, call_forever());
    first.run_to_call();
    let space = first.context.fork_space(&*first.space).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut second = Guest::thread(&machine, space);
            second.registers = first.registers;
            while !done.load(Ordering::SeqCst) {
                play(1, &mut second);
            }
        });
        let mut first = Guest::new(&machine, call_forever());
        measure("round trip between two guests", 5_000, || play(0, &mut first));
        done.store(true, Ordering::SeqCst);
        let _held = waiting.0.lock().unwrap();
        waiting.1.notify_all();
    });

    measure("new space, run there, dropped", 500, || {
        let mut guest = Guest::new(&machine, call_forever());
        guest.run_to_call();
    });
}
