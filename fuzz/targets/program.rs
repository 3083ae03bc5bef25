//! A file that is executed: ELF headers, `#!` lines and what they name are hostile. It runs or is refused with an errno;
//! the parent lives on.
#![no_main]

use amber_fuzz::{ARENA, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    if file.len() > 1 << 16 {
        return;
    }
    let name = b"/tmp/program\0\0\0\0";
    let arguments: Vec<u8> = [PATH, 0].iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
    let wanted = (libc::O_CREAT | libc::O_TRUNC | libc::O_RDWR) as u64;
    let script = vec![
        Op::Store(PATH, name.to_vec()),
        Op::Store(PATH + 16, arguments),
        Op::Store(ARENA, file.to_vec()),
        Op::call(libc::SYS_open, [PATH, wanted, 0o777]),
        Op::on(libc::SYS_write, 3, [ARENA, file.len() as u64]),
        Op::on(libc::SYS_close, 3, []),
        Op::Child(vec![Op::call(libc::SYS_execve, [PATH, PATH + 16, 0])]),
        Op::call(libc::SYS_wait4, [u64::MAX, 0, 0, 0]),
    ];
    let results = with_guest(script).expect("the parent is not touched");
    assert_eq!(results[6], results[7], "the child has ended");
});
