//! The devices without content: null, zero and full (null(4), full(4)).

use std::any::Any;
use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::GuestMemory;

use super::Opening;
use crate::error::SysError;
use crate::mm::{Mappable, PageCache};
use crate::vfs::{File, Inode};

/// The length of a mapping object of `/dev/zero`, in bytes: more than any address space.
const ENDLESS: u64 = 1 << 62;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Zero,
    Full,
}

struct MemoryDevice {
    inode: Arc<dyn Inode>,
    kind: Kind,
    memory: Arc<GuestMemory>,
}

fn open(opening: &Opening<'_>, kind: Kind) -> Result<Arc<dyn File>, SysError> {
    let memory = opening.caller.kernel().mm.frames.clone();
    Ok(Arc::new(MemoryDevice { inode: opening.inode.clone(), kind, memory }))
}

pub(super) fn open_null(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    open(opening, Kind::Null)
}

pub(super) fn open_zero(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    open(opening, Kind::Zero)
}

pub(super) fn open_full(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    open(opening, Kind::Full)
}

impl File for MemoryDevice {
    fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<usize, Errno> {
        if self.kind == Kind::Null {
            return Ok(0);
        }
        buf.fill(0);
        Ok(buf.len())
    }

    fn write_at(&self, buf: &[u8], _: u64) -> Result<usize, Errno> {
        if self.kind == Kind::Full { Err(Errno::ENOSPC.here()) } else { Ok(buf.len()) }
    }

    fn discard(&self, len: usize) -> Option<Result<usize, Errno>> {
        Some(if self.kind == Kind::Full { Err(Errno::ENOSPC.here()) } else { Ok(len) })
    }

    fn keeps_position(&self) -> bool {
        false
    }

    fn append(&self, buf: &[u8]) -> Result<(u64, usize), Errno> {
        Ok((0, self.write_at(buf, 0)?))
    }

    /// Each mapping of zero has its own memory, as an anonymous one.
    fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        match self.kind {
            Kind::Zero => Ok(PageCache::in_memory(self.memory.clone(), ENDLESS)),
            Kind::Null | Kind::Full => Err(Errno::ENODEV.here()),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
