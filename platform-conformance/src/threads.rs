//! Contexts that run at the same time, and their FPU state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amber_platform::{FpuState, Interrupter, PAGE_SIZE, Trap};

use crate::code;
use crate::guest::{DATA, Guest, Machine, READ, READ_WRITE};

/// Upper bound of the time that any step takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Guests that run until they are interrupted. Dropping this, also when a test fails, ends their threads.
struct Running(Vec<Arc<dyn Interrupter>>);

impl Drop for Running {
    fn drop(&mut self) {
        for interrupter in &self.0 {
            interrupter.interrupt();
        }
    }
}

/// Dropping this, also when a test fails, ends a thread that polls the flag.
pub(crate) struct EndOf<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Interrupts a guest repeatedly, until `done`.
pub(crate) fn keep_interrupting(interrupter: &dyn Interrupter, done: &AtomicBool, pause: Duration) {
    while !done.load(Ordering::SeqCst) {
        interrupter.interrupt();
        interrupter.interrupt();
        std::thread::sleep(pause);
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "nothing happens");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Several threads count in one word.
pub fn threads_share_a_space(machine: &Machine) {
    const THREADS: usize = 4;
    let mut first = Guest::new(machine, code::nothing());
    let counter = first.add(DATA, 1, READ_WRITE);
    first.run_to_call();
    first.load(code::count_forever());
    let _rooms: Vec<_> = (0..THREADS).map(|_| first.context.prepare_thread(&*first.space).unwrap()).collect();
    let (sender, interrupters) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (sender, space) = (sender.clone(), first.space.clone());
            scope.spawn(move || {
                let mut guest = Guest::thread(machine, space);
                sender.send(guest.context.interrupter()).unwrap();
                assert_eq!(guest.run(), Trap::Interrupted);
            });
        }
        let _running = Running(interrupters.iter().take(THREADS).collect());
        for _ in 0..3 {
            let before = machine.memory.atomic_u64(counter.start).load(Ordering::SeqCst);
            wait_until(|| machine.memory.atomic_u64(counter.start).load(Ordering::SeqCst) > before + 1000);
        }
    });
    let interrupter = first.context.interrupter();
    interrupter.interrupt();
    assert_eq!(first.run(), Trap::Interrupted);
}

/// Threads end and others take their place while the first one runs. Then the first one ends before the others.
pub fn threads_come_and_go(machine: &Machine) {
    let mut first = Guest::new(machine, code::call_forever());
    for round in 0..20 {
        first.run_to_call();
        let _room = first.context.prepare_thread(&*first.space).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut guest = Guest::thread(machine, first.space.clone());
                guest.registers.rax = round;
                guest.run_to_call();
                assert_eq!(guest.registers.orig_rax, round);
            });
        });
    }
    let space = first.space.clone();
    let frames = std::mem::take(&mut first.frames);
    let room = first.context.prepare_thread(&*space).unwrap();
    let mut second = Guest::thread(machine, space.clone());
    second.run_to_call();
    drop(first);
    drop(room);
    let _room = second.context.prepare_thread(&*space).unwrap();
    let child = second.context.fork_space(&*space).unwrap();
    let mut third = Guest::thread(machine, child);
    third.run_to_call();
    drop(second);
    third.run_to_call();
    drop(frames);
}

/// A recycled context runs the next thread, in the same space, in another one, or when the first one is gone.
pub fn a_context_that_rested_serves_again(machine: &Machine) {
    let mut first = Guest::new(machine, code::keep_fpu());
    first.registers.rdi = 99;
    first.run_to_call();
    let mut context = machine.platform.new_context().unwrap();
    let mut serve = |space: &Arc<dyn amber_platform::AddressSpace>, rax| {
        let mut guest = Guest::thread(machine, space.clone());
        std::mem::swap(&mut guest.context, &mut context);
        guest.registers.rax = rax;
        guest.run_to_call();
        // No state of the previous thread is left.
        assert_eq!((guest.registers.orig_rax, guest.registers.rdi), (rax, 0));
        guest.context.interrupter().interrupt();
        guest.context.set_waiting(true);
        assert!(guest.context.recycle(space.as_ref()));
        assert!(guest.context.recycle(space.as_ref()));
        std::mem::swap(&mut guest.context, &mut context);
    };
    first.load(code::report_fpu());
    let room = first.context.prepare_thread(&*first.space).unwrap();
    serve(&first.space, 1);
    drop(room);
    serve(&first.space, 2);
    let child = first.context.fork_space(&*first.space).unwrap();
    serve(&child, 3);
    serve(&first.space, 4);
    drop(child);
    first.run_to_call();
    serve(&first.space, 5);
    let other = first.context.fork_space(&*first.space).unwrap();
    drop(first);
    serve(&other, 6);
}

