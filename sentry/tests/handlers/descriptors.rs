//! Pipes, eventfd, dup(2) and fcntl(2).

use amber_abi::Errno;
use libc::{F_DUPFD, F_GETFD, F_GETPIPE_SZ, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK};

use crate::guest::start;

const EFD_NONBLOCK: u64 = O_NONBLOCK as u64;

#[test]
fn pipes_end_and_break() {
    let (_guest, mut task) = start();
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    assert_eq!(task.write(writer, b"hello"), Ok(5));
    assert_eq!(task.read(reader), Ok(b"hello".to_vec()));
    assert_eq!(task.read(writer), Err(Errno::EBADF));
    assert_eq!(task.write(reader, b"x"), Err(Errno::EBADF));
    assert_eq!(task.call(libc::SYS_write, [writer, 8, 1]), Err(Errno::EFAULT));
    task.call(libc::SYS_close, [writer]).unwrap();
    assert_eq!(task.read(reader), Ok(vec![]), "the end of the file");
    assert_eq!(task.call(libc::SYS_close, [writer]), Err(Errno::EBADF));
}

#[test]
fn pipes_without_readers_are_broken() {
    let (guest, mut task) = start();
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    let child = guest.fork(&mut task);
    task.call(libc::SYS_close, [reader]).unwrap();
    assert_eq!(task.write(writer, b"x"), Ok(1), "the child can still read");
    child.exit(0);
    task.call(libc::SYS_wait4, [u64::MAX, 0, 0, 0]).unwrap();
    // SIGPIPE is blocked.
    let mask = task.put(&(1u64 << (libc::SIGPIPE - 1)));
    task.call(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as u64, mask, 0, 8]).unwrap();
    assert_eq!(task.write(writer, b"x"), Err(Errno::EPIPE));
    let pending = task.put(&0u64);
    task.call(libc::SYS_rt_sigpending, [pending, 8]).unwrap();
    assert_eq!(task.get::<u64>(pending), 1 << (libc::SIGPIPE - 1));
}

#[test]
fn full_pipes_take_no_more() {
    let (_guest, mut task) = start();
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    assert_eq!(task.call(libc::SYS_fcntl, [writer, F_SETPIPE_SZ as u64, 1]), Ok(4096));
    assert_eq!(task.call(libc::SYS_fcntl, [reader, F_GETPIPE_SZ as u64, 0]), Ok(4096));
    task.call(libc::SYS_fcntl, [writer, libc::F_SETFL as u64, O_NONBLOCK as u64]).unwrap();
    assert_eq!(task.write(writer, &[1; 5000]), Ok(4096));
    assert_eq!(task.write(writer, b"x"), Err(Errno::EAGAIN));
}

#[test]
fn a_reader_waits_for_a_writer() {
    let (guest, mut task) = start();
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    let mut child = guest.fork(&mut task);
    let at = child.put(&[0u8; 8]);
    child.begin(libc::SYS_read, [reader, at, 8]);
    guest.wait_for_sleep(&child);
    assert_eq!(task.write(writer, b"late"), Ok(4));
    assert_eq!(child.result(), Ok(4));
    assert_eq!(&child.get::<[u8; 4]>(at), b"late");
}

#[test]
fn duplicates_go_where_they_may() {
    let (_guest, mut task) = start();
    let [reader, _writer] = task.pair(libc::SYS_pipe2, []);
    assert_eq!(task.call(libc::SYS_dup2, [reader, reader]), Ok(reader));
    assert_eq!(task.call(libc::SYS_dup2, [99, 99]), Err(Errno::EBADF));
    assert_eq!(task.call(libc::SYS_dup3, [reader, reader, 0]), Err(Errno::EINVAL));
    assert_eq!(task.call(libc::SYS_dup3, [reader, 20, O_CLOEXEC as u64]), Ok(20));
    assert_eq!(task.call(libc::SYS_fcntl, [20, F_GETFD as u64, 0]), Ok(1));
    assert_eq!(task.call(libc::SYS_fcntl, [20, F_DUPFD as u64, 20]), Ok(21));
    assert_eq!(task.call(libc::SYS_fcntl, [21, F_GETFD as u64, 0]), Ok(0));
    for least in [1 << 30, u64::MAX] {
        assert_eq!(task.call(libc::SYS_fcntl, [20, F_DUPFD as u64, least]), Err(Errno::EINVAL));
    }
}

#[test]
fn eventfd_counts_to_its_limit() {
    let (_guest, mut task) = start();
    let fd = task.call(libc::SYS_eventfd2, [5, EFD_NONBLOCK]).unwrap();
    assert_eq!(task.write(fd, &(u64::MAX - 6).to_ne_bytes()), Ok(8));
    assert_eq!(task.write(fd, &1u64.to_ne_bytes()), Err(Errno::EAGAIN));
    assert_eq!(task.write(fd, &u64::MAX.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(task.write(fd, &[1; 4]), Err(Errno::EINVAL));
    assert_eq!(task.read(fd), Ok((u64::MAX - 1).to_ne_bytes().to_vec()));
    assert_eq!(task.read(fd), Err(Errno::EAGAIN));
}
