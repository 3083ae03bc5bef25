//! The end of processes, and who may act on others.

use amber_abi::Errno;
use libc::{PRIO_PROCESS, SIGKILL, WNOHANG};

use crate::guest::start;

const ANY: u64 = u64::MAX;

#[test]
fn a_parent_waits_for_the_end_of_its_child() {
    let (guest, mut task) = start();
    assert_eq!(task.call(libc::SYS_wait4, [ANY, 0, 0, 0]), Err(Errno::ECHILD));
    let child = guest.fork(&mut task);
    let pid = child.pid;
    assert_eq!(task.call(libc::SYS_wait4, [ANY, 0, WNOHANG as u64, 0]), Ok(0));
    let status = task.put(&0i32);
    task.begin(libc::SYS_wait4, [pid, status, 0, 0]);
    guest.wait_for_sleep(&task);
    child.exit(3);
    assert_eq!(task.result(), Ok(pid));
    assert_eq!(task.get::<i32>(status), 3 << 8);
    assert_eq!(task.call(libc::SYS_wait4, [pid, 0, 0, 0]), Err(Errno::ECHILD));
}

#[test]
fn a_kill_ends_a_wait() {
    let (guest, mut task) = start();
    let mut child = guest.fork(&mut task);
    child.begin(libc::SYS_pause, []);
    guest.wait_for_sleep(&child);
    assert_eq!(task.call(libc::SYS_kill, [child.pid, SIGKILL as u64]), Ok(0));
    let status = task.put(&0i32);
    assert_eq!(task.call(libc::SYS_wait4, [child.pid, status, 0, 0]), Ok(child.pid));
    assert_eq!(task.get::<i32>(status), SIGKILL);
}

#[test]
fn users_signal_their_own_processes() {
    let (guest, mut task) = start();
    assert_eq!(task.call(libc::SYS_kill, [99_999, 0]), Err(Errno::ESRCH));
    assert_eq!(task.call(libc::SYS_kill, [1, 65]), Err(Errno::EINVAL));
    let mut user = guest.fork(&mut task);
    user.call(libc::SYS_setuid, [1000]).unwrap();
    assert_eq!(user.call(libc::SYS_kill, [1, 0]), Err(Errno::EPERM));
    assert_eq!(user.call(libc::SYS_kill, [user.pid, 0]), Ok(0));
    let other = guest.fork(&mut user);
    assert_eq!(user.call(libc::SYS_kill, [other.pid, 0]), Ok(0));
}

#[test]
fn users_lower_their_priority_only() {
    let (guest, mut task) = start();
    let process = PRIO_PROCESS as u64;
    assert_eq!(task.call(libc::SYS_setpriority, [process, 0, 100]), Ok(0));
    // The kernel's call returns 20 - nice.
    assert_eq!(task.call(libc::SYS_getpriority, [process, 0]), Ok(1));
    assert_eq!(task.call(libc::SYS_setpriority, [3, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(task.call(libc::SYS_setpriority, [process, 99_999, 0]), Err(Errno::ESRCH));
    assert_eq!(task.call(libc::SYS_setpriority, [process, 0, 0]), Ok(0));
    let mut user = guest.fork(&mut task);
    user.call(libc::SYS_setuid, [1000]).unwrap();
    assert_eq!(user.call(libc::SYS_setpriority, [process, 0, (-5i64) as u64]), Err(Errno::EACCES));
    assert_eq!(user.call(libc::SYS_setpriority, [process, 1, 5]), Err(Errno::EPERM));
    assert_eq!(user.call(libc::SYS_setpriority, [process, 0, 5]), Ok(0));
}
