//! Opening special files: devices, fifos and sockets.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;
use amber_abi::stat::FileType;

use crate::error::SysError;
use crate::fs::host_stream::HostStreamInode;
use crate::fs::{Registry, dev, pipe};
use crate::vfs::{Caller, File, Path};

/// Opens a device node, a fifo or a socket's name.
///
/// # Errors
/// `ENXIO` for sockets and for devices without a driver; errors of the driver.
pub(super) fn open(
    registry: &Registry,
    caller: &dyn Caller,
    path: &Path,
    flags: OpenFlags,
) -> Result<Arc<dyn File>, SysError> {
    let inode = path.inode()?;
    if inode.as_any().is::<HostStreamInode>() {
        return Ok(inode.clone().open(flags)?);
    }
    match inode.kind() {
        FileType::Fifo => pipe::open_fifo(caller, inode.clone(), flags),
        FileType::CharacterDevice | FileType::BlockDevice => dev::open(registry, caller, path, flags),
        _ => Err(Errno::ENXIO.here().into()),
    }
}
