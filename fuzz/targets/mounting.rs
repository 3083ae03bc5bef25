//! Options of mounts are hostile, by mount(2) and by fsconfig(2). Each is taken or refused; what was mounted is unmounted.
#![no_main]

use amber_fuzz::{ARENA, Op, PATH, with_guest};
use libfuzzer_sys::fuzz_target;

const KINDS: [&[u8]; 8] = [b"tmpfs", b"overlay", b"devpts", b"proc", b"sysfs", b"cgroup2", b"mqueue", b"none"];
const KIND: u64 = PATH + 0x100;
const KEY: u64 = ARENA + 0x8000;
const VALUE: u64 = ARENA + 0xa000;

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, low, high, command], options)) = input.split_first_chunk() else { return };
    if options.len() > 4096 {
        return;
    }
    let flags = u64::from(low) | u64::from(high) << 12;
    let name = KINDS[usize::from(kind) % KINDS.len()];
    let mut parts = options.splitn(2, |&byte| byte == b'=');
    let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let zero = |text: &[u8]| [text, b"\0"].concat();
    let script = vec![
        Op::Store(PATH, b"/tmp/mount\0".to_vec()),
        Op::Store(KIND, zero(name)),
        Op::Store(ARENA, zero(options)),
        Op::Store(KEY, zero(key)),
        Op::Store(VALUE, zero(value)),
        Op::call(libc::SYS_mkdir, [PATH, 0o755]),
        Op::call(libc::SYS_mount, [KIND, PATH, KIND, flags, ARENA]),
        Op::call(libc::SYS_statfs, [PATH, ARENA + 0x10000]),
        // Once more, over what is there.
        Op::call(libc::SYS_mount, [KIND, PATH, KIND, flags | libc::MS_REMOUNT, ARENA]),
        Op::call(libc::SYS_fsopen, [KIND, 0]),
        Op::on(libc::SYS_fsconfig, 9, [u64::from(command & 7), KEY, VALUE, u64::from(command >> 3)]),
        Op::on(libc::SYS_fsconfig, 9, [libc::FSCONFIG_CMD_CREATE.into(), 0, 0, 0]),
        Op::on(libc::SYS_fsmount, 9, [0, flags & 0xff]),
        Op::on(libc::SYS_read, 9, [ARENA + 0x10000, 0x1000]),
        Op::on(libc::SYS_close, 12, []),
        Op::on(libc::SYS_close, 9, []),
        Op::call(libc::SYS_umount2, [PATH, libc::MNT_DETACH as u64]),
        Op::call(libc::SYS_umount2, [PATH, libc::MNT_DETACH as u64]),
    ];
    with_guest(script).expect("nothing waits");
});
