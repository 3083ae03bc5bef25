//! Socket pairs.

use amber_abi::Errno;
use libc::{AF_INET, AF_UNIX, SO_TYPE, SOCK_NONBLOCK, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET};

use crate::guest::start;

const UNIX: u64 = AF_UNIX as u64;

#[test]
fn packets_keep_their_ends() {
    let (_guest, mut task) = start();
    let [a, b] = task.pair(libc::SYS_socketpair, [UNIX, (SOCK_SEQPACKET | SOCK_NONBLOCK) as u64, 0]);
    assert_eq!(task.write(a, b"one"), Ok(3));
    assert_eq!(task.write(a, b"two"), Ok(3));
    assert_eq!(task.read(b), Ok(b"one".to_vec()));
    assert_eq!(task.read(b), Ok(b"two".to_vec()));
    assert_eq!(task.read(b), Err(Errno::EAGAIN));
    task.call(libc::SYS_close, [a]).unwrap();
    assert_eq!(task.read(b), Ok(vec![]));
}

#[test]
fn pairs_have_a_type_and_only_some_families() {
    let (_guest, mut task) = start();
    let [a, _b] = task.pair(libc::SYS_socketpair, [UNIX, SOCK_STREAM as u64, 0]);
    let (value, len) = (task.put(&0i32), task.put(&4u32));
    assert_eq!(task.call(libc::SYS_getsockopt, [a, SOL_SOCKET as u64, SO_TYPE as u64, value, len]), Ok(0));
    assert_eq!((task.get::<i32>(value), task.get::<u32>(len)), (SOCK_STREAM, 4));
    let pair = task.put(&[0i32; 2]);
    let inet = [AF_INET as u64, SOCK_STREAM as u64, 0, pair];
    assert_eq!(task.call(libc::SYS_socketpair, inet), Err(Errno::EOPNOTSUPP));
    assert_eq!(task.call(libc::SYS_socketpair, [UNIX, SOCK_STREAM as u64, 99, pair]), Err(Errno::EPROTONOSUPPORT));
}