/// A recycled context runs a new thread of a space in which it never ran itself, since its last thread was killed early.
pub fn a_context_that_never_ran_in_a_space_serves_there(machine: &Machine) {
    let mut first = Guest::new(machine, code::call_forever());
    let mut other = Guest::new(machine, code::call_forever());
    first.run_to_call();
    other.run_to_call();
    let mut guest = Guest::thread(machine, first.space.clone());
    for owner in [&mut first, &mut other] {
        let attached = guest.context.recycle(&*owner.space);
        let _room = (!attached).then(|| owner.context.prepare_thread(&*owner.space).unwrap());
        guest.space = owner.space.clone();
        guest.run_to_call();
    }
}

/// A context keeps what was reserved for it also if an interrupt ends its first run at once.
pub fn an_interrupted_first_run_keeps_its_reservation(machine: &Machine) {
    let mut first = Guest::new(machine, code::call_forever());
    first.run_to_call();
    let room = first.context.prepare_thread(&*first.space).unwrap();
    let mut second = Guest::thread(machine, first.space.clone());
    second.context.interrupter().interrupt();
    assert_eq!(second.run(), Trap::Interrupted);
    drop(room);
    let _room = first.context.prepare_thread(&*first.space).unwrap();
    let mut third = Guest::thread(machine, first.space.clone());
    third.run_to_call();
    second.run_to_call();
}

/// Each interrupt ends one run, whenever it occurs.
pub fn no_interruption_is_lost(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_forever());
    guest.run_to_call();
    let interrupter = guest.context.interrupter();
    let (asked, seen) = (AtomicU64::new(0), AtomicU64::new(0));
    const ROUNDS: u64 = 2000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                asked.store(round, Ordering::SeqCst);
                interrupter.interrupt();
                wait_until(|| seen.load(Ordering::SeqCst) == round);
            }
        });
        let mut rounds = 0;
        // With changes in between: an interrupt while the platform updates the space must not be lost either.
        let frames = guest.allocate(1);
        for i in 0.. {
            match guest.run() {
                Trap::Interrupted => {
                    rounds += 1;
                    assert_eq!(rounds, asked.load(Ordering::SeqCst));
                    seen.store(rounds, Ordering::SeqCst);
                }
                trap => assert_eq!(trap, Trap::Syscall),
            }
            if rounds == ROUNDS {
                break;
            }
            if i % 3 == 0 {
                guest.space.map(DATA + PAGE_SIZE, frames, if i % 2 == 0 { READ } else { READ_WRITE });
            }
        }
    });
}

/// Many interrupts change nothing for the guest, and none takes effect twice.
pub fn interruptions_leave_no_trace(machine: &Machine) {
    let mut guest = Guest::new(machine, code::count_registers());
    let interrupter = guest.context.interrupter();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_interrupting(&*interrupter, &done, Duration::from_micros(20)));
        let _end = EndOf(&done);
        let mut last = 0;
        for _ in 0..3000 {
            assert_eq!(guest.run(), Trap::Interrupted);
            let r = guest.registers;
            assert_eq!(r.orig_rax, u64::MAX);
            assert!(r.rbx >= last);
            assert!(
                [r.rbx, r.rbx.wrapping_add(1)].map(u64::wrapping_neg).contains(&r.r12)
                    || r.r12 == r.rbx + 1
                    || r.r12 == 0
            );
            last = r.rbx;
        }
    });
    guest.load(code::call_forever());
    let mut interrupted = 0;
    for _ in 0..100 {
        interrupted += u32::from(guest.run() == Trap::Interrupted);
    }
    assert!(interrupted <= 1);
}

