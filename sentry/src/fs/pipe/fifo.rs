//! Opening fifos (fifo(7)).

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;

use super::{PipeEnd, PipeInode};
use crate::error::{Restart, SysError};
use crate::vfs::{Caller, File, Inode};
use crate::wait::{READABLE, WRITABLE};

/// Opens a fifo's inode. Unless `O_NONBLOCK` or `O_RDWR` is set, waits for an opener of the other end. The inode of a
/// pipe (found through `/proc/PID/fd`) is opened without waiting.
///
/// # Errors
/// `ENXIO` for `O_NONBLOCK | O_WRONLY` without a reader; a restart if a signal ends the wait; `ENOMEM` at the user's
/// limit of pages in pipes.
pub(crate) fn open_fifo(
    caller: &dyn Caller,
    inode: Arc<dyn Inode>,
    flags: OpenFlags,
) -> Result<Arc<dyn File>, SysError> {
    if inode.as_any().is::<PipeInode>() {
        return Ok(inode.open(flags)?);
    }
    let pipe = caller.kernel().fs.pipes.of_inode(&inode, &caller.credentials())?;
    let mode = flags & OpenFlags::O_ACCMODE;
    let nonblocking = flags.contains(OpenFlags::O_NONBLOCK);
    if mode == OpenFlags::O_WRONLY && nonblocking && pipe.state.lock().readers == 0 {
        return Err(Errno::ENXIO.here().into());
    }
    let (end, partner) = PipeEnd::join(&pipe, inode, None, flags);
    pipe.queue.notify(READABLE | WRITABLE);
    if partner.is_missing && mode != OpenFlags::O_RDWR && !nonblocking {
        // The count also changes if the other end was opened and closed again.
        let mut came = || end.partner_opens() != partner.opens;
        caller.wait(&[(&pipe.queue, READABLE | WRITABLE)], None, &mut came).map_err(|_| Restart::ByFlag)?;
    }
    Ok(Arc::new(end))
}
