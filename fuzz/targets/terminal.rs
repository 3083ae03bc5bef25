//! What is written to both ends of a terminal is hostile, and so are its modes. Nothing is waited for without end.
#![no_main]

use amber_fuzz::{ARENA, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

const TEXT: u64 = ARENA + 0x1000;
const ANSWER: u64 = ARENA + 0x20000;
const TCSETS: u64 = 0x5402;
const TIOCSPTLCK: u64 = 0x4004_5431;
const TIOCGPTPEER: u64 = 0x5441;
/// Bytes of `struct termios` as TCSETS takes it.
const TERMIOS: usize = 36;

fuzz_target!(|input: &[u8]| {
    let Some((modes, text)) = input.split_first_chunk::<TERMIOS>() else { return };
    if text.len() > 1 << 14 {
        return;
    }
    let (keys, output) = text.split_at(text.len() / 2);
    let nonblocking = (libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY) as u64;
    let end = TEXT + keys.len() as u64;
    with_guest(vec![
        Op::Store(PATH, b"/dev/ptmx\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        Op::call(libc::SYS_open, [PATH, nonblocking]),
        Op::on(libc::SYS_ioctl, 1, [TIOCSPTLCK, PATH + 12]),
        Op::on(libc::SYS_ioctl, 1, [TIOCGPTPEER, nonblocking]),
        Op::Store(ARENA, modes.to_vec()),
        Op::on(libc::SYS_ioctl, 3, [TCSETS, ARENA]),
        Op::Store(TEXT, text.to_vec()),
        Op::on(libc::SYS_write, 1, [TEXT, keys.len() as u64]),
        Op::on(libc::SYS_read, 3, [ANSWER, u64::from(modes[0])]),
        Op::on(libc::SYS_write, 3, [end, output.len() as u64]),
        Op::on(libc::SYS_read, 1, [ANSWER, 0x1000]),
        Op::on(libc::SYS_write, 1, [end, output.len() as u64]),
        Op::on(libc::SYS_read, 3, [ANSWER, 0x1000]),
        Op::on(libc::SYS_read, 1, [ANSWER, 0x1000]),
        Op::on(libc::SYS_close, 3, []),
        Op::on(libc::SYS_read, 1, [ANSWER, 0x1000]),
        Op::on(libc::SYS_close, 1, []),
    ]);
});
