//! `/dev`: a file system in memory with the standard nodes, and the drivers of devices.

mod drivers;
mod memory;
mod random;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::stat::{Device, FileType};

use crate::fs::tmpfs::{TmpFs, TmpfsOptions};
use crate::kernel::Kernel;
use crate::vfs::{FileSystem, NewInode};

pub(crate) use drivers::{DRIVERS, Driver, Opening, open};

/// The standard nodes of a container, readable and writable by all users.
const NODES: &[(&str, Device)] = &[
    ("null", Device::new(1, 3)),
    ("zero", Device::new(1, 5)),
    ("full", Device::new(1, 7)),
    ("random", Device::new(1, 8)),
    ("urandom", Device::new(1, 9)),
    ("tty", Device::new(5, 0)),
];
/// The console, accessible to root only.
const CONSOLE: (&str, Device) = ("console", Device::new(5, 1));
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
const DIRECTORIES: &[(&str, u16)] = &[("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)];

/// Makes a `/dev` with the standard nodes, links and directories. The options are those of tmpfs(5).
///
/// # Errors
/// `EINVAL` for invalid options; `ENOSPC` if their limits are too small.
pub(crate) fn make(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    let memory = kernel.mm.frames.limit();
    let mut options = TmpfsOptions::parse(options, memory)?.with_defaults(memory);
    kernel.id_maps.check_owner(options.uid, options.gid)?;
    options.mode.get_or_insert(0o755);
    let fs = TmpFs::named("devtmpfs", &kernel.vfs, kernel.mm.frames.clone(), options);
    let root = fs.root();
    let add = |name: &str, kind, permissions, special, target: &str| {
        let new = NewInode { kind, permissions, masked: 0, uid: 0, gid: 0, special, target: target.as_bytes() };
        root.create(name.as_bytes(), &new).map(drop)
    };
    for &(name, device) in NODES {
        add(name, FileType::CharacterDevice, 0o666, device, "")?;
    }
    add(CONSOLE.0, FileType::CharacterDevice, 0o600, CONSOLE.1, "")?;
    for &(name, target) in LINKS {
        add(name, FileType::Symlink, 0o777, Device::default(), target)?;
    }
    for &(name, permissions) in DIRECTORIES {
        add(name, FileType::Directory, permissions, Device::default(), "")?;
    }
    Ok(fs)
}