/// A page unmapped in a running thread is unreachable when `synchronize` returns.
pub fn synchronizing_reaches_running_threads(machine: &Machine) {
    let mut first = Guest::new(machine, code::nothing());
    let old = first.add(DATA, 1, READ_WRITE);
    first.run_to_call();
    // No thread runs, so there is nothing to wait for.
    first.add(DATA + PAGE_SIZE, 1, READ);
    first.space.synchronize();
    first.load(code::count_forever());
    let _rooms = [(); 2].map(|()| first.context.prepare_thread(&*first.space).unwrap());
    let (sender, interrupters) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (sender, space) = (sender.clone(), first.space.clone());
            scope.spawn(move || {
                let mut guest = Guest::thread(machine, space);
                sender.send(guest.context.interrupter()).unwrap();
                assert_eq!(guest.run(), Trap::Interrupted);
            });
        }
        let _running = Running(interrupters.iter().take(2).collect());
        let mut old = old;
        for _ in 0..200 {
            let counter = |frames: amber_platform::FrameRange| machine.memory.atomic_u64(frames.start);
            let before = counter(old).load(Ordering::SeqCst);
            wait_until(|| counter(old).load(Ordering::SeqCst) > before);
            let new = first.add(DATA, 1, READ_WRITE);
            first.space.synchronize();
            let after = counter(old).load(Ordering::SeqCst);
            wait_until(|| counter(new).load(Ordering::SeqCst) > 10);
            assert_eq!(counter(old).load(Ordering::SeqCst), after);
            old = new;
        }
    });
}

/// A fault is never reported as a store unless it was one, however the page changes meanwhile.
pub fn changes_while_threads_fault(machine: &Machine) {
    const PAGES: u64 = 16;
    const PLACE: u64 = 0x5000_0000;
    let mut first = Guest::new(machine, code::nothing());
    let frames = first.add(PLACE, PAGES, READ);
    first.run_to_call();
    first.load(code::read_pages_forever());
    let _room = first.context.prepare_thread(&*first.space).unwrap();
    let space: Arc<_> = first.space.clone();
    std::thread::scope(|scope| {
        let faulting = scope.spawn(|| {
            let mut guest = Guest::thread(machine, space.clone());
            (guest.registers.rdi, guest.registers.r9) = (PLACE, PAGES);
            let interrupter = guest.context.interrupter();
            scope.spawn(move || {
                std::thread::sleep(Duration::from_secs(1));
                interrupter.interrupt();
            });
            loop {
                match guest.run() {
                    Trap::PageFault { access: amber_platform::Access::Read, .. } => (),
                    Trap::Interrupted => break,
                    trap => panic!("{trap:?}"),
                }
            }
        });
        while !faulting.is_finished() {
            first.space.unmap(PLACE..PLACE + PAGES * PAGE_SIZE, Vec::new());
            first.space.synchronize();
            first.space.map(PLACE, frames, READ);
            first.space.synchronize();
            // No guest makes changes faster than its platform can apply them.
            std::thread::sleep(Duration::from_micros(20));
        }
    });
}

