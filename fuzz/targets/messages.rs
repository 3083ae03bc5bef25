//! Socket addresses, control messages and options of every family are hostile. Each call succeeds or gives an errno.
#![no_main]

use amber_fuzz::{ARENA, Arg, Op, with_guest};
use libfuzzer_sys::fuzz_target;

const ADDRESS: u64 = ARENA;
const CONTROL: u64 = ARENA + 0x1000;
const MESSAGE: u64 = ARENA + 0x3000;
const PIECES: u64 = ARENA + 0x3100;
const DATA: u64 = ARENA + 0x4000;
const PAIR: u64 = ARENA + 0x3200;

/// Family, type and protocol of the sockets.
const KINDS: [[i32; 3]; 12] = [
    [libc::AF_UNIX, libc::SOCK_STREAM, 0],
    [libc::AF_UNIX, libc::SOCK_DGRAM, 0],
    [libc::AF_UNIX, libc::SOCK_SEQPACKET, 0],
    [libc::AF_INET, libc::SOCK_STREAM, 0],
    [libc::AF_INET, libc::SOCK_DGRAM, 0],
    [libc::AF_INET6, libc::SOCK_STREAM, 0],
    [libc::AF_INET6, libc::SOCK_DGRAM, 0],
    [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE],
    [libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT],
    [libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP],
    [libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP],
    [libc::AF_PACKET, libc::SOCK_RAW, 0x300],
];

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((head, rest)) = input.split_first_chunk::<12>() else { return };
    let [kind, order, address_len, control_len, flags_low, flags_high, level, option, value_len, more, short, calls] =
        head.map(u64::from);
    let address = &rest[..rest.len().min(address_len as usize)];
    let rest = &rest[address.len()..];
    if rest.len() > 4096 {
        return;
    }
    let [family, form, protocol] = KINDS[kind as usize % KINDS.len()].map(|n| n as u64);
    let nonblocking = libc::SOCK_NONBLOCK as u64;
    let flags = (flags_low | flags_high << 8) | libc::MSG_DONTWAIT as u64;
    let message = [ADDRESS, address_len, PIECES, more & 3, CONTROL, control_len << (short & 3), 0];
    let first = [0, 0, address.len() as u64];
    let mut script = vec![
        Op::call(libc::SYS_socket, [family, form | nonblocking, protocol]),
        Op::call(libc::SYS_socket, [family, form | nonblocking, protocol]),
        Op::call(libc::SYS_socketpair, [1, (1 + kind % 2 * 4) | nonblocking, 0, PAIR]),
        Op::Store(ADDRESS, address.to_vec()),
        Op::Store(CONTROL, rest.to_vec()),
        Op::Store(PIECES, words(&[DATA, 8, DATA + 8, 100 << (short & 7), DATA, 0])),
        Op::Store(MESSAGE, words(&message)),
        Op::Store(MESSAGE + 64, (address.len() as u32).to_ne_bytes().to_vec()),
    ];
    // What comes in which order, and with which of the two sockets, the input decides.
    for step in 0..8 {
        let socket = (calls >> step & 1) as usize;
        let on = |number: i64, arguments: [u64; 5]| {
            let mut all = vec![Arg::Result(socket)];
            all.extend(arguments.map(Arg::Value));
            Op::Call(number, all)
        };
        script.push(match (order >> step & 1) + (step & 3) * 2 {
            0 => on(libc::SYS_bind, [ADDRESS, first[2], 0, 0, 0]),
            1 => on(libc::SYS_setsockopt, [level, option, CONTROL, value_len, 0]),
            2 => on(libc::SYS_connect, [ADDRESS, first[2], 0, 0, 0]),
            3 => on(libc::SYS_getsockopt, [level, option, DATA, MESSAGE + 64, 0]),
            4 => on(libc::SYS_sendmsg, [MESSAGE, flags, 0, 0, 0]),
            5 => on(libc::SYS_listen, [more, 0, 0, 0, 0]),
            6 => on(libc::SYS_recvmsg, [MESSAGE, flags, 0, 0, 0]),
            _ => on(libc::SYS_getsockname, [DATA, MESSAGE + 64, 0, 0, 0]),
        });
        // A message from the input may have changed them.
        script.push(Op::Store(CONTROL, rest.to_vec()));
        script.push(Op::Store(MESSAGE, words(&message)));
    }
    // Everything that was opened or received.
    script.push(Op::call(libc::SYS_close_range, [0, u64::from(u32::MAX), 0]));
    script.push(Op::call(libc::SYS_unlink, [ADDRESS + 2]));
    with_guest(script);
});
