//! mmap(2) and its companions.

use amber_abi::Errno;
use libc::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_READ, PROT_WRITE};

use crate::guest::start;

const BOTH: u64 = (PROT_READ | PROT_WRITE) as u64;
const ANONYMOUS: u64 = (MAP_PRIVATE | MAP_ANONYMOUS) as u64;
const PAGE: u64 = 4096;

#[test]
fn impossible_mappings_are_refused() {
    let (_guest, mut task) = start();
    let mut map = |at, len, flags, fd, offset| task.call(libc::SYS_mmap, [at, len, BOTH, flags, fd, offset]);
    assert_eq!(map(0, 0, ANONYMOUS, u64::MAX, 0), Err(Errno::EINVAL));
    assert_eq!(map(0, PAGE, ANONYMOUS, u64::MAX, 1), Err(Errno::EINVAL));
    assert_eq!(map(0, PAGE, MAP_ANONYMOUS as u64, u64::MAX, 0), Err(Errno::EINVAL), "neither shared nor private");
    assert_eq!(map(0, PAGE, MAP_PRIVATE as u64, 99, 0), Err(Errno::EBADF));
    assert_eq!(map(0, 1 << 47, ANONYMOUS, u64::MAX, 0), Err(Errno::ENOMEM));
    let at = map(0, PAGE, ANONYMOUS, u64::MAX, 0).unwrap();
    assert_eq!(map(at, PAGE, ANONYMOUS | MAP_FIXED_NOREPLACE as u64, u64::MAX, 0), Err(Errno::EEXIST));
}

#[test]
fn unmapped_pages_are_gone() {
    let (_guest, mut task) = start();
    let at = task.call(libc::SYS_mmap, [0, 2 * PAGE, BOTH, ANONYMOUS, u64::MAX, 0]).unwrap();
    assert_eq!(task.call(libc::SYS_munmap, [at + 1, PAGE]), Err(Errno::EINVAL));
    assert_eq!(task.call(libc::SYS_munmap, [at, 0]), Err(Errno::EINVAL));
    for _ in 0..2 {
        assert_eq!(task.call(libc::SYS_munmap, [at + PAGE, PAGE]), Ok(0), "holes may be unmapped");
    }
    assert_eq!(task.call(libc::SYS_mprotect, [at, 2 * PAGE, PROT_READ as u64]), Err(Errno::ENOMEM));
    let [reader, writer] = task.pair(libc::SYS_pipe, []);
    assert_eq!(task.write(writer, b"ab"), Ok(2));
    assert_eq!(task.call(libc::SYS_read, [reader, at + PAGE, 2]), Err(Errno::EFAULT));
    assert_eq!(task.call(libc::SYS_read, [reader, at, 2]), Err(Errno::EFAULT), "mprotect changed what was there");
}

#[test]
fn private_memory_is_copied_by_fork() {
    let (guest, mut task) = start();
    let at = task.put(b"before");
    let mut child = guest.fork(&mut task);
    assert_eq!(&child.get::<[u8; 6]>(at), b"before");
    let [reader, writer] = child.pair(libc::SYS_pipe, []);
    child.write(writer, b"CHILD!").unwrap();
    assert_eq!(child.call(libc::SYS_read, [reader, at, 6]), Ok(6));
    assert_eq!(&child.get::<[u8; 6]>(at), b"CHILD!");
    assert_eq!(&task.get::<[u8; 6]>(at), b"before");
}
