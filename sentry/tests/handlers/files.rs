//! Names of files.

use amber_abi::Errno;
use libc::{AT_FDCWD, O_CREAT, O_WRONLY, RENAME_EXCHANGE, RENAME_NOREPLACE};

use crate::guest::{Task, start};

fn make_file(task: &mut Task, path: &str) {
    let path = task.path(path);
    let fd = task.call(libc::SYS_open, [path, (O_CREAT | O_WRONLY) as u64, 0o644]).unwrap();
    task.call(libc::SYS_close, [fd]).unwrap();
}

fn make_directory(task: &mut Task, path: &str) {
    let path = task.path(path);
    assert_eq!(task.call(libc::SYS_mkdir, [path, 0o755]), Ok(0));
}

#[test]
fn impossible_renames_are_refused() {
    let (_guest, mut task) = start();
    for directory in ["d", "d/e", "empty"] {
        make_directory(&mut task, directory);
    }
    make_file(&mut task, "f");
    make_file(&mut task, "d/x");
    let (noreplace, exchange) = (u64::from(RENAME_NOREPLACE), u64::from(RENAME_EXCHANGE));
    for (from, to, flags, errno) in [
        ("none", "x", 0, Errno::ENOENT),
        ("f", "none/x", 0, Errno::ENOENT),
        ("f", "d", 0, Errno::EISDIR),
        ("d", "f", 0, Errno::ENOTDIR),
        ("f", "f/", 0, Errno::ENOTDIR),
        ("empty", "d", 0, Errno::ENOTEMPTY),
        ("d", "d/e/n", 0, Errno::EINVAL),
        (".", "x", 0, Errno::EBUSY),
        ("f", "d/x", noreplace, Errno::EEXIST),
        ("f", "f", noreplace, Errno::EEXIST),
        ("f", "none", exchange, Errno::ENOENT),
        ("f", "d/x", noreplace | exchange, Errno::EINVAL),
    ] {
        let (old, new) = (task.path(from), task.path(to));
        let here = AT_FDCWD as u64;
        let renamed = task.call(libc::SYS_renameat2, [here, old, here, new, flags]);
        assert_eq!(renamed, Err(errno), "{from} to {to}");
    }
}

#[test]
fn an_exchange_swaps_a_file_and_a_directory() {
    let (_guest, mut task) = start();
    make_directory(&mut task, "d");
    make_file(&mut task, "f");
    let (file, directory) = (task.path("f"), task.path("d"));
    let here = AT_FDCWD as u64;
    let exchange = u64::from(RENAME_EXCHANGE);
    assert_eq!(task.call(libc::SYS_renameat2, [here, file, here, directory, exchange]), Ok(0));
    assert_eq!(task.call(libc::SYS_rmdir, [directory]), Err(Errno::ENOTDIR));
    assert_eq!(task.call(libc::SYS_rmdir, [file]), Ok(0));
}
