//! System calls of several threads and processes, in any order and with any arguments, are hostile. No panic, no wait that
//! a kill does not end, and nothing of the sandbox is left afterwards.
#![no_main]

use std::time::{Duration, Instant};

use amber_abi::Signal;
use amber_fuzz::calls::Shared;
use amber_fuzz::guest::Running;
use libfuzzer_sys::fuzz_target;

/// How long guests may do nothing before a signal comes.
const TIMEOUT: Duration = Duration::from_millis(2);
/// How often one comes before they are ended.
const SIGNALS: u32 = 3;
/// How long they may take in all.
const MOST: Duration = Duration::from_secs(1);

fuzz_target!(|input: &[u8]| {
    let Some((&choice, calls)) = input.split_first() else { return };
    let shared = Shared::new(calls);
    let programs = shared.clone();
    // The trace looks at every argument, too.
    let running = Running::start_traced(choice % 4 == 0, move || programs.program());
    let (began, mut signals, mut seen) = (Instant::now(), 0, 0);
    while !shared.wait(TIMEOUT) && began.elapsed() < MOST {
        let steps = running.machine.steps();
        if steps == seen {
            if signals == SIGNALS {
                break;
            }
            signals += 1;
            running.sandbox.signal_all(Signal::SIGALRM);
        }
        seen = steps;
    }
    running.finish();
});
