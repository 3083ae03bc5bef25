//! The file systems, and the kinds of files that are in none.

pub mod copy;
pub mod dev;
pub mod eventfd;
pub mod host_stream;
pub mod hostfs;
pub mod hostkernel;
pub mod mqueue;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
mod registry;
pub mod signalfd;
mod special;
mod state;
pub mod sys;
pub mod timerfd;
pub mod tmpfs;

use std::sync::Arc;

use amber_abi::errno::Errno;

use self::tmpfs::{TmpFs, TmpfsOptions};
use crate::kernel::Kernel;
use crate::vfs::FileSystem;
use crate::vfs::types::FileSystemType;

pub use registry::{Added, HostIoctl, Registration, Registry};
pub use state::FileSystems;

/// The file systems that belong to no other subsystem.
pub static REGISTRATION: Registration = Registration {
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
    Ok(TmpFs::new(&kernel.vfs, kernel.mm.frames.clone(), TmpfsOptions::parse(options, memory)?.with_defaults(memory)))
}
