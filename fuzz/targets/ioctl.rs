//! Requests of ioctl(2), their structures, and commands of fcntl(2) and prctl(2) are hostile, on every kind of file.
#![no_main]

use amber_fuzz::{ARENA, Arg, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

/// Requests by number, of terminals, sockets, files and devices.
const REQUESTS: &[u32] = &[
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x5405,
    0x5406,
    0x5407,
    0x5408,
    0x5409,
    0x540a,
    0x540b,
    0x540c,
    0x540d,
    0x540e,
    0x540f,
    0x5410,
    0x5411,
    0x5412,
    0x5413,
    0x5414,
    0x5415,
    0x5418,
    0x541b,
    0x541d,
    0x5420,
    0x5421,
    0x5422,
    0x5423,
    0x5424,
    0x5425,
    0x5429,
    0x802c_542a,
    0x402c_542b,
    0x402c_542c,
    0x402c_542d,
    0x8004_5430,
    0x4004_5431,
    0x8004_5432,
    0x8004_5438,
    0x8004_5439,
    0x5441,
    0x5450,
    0x5451,
    0x5452,
    0x5460,
    0x8901,
    0x8902,
    0x8903,
    0x8904,
    0x8905,
    0x8906,
    0x8907,
    0x8910,
    0x8912,
    0x8913,
    0x8914,
    0x8915,
    0x8917,
    0x8919,
    0x891b,
    0x891d,
    0x891f,
    0x8921,
    0x8922,
    0x8927,
    0x8933,
    0x8942,
    0x8946,
    0x8948,
    0x8970,
    0x8b01,
    0x5422,
    0xc020_660b,
    0x8008_6601,
    0x4008_6602,
    0x801c_581f,
    0x401c_5820,
    0x1,
    0x2,
    0x4020_940d,
    0x4004_9409,
    0xc018_9436,
    0x8004_5200,
    0x5201,
    0x4008_5203,
    0x5204,
    0x5206,
    0xb701,
    0xb702,
    0xb703,
    0xb704,
    0xaa3f,
];

fuzz_target!(|input: &[u8]| {
    let Some((&[file, request, low, high, what, flags], content)) = input.split_first_chunk() else { return };
    if content.len() > 4096 {
        return;
    }
    let number = u64::from(u16::from_le_bytes([low, high]));
    let request = REQUESTS.get(usize::from(request)).map_or(number | u64::from(request) << 16, |&known| known.into());
    let nonblocking = libc::O_NONBLOCK as u64;
    let open = |path: &'static [u8]| (path, Op::call(libc::SYS_open, [PATH, libc::O_RDWR as u64 | nonblocking]));
    let (path, make): (&[u8], Op) = match file % 16 {
        0 => open(b"/dev/ptmx\0"),
        1 => open(b"/dev/null\0"),
        2 => open(b"/dev/random\0"),
        3 => open(b"/dir/file\0"),
        4 => open(b"/proc/self/ns/user\0"),
        5 => (b"\0", Op::call(libc::SYS_socket, [1, 1 | nonblocking, 0])),
        6 => (b"\0", Op::call(libc::SYS_socket, [2, 2 | nonblocking, 0])),
        7 => (b"\0", Op::call(libc::SYS_socket, [2, 1 | nonblocking, 0])),
        8 => (b"\0", Op::call(libc::SYS_socket, [16, 3 | nonblocking, 0])),
        9 => (b"\0", Op::call(libc::SYS_inotify_init1, [nonblocking])),
        10 => (b"\0", Op::call(libc::SYS_timerfd_create, [1, nonblocking])),
        11 => (b"\0", Op::call(libc::SYS_epoll_create1, [0])),
        12 => (b"\0", Op::call(libc::SYS_memfd_create, [PATH, 2])),
        13 => (b"\0", Op::call(libc::SYS_eventfd2, [0, nonblocking])),
        14 => open(b"/dev/shm\0"),
        _ => (b"\0", Op::call(libc::SYS_socket, [17, 3 | nonblocking, 0x300])),
    };
    let mut script = vec![Op::Store(PATH, path.to_vec()), Op::Store(ARENA, content.to_vec()), make];
    let mut target = 2;
    if file % 16 == 0 {
        // The other end, unlocked.
        script.push(Op::Store(ARENA - 8 + 0x8000, vec![0; 8]));
        script.push(Op::on(libc::SYS_ioctl, 2, [0x4004_5431, ARENA + 0x8000 - 8]));
        script.push(Op::on(libc::SYS_ioctl, 2, [0x5441, libc::O_RDWR as u64 | nonblocking]));
        if flags & 1 != 0 {
            target = 5;
        }
    }
    let value = match flags >> 1 & 7 {
        0 => u64::from(flags),
        1 => u64::MAX,
        2 => ARENA + 0x1_0000_0000,
        _ => ARENA,
    };
    script.push(match what % 4 {
        0 => Op::Call(libc::SYS_fcntl, vec![Arg::Result(target), (number & 0x7ff).into(), value.into()]),
        1 => Op::call(libc::SYS_prctl, [number & 0x7f, value, u64::from(flags), 0, 0]),
        _ => Op::Call(libc::SYS_ioctl, vec![Arg::Result(target), request.into(), value.into()]),
    });
    script.push(Op::on(libc::SYS_read, target, [ARENA + 0x4000, 64]));
    script.push(Op::call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0]));
    // Some requests end the process, or make it wait.
    with_guest(script);
});
