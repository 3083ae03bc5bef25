//! Sockets.

pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod sockets;

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::task::Resource;

use crate::net::socket::{Socket, SocketFile};
use crate::task::TaskContext;
use crate::vfs::FileDescription;

/// The socket of a descriptor, with its open file description.
struct Opened {
    description: Arc<FileDescription>,
    socket: Arc<dyn Socket>,
}

/// Finds the socket of a descriptor.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
fn find(ctx: &TaskContext, fd: i32) -> Result<Opened, Errno> {
    let description = ctx.files().get(fd)?;
    let socket = description.downcast::<SocketFile>().ok_or_else(|| Errno::ENOTSOCK.here())?.socket().clone();
    Ok(Opened { description, socket })
}

/// The maximum number of descriptors of the process.
fn descriptor_limit(ctx: &TaskContext) -> u64 {
    ctx.group().limits().soft(Resource::RLIMIT_NOFILE)
}
