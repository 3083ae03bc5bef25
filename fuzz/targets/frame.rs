//! The frame that rt_sigreturn(2) finds on the stack is hostile, with its floating-point state. The thread goes on with it
//! or dies of a signal.
#![no_main]

use amber_fuzz::{ARENA, Op, with_guest};
use libfuzzer_sys::fuzz_target;

/// Where the frame is; the stack pointer is eight bytes behind its beginning.
const FRAME: u64 = ARENA + 0x1000;
/// Where the floating-point state is, aligned as it must be, in a frame that is otherwise right.
const STATE: u64 = ARENA + 0x2000;
/// Where a frame has its address.
const STATE_POINTER: usize = 8 + 40 + 23 * 8;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, input)) = input.split_first() else { return };
    if input.len() > 8192 {
        return;
    }
    let (frame, state) = input.split_at(input.len().min(440));
    let mut frame = frame.to_vec();
    frame.resize(440, 0);
    if choice & 1 == 0 {
        frame[STATE_POINTER..STATE_POINTER + 8].copy_from_slice(&STATE.to_ne_bytes());
    }
    if choice & 2 == 0 {
        // A place where code could be, in segments that can be loaded.
        frame[48 + 16 * 8..][..8].copy_from_slice(&0x40_0100u64.to_ne_bytes());
        frame[48 + 18 * 8..][..8].copy_from_slice(&[0x33, 0, 0, 0, 0, 0, 0x2b, 0]);
    }
    let child = vec![
        Op::Stack(FRAME + 8),
        Op::call(libc::SYS_rt_sigreturn, []),
        Op::call(libc::SYS_getpid, []),
        Op::call(libc::SYS_sigaltstack, [0, ARENA]),
    ];
    let script = vec![
        Op::Store(FRAME, frame),
        Op::Store(STATE, state.to_vec()),
        Op::Child(child),
        Op::call(libc::SYS_wait4, [u64::MAX, 0, 0, 0]),
    ];
    with_guest(script);
});
