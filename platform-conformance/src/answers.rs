//! Constant results of system calls.

use amber_platform::Trap;

use crate::code;
use crate::guest::{Guest, Machine};

/// The guest gets a constant result with or without a trap; other calls always trap.
pub fn constant_results_are_given(machine: &Machine) {
    let mut guest = Guest::new(machine, code::call_and_report());
    for round in 0..3 {
        let answers: Vec<(u64, u64)> =
            (0..amber_platform::MAX_CONSTANT_RESULTS as u64).map(|i| (100 + i, 7000 + 10 * i + round)).collect();
        guest.context.set_constant_results(&answers);
        for number in 98..110 {
            guest.load(code::call_and_report());
            guest.registers.rax = number;
            guest.registers.rsi = 0;
            let known = answers.iter().find(|(known, _)| *known == number).map(|(_, answer)| *answer);
            assert_eq!(guest.run(), Trap::Syscall);
            if guest.registers.orig_rax == number {
                // The platform trapped nevertheless.
                guest.registers.rax = known.unwrap_or(4711);
                assert_eq!(guest.run(), Trap::Syscall);
            }
            // The second call passes the result of the first. It has no constant result itself.
            assert_eq!((guest.registers.orig_rax, guest.registers.rsi), (9999, known.unwrap_or(4711)));
        }
    }
    // No more constant results.
    guest.context.set_constant_results(&[]);
    guest.load(code::call_and_report());
    guest.registers.rax = 100;
    assert_eq!(guest.run(), Trap::Syscall);
    assert_eq!(guest.registers.orig_rax, 100);
}

/// Each thread of a process has its own constant results.
pub fn threads_have_answers_of_their_own(machine: &Machine) {
    let mut first = Guest::new(machine, code::call_and_report());
    let ask = |guest: &mut Guest<'_>, own: u64| {
        for _ in 0..2000 {
            guest.context.set_constant_results(&[(39, 1), (186, own)]);
            for (number, answer) in [(39, 1), (186, own)] {
                guest.registers.rip = crate::guest::CODE;
                guest.registers.rax = number;
                guest.run_to_call();
                if guest.registers.orig_rax == number {
                    guest.registers.rax = answer;
                    guest.run_to_call();
                }
                assert_eq!((guest.registers.orig_rax, guest.registers.rsi), (9999, answer));
            }
        }
    };
    ask(&mut first, 10);
    let _room = first.context.prepare_thread(&*first.space).unwrap();
    let space = first.space.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| ask(&mut Guest::thread(machine, space), 11));
        scope.spawn(|| ());
    });
    ask(&mut first, 12);
}
