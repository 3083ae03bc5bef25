//! Names and values of extended attributes, access control lists and file capabilities are hostile. What was set is read
//! back or refused, and a list never exceeds the room for it.
#![no_main]

use amber_fuzz::{ARENA, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

const NAMES: [&[u8]; 6] = [
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"security.capability",
    b"user.a",
    b"trusted.overlay.opaque",
    b"security.selinux",
];
const VALUE: u64 = ARENA + 0x2000;
const ROOM: u64 = ARENA + 0x12000;

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, name_len, room, flags], rest)) = input.split_first_chunk() else { return };
    if rest.len() > 1 << 15 {
        return;
    }
    let path: &[u8] = [b"/tmp/xattr\0", b"/dev/shm/x\0", b"/dir/file\0\0"][usize::from(choice >> 6) % 3];
    let (mut name, value) = rest.split_at(rest.len().min(name_len.into()));
    if let Some(known) = NAMES.get(usize::from(choice & 0x3f)) {
        name = known;
    }
    let (room, len) = (u64::from(room), value.len() as u64);
    let results = with_guest(vec![
        Op::Store(PATH, path.to_vec()),
        Op::call(libc::SYS_open, [PATH, (libc::O_CREAT | libc::O_RDWR) as u64, 0o600]),
        Op::Store(ARENA, [name, b"\0"].concat()),
        Op::Store(VALUE, value.to_vec()),
        Op::on(libc::SYS_fsetxattr, 1, [ARENA, VALUE, len, u64::from(flags & 3)]),
        Op::on(libc::SYS_fgetxattr, 1, [ARENA, ROOM, room]),
        Op::on(libc::SYS_flistxattr, 1, [ROOM, room]),
        Op::on(libc::SYS_flistxattr, 1, [ROOM, 0]),
        Op::call(libc::SYS_access, [PATH, 7]),
        Op::on(libc::SYS_fchmod, 1, [0o640]),
        Op::call(libc::SYS_mkdir, [PATH, 0o700]),
        Op::on(libc::SYS_fremovexattr, 1, [ARENA]),
        Op::on(libc::SYS_close, 1, []),
        Op::call(libc::SYS_unlink, [PATH]),
    ]);
    let results = results.expect("nothing waits");
    assert!(results[5] <= room as i64 || room == 0, "a value exceeds its room");
    assert!(results[6] <= room as i64 || room == 0, "a list exceeds its room");
});
