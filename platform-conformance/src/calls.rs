//! System calls in quick succession, for which platforms may have shorter paths.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amber_platform::{Access, Protection, Registers, Trap};

use crate::code;
use crate::guest::{CODE, DATA, Guest, Machine, READ, READ_WRITE};
use crate::threads::{EndOf, keep_interrupting};

/// The carry flag. The guest sets it depending on `rbx`.
const CARRY: u64 = 1;

/// The expected registers of a guest that runs [`code::work_and_call`].
#[derive(Default)]
struct Expected {
    calls: u64,
    grown: u64,
    vector: u64,
    sum: u64,
}

impl Expected {
    /// Runs the guest to its next call, checks its registers, and returns `result` from the call.
    fn call(&mut self, guest: &mut Guest<'_>, result: u64) {
        let (stack, before) = (guest.registers.rsp, guest.registers);
        loop {
            match guest.run() {
                Trap::Syscall => break,
                Trap::Interrupted => {}
                trap => panic!("{trap:?} at call {}: {:x?}", self.calls, guest.registers),
            }
        }
        self.calls += 1;
        self.grown += 3;
        self.vector += 7;
        let r = guest.registers;
        let seen = [r.orig_rax, r.rbx, r.r12, r.r9, r.r10, r.rsp, r.r15, r.rdi, r.eflags & CARRY, r.r8, r.r14, r.rbp];
        // The result of the previous call is the number of this one.
        let wanted = [
            before.rax,
            self.calls,
            self.grown,
            self.vector,
            stack,
            stack,
            self.sum,
            before.rdi,
            self.calls & CARRY,
            before.r8,
            before.r14,
            before.rbp,
        ];
        assert_eq!(seen, wanted, "call {}: {r:x?}", self.calls);
        if self.calls > 1 {
            assert_eq!(r.r13 & CARRY, (self.calls - 1) & CARRY, "call {}: {r:x?}", self.calls);
        }
        assert_eq!((r.rcx, r.r11), (r.rip, r.eflags));
        assert_eq!((r.cs, r.ss, r.fs_base, r.gs_base), (before.cs, before.ss, before.fs_base, before.gs_base));
        guest.registers.rax = result;
        self.sum = self.sum.wrapping_add(result);
    }
}

fn working_guest(machine: &Machine) -> Guest<'_> {
    let mut guest = Guest::new(machine, code::work_and_call());
    set_vector(&mut guest, 0, 7);
    (guest.registers.r8, guest.registers.r14, guest.registers.rbp) = (8, 14, 5);
    (guest.registers.fs_base, guest.registers.gs_base) = (DATA + 64, DATA + 128);
    guest
}

/// Sets xmm0 and xmm1.
fn set_vector(guest: &mut Guest<'_>, first: u64, second: u64) {
    const XMM0: usize = 160;
    const STATES: usize = 512;
    let mut state = guest.context.fpu_state().unwrap();
    state.0[XMM0..XMM0 + 8].copy_from_slice(&first.to_le_bytes());
    state.0[XMM0 + 16..XMM0 + 24].copy_from_slice(&second.to_le_bytes());
    state.0[STATES] |= 2;
    guest.context.set_fpu_state(&state).unwrap();
}

/// Between calls, other state than the result changes, the sentry is slow, the guest is interrupted, faults, or forks.
/// Each call traps once, with the correct registers.
pub fn many_calls_whatever_comes_between(machine: &Machine) {
    let mut guest = working_guest(machine);
    let mut expected = Expected::default();
    let data = guest.add(DATA, 1, READ_WRITE);
    let interrupter = guest.context.interrupter();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| keep_interrupting(&*interrupter, &done, Duration::from_micros(700)));
        let _done = EndOf(&done);
        for i in 1..20_000u64 {
            expected.call(&mut guest, i);
            if i % 700 == 0 {
                std::thread::sleep(Duration::from_micros(i / 10));
            }
            if i % 900 == 0 {
                let Registers { r12, r15, .. } = &mut guest.registers;
                (*r12, *r15) = (*r12 + 100, *r15 + 5);
                (expected.grown, expected.sum) = (expected.grown + 100, expected.sum + 5);
            }
            if i % 1100 == 0 {
                expected.vector = i;
                set_vector(&mut guest, i, 7);
            }
            if i % 1300 == 0 {
                guest.context.set_constant_results(&[(1 << 40, i)]);
            }
            if i % 1500 == 0 {
                let child = guest.context.fork_space(&*guest.space).unwrap();
                guest.space.map(DATA, data, READ_WRITE);
                drop(child);
            }
            if i % 1700 == 0 {
                fault(&mut guest, READ);
                guest.space.map(DATA, data, READ_WRITE);
            }
        }
    });
    assert_eq!(machine.memory.atomic_u64(data.start).load(Ordering::SeqCst), expected.calls);
}

/// Makes a store of the guest fault, and then repeats it.
fn fault(guest: &mut Guest<'_>, protection: Protection) {
    guest.space.protect(DATA..DATA + 4096, protection);
    let rip = loop {
        match guest.run() {
            Trap::Interrupted => {}
            Trap::PageFault { address: DATA, access: Access::Write } => break guest.registers.rip,
            trap => panic!("{trap:?}: {:x?}", guest.registers),
        }
    };
    assert!((CODE..CODE + 4096).contains(&rip));
}

/// While one thread makes calls, other threads of the process start, make as many calls, and end.
pub fn calls_of_threads_that_come_and_go(machine: &Machine) {
    let mut first = working_guest(machine);
    let mut expected = Expected::default();
    for i in 0..500 {
        expected.call(&mut first, i);
    }
    for round in 0..10 {
        let _room = first.context.prepare_thread(&*first.space).unwrap();
        let space = first.space.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut guest = Guest::thread(machine, space);
                guest.registers = Registers { rdi: DATA + 2048, ..Registers::for_program(CODE, DATA + 2048) };
                set_vector(&mut guest, 0, 7);
                let mut expected = Expected::default();
                for i in 0..200 * round {
                    expected.call(&mut guest, i);
                }
            });
            for i in 0..500 {
                expected.call(&mut first, i);
            }
        });
        for i in 0..200 {
            expected.call(&mut first, i);
        }
    }
}

/// Several threads of a process make calls in quick succession. Now and then each waits in the sentry while the others
/// continue.
pub fn calls_of_threads_that_wait_in_turn(machine: &Machine) {
    const THREADS: u64 = 3;
    let mut first = working_guest(machine);
    first.run_to_call();
    let _rooms: Vec<_> = (0..THREADS).map(|_| first.context.prepare_thread(&*first.space).unwrap()).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let space = first.space.clone();
            scope.spawn(move || {
                let mut guest = Guest::thread(machine, space);
                let own = DATA + thread * 1024;
                guest.registers = Registers { rdi: own, ..Registers::for_program(CODE, own + 1024) };
                set_vector(&mut guest, 0, 7);
                let mut expected = Expected::default();
                for i in 0..4000 {
                    expected.call(&mut guest, i);
                    if (i / 100 + thread).is_multiple_of(THREADS) && i.is_multiple_of(20) {
                        std::thread::sleep(Duration::from_micros(10 * (i % 700)));
                    }
                }
            });
        }
    });
}