/// Vector registers are preserved over traps, changes, forks and threads, and the sentry can read and set them.
pub fn fpu_state_is_kept(machine: &Machine) {
    let mut guest = Guest::new(machine, code::keep_fpu());
    guest.registers.rdi = 0x0123_4567_89ab_cdef;
    guest.run_to_call();
    let state = guest.context.fpu_state().unwrap();
    // xmm7 in the legacy area.
    assert_eq!(state.0[160 + 7 * 16..][..8], 0x0123_4567_89ab_cdefu64.to_le_bytes());
    for _ in 0..3 {
        guest.registers.rdi = 0;
        guest.add(DATA, 1, READ);
        let _room = guest.context.prepare_thread(&*guest.space).unwrap();
        guest.context.fork_space(&*guest.space).unwrap();
        guest.run_to_call();
        assert_eq!(guest.registers.rdi, 0x0123_4567_89ab_cdef);
    }
    let mut other = state.clone();
    other.0[160 + 7 * 16] = 0xee;
    guest.context.set_fpu_state(&other).unwrap();
    assert_eq!(guest.context.fpu_state().unwrap(), other);
    guest.run_to_call();
    assert_eq!(guest.registers.rdi, 0x0123_4567_89ab_cdee);
    assert_eq!(guest.context.fpu_state().unwrap().0[..416], other.0[..416]);
    guest.context.reset_fpu_state().unwrap();
    guest.load(code::report_fpu());
    guest.run_to_call();
    assert_eq!((guest.registers.rdi, guest.registers.rsi), (0, 0x1f80));
}

/// A new thread starts with the state it is given, and `execve` keeps the context's state.
pub fn fpu_state_moves_with_the_context(machine: &Machine) {
    let mut parent = Guest::new(machine, code::keep_fpu());
    parent.registers.rdi = 99;
    parent.run_to_call();
    let state = parent.context.fpu_state().unwrap();
    parent.load(code::report_fpu());
    let start = |space, state: Option<&FpuState>| {
        let mut child = Guest::thread(machine, space);
        if let Some(state) = state {
            child.context.set_fpu_state(state).unwrap();
        }
        child.run_to_call();
        child.registers.rdi
    };
    let fork = parent.context.fork_space(&*parent.space).unwrap();
    assert_eq!(start(fork.clone(), Some(&state)), 99);
    assert_eq!(start(fork, None), 0);
    let _room = parent.context.prepare_thread(&*parent.space).unwrap();
    assert_eq!(start(parent.space.clone(), None), 0);
    assert_eq!(start(parent.space.clone(), Some(&state)), 99);

    let mut next = Guest::new(machine, code::report_fpu());
    parent.context.run(&*next.space, &mut next.registers).unwrap();
    assert_eq!(next.registers.rdi, 99);
}

/// States that `sigreturn` may be asked to load.
pub fn bad_fpu_state_is_refused(machine: &Machine) {
    let mut guest = Guest::new(machine, code::report_fpu());
    guest.run_to_call();
    let good = guest.context.fpu_state().unwrap();
    let mut bad = vec![FpuState(Vec::new()), FpuState(good.0[..good.0.len() - 1].to_vec())];
    // Reserved MXCSR bits, unknown components, the compacted format, header bytes that must be zero.
    for (at, value) in [(27, 0xff), (519, 0xff), (527, 0x80), (528, 1), (575, 1)] {
        let mut state = good.clone();
        state.0[at] = value;
        bad.push(state);
    }
    for state in bad {
        assert!(guest.context.set_fpu_state(&state).is_err());
        guest.registers.rdi = 1;
        guest.run_to_call();
        // Control words and vector registers. The host may change other parts.
        assert_eq!(guest.context.fpu_state().unwrap().0[..416], good.0[..416]);
    }
}

/// More guest threads at a time than host CPUs.
pub fn threads_without_number(machine: &Machine) {
    const THREADS: u64 = 64;
    let mut first = Guest::new(machine, code::keep_fpu());
    first.registers.rdi = 7;
    first.run_to_call();
    let _rooms: Vec<_> = (0..THREADS).map(|_| first.context.prepare_thread(&*first.space).unwrap()).collect();
    let space = &first.space;
    let started = std::sync::Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for i in 0..THREADS {
            let started = &started;
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, move || {
                    let mut guest = Guest::thread(machine, space.clone());
                    guest.registers.rdi = i;
                    guest.run_to_call();
                    started.wait();
                    // All of them run, each with vector registers of its own.
                    for _ in 0..3 {
                        guest.registers.rdi = u64::MAX;
                        guest.run_to_call();
                        assert_eq!(guest.registers.rdi, i);
                    }
                })
                .unwrap();
        }
    });
    first.run_to_call();
}
