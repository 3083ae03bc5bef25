//! What a signal does to a call that waits.

use amber_abi::Errno;
use libc::{SA_RESTART, SIGUSR1};

use crate::guest::{Task, start};
use crate::program::HANDLER;

/// `SA_RESTORER`
const SA_RESTORER: u64 = 0x0400_0000;

/// Sets a handler for SIGUSR1.
fn handle(task: &mut Task, flags: u64) {
    let action = task.put(&[HANDLER, SA_RESTORER | flags, HANDLER, 0]);
    assert_eq!(task.call(libc::SYS_rt_sigaction, [SIGUSR1 as u64, action, 0, 8]), Ok(0));
}

#[test]
fn a_handler_ends_a_wait() {
    let (guest, mut task) = start();
    let mut child = guest.fork(&mut task);
    handle(&mut child, 0);
    child.begin(libc::SYS_pause, []);
    guest.wait_for_sleep(&child);
    task.call(libc::SYS_kill, [child.pid, SIGUSR1 as u64]).unwrap();
    assert_eq!(child.result(), Err(Errno::EINTR));
}

#[test]
fn a_read_goes_on_after_a_handler() {
    let (guest, mut task) = start();
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    let mut child = guest.fork(&mut task);
    handle(&mut child, SA_RESTART as u64);
    let at = child.put(&[0u8; 8]);
    child.begin(libc::SYS_read, [reader, at, 8]);
    guest.wait_for_sleep(&child);
    task.call(libc::SYS_kill, [child.pid, SIGUSR1 as u64]).unwrap();
    task.write(writer, b"data").unwrap();
    assert_eq!(child.result(), Ok(4));
}
