//! The random number devices (random(4)).

use std::any::Any;
use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::ioctl::IoctlRequest as Io;

use super::Opening;
use crate::error::{SysError, SysResult};
use crate::vfs::sigio::SignalIo;
use crate::vfs::{Caller, File, Inode};

/// The entropy of a ready pool, in bits.
pub(super) const ENTROPY: i32 = 256;

/// Either device: since Linux 5.6 they differ only before the pool is ready, and this one always is.
struct Random {
    inode: Arc<dyn Inode>,
}

pub(super) fn open(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    Ok(Arc::new(Random { inode: opening.inode.clone() }))
}

impl File for Random {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        getrandom::fill(buf).map_err(|_| Errno::EIO.here())?;
        Ok(buf.len())
    }

    /// `O_ASYNC` can be set, but the pool is always ready, so there are no events.
    fn signal_io(&self) -> SignalIo {
        SignalIo::Whole
    }

    /// Written data is discarded. random(4) permits mixing it into the pool, but does not require it.
    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        Ok(buf.len())
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        Ok((0, buf.len()))
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> SysResult {
        let command = Io::from_raw(command);
        if command == Io::RNDGETENTCNT {
            caller.write_object(argument, &ENTROPY)?;
            return Ok(0);
        }
        let changes = [Io::RNDADDTOENTCNT, Io::RNDADDENTROPY, Io::RNDZAPENTCNT, Io::RNDCLEARPOOL, Io::RNDRESEEDCRNG];
        if !changes.contains(&command) {
            return Err(Errno::EINVAL.here().into());
        }
        if !caller.credentials().has(Capability::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM.here().into());
        }
        if command == Io::RNDADDTOENTCNT || command == Io::RNDADDENTROPY {
            // The pool is full: a positive amount has no effect, a negative one is an error.
            if caller.read_object::<i32>(argument)? < 0 {
                return Err(Errno::EINVAL.here().into());
            }
        }
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
