//! Messages to a netlink socket are hostile. The answers are well-formed messages.
#![no_main]

use amber_fuzz::{ARENA, Op, with_guest};
use libfuzzer_sys::fuzz_target;

/// Where answers go.
const ANSWER: u64 = ARENA + 0x10000;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, messages)) = input.split_first() else { return };
    if messages.len() > 4096 {
        return;
    }
    let socket = [libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(choice & 0x1f)].map(|n| n as u64);
    let strict = [libc::SOL_NETLINK as u64, libc::NETLINK_GET_STRICT_CHK as u64, ARENA, 4];
    let mut script = vec![
        Op::call(libc::SYS_socket, socket),
        Op::Store(ARENA, u32::from(choice >> 7).to_ne_bytes().to_vec()),
        Op::on(libc::SYS_setsockopt, 0, strict),
        Op::Store(ARENA, messages.to_vec()),
        Op::on(libc::SYS_sendto, 0, [ARENA, messages.len() as u64, 0, 0, 0]),
    ];
    let receive = Op::on(libc::SYS_recvfrom, 0, [ANSWER, 0x8000, libc::MSG_TRUNC as u64, 0, 0]);
    script.extend(std::iter::repeat_n(receive, 8));
    script.push(Op::on(libc::SYS_close, 0, []));
    with_guest(script).expect("nothing waits");
});
