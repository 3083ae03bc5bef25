//! The file systems, and the kinds of files that are in none.

pub(crate) mod copy;
pub(crate) mod dev;
pub(crate) mod eventfd;
pub(crate) mod host_stream;
pub(crate) mod hostfs;
pub(crate) mod hostkernel;
pub(crate) mod mqueue;
pub(crate) mod overlay;
pub(crate) mod pipe;
pub(crate) mod proc;
pub(crate) mod pseudo;
mod registry;
pub(crate) mod signalfd;
mod special;
mod state;
pub(crate) mod sys;
pub(crate) mod timerfd;
pub(crate) mod tmpfs;

use std::sync::Arc;

use amber_abi::errno::Errno;

use self::tmpfs::{TmpFs, TmpfsOptions};
use crate::kernel::Kernel;
use crate::vfs::FileSystem;
use crate::vfs::types::FileSystemType;

pub(crate) use registry::{Added, Registration, Registry};
pub(crate) use state::FileSystems;

/// The file systems that belong to no other subsystem.
pub(crate) static REGISTRATION: Registration = Registration {
    file_systems: &[
        FileSystemType { name: "sysfs", make: sys::make },
        FileSystemType { name: "tmpfs", make: make_tmpfs },
        FileSystemType { name: "proc", make: proc::make },
        FileSystemType { name: "devtmpfs", make: dev::make },
        FileSystemType { name: "mqueue", make: mqueue::make },
    ],
    drivers: dev::DRIVERS,
    parameters: proc::parameters::PARAMETERS,
    ..Registration::EMPTY
};

fn make_tmpfs(kernel: &Arc<Kernel>, options: &str) -> Result<Arc<dyn FileSystem>, Errno> {
    let memory = kernel.mm.frames.limit();
    let options = TmpfsOptions::parse(options, memory)?.with_defaults(memory);
    kernel.id_maps.check_owner(options.uid, options.gid)?;
    Ok(TmpFs::new(&kernel.vfs, kernel.mm.frames.clone(), options))
}
