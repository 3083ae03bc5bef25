//! Guest memory management: areas, page faults, the page cache, and the sentry's own access to guest memory.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_platform::{AddressSpace, Frames};

/// An object whose pages can be mapped: a file of some file system, a memfd, shared anonymous memory.
pub trait Mappable: Send + Sync {
    /// The frames that hold the object's bytes from `offset` on: at least one page, at most `most` bytes (both page
    /// aligned), read in if need be. With `write`, the pages count as dirty from now on.
    ///
    /// # Errors
    /// `EFAULT` past the end (the guest gets SIGBUS), `EIO`, `ENOMEM`, `ENOSPC`.
    fn frames(&self, offset: u64, most: u64, write: bool) -> Result<Frames, Errno>;

    /// Length of the object in bytes now.
    fn len(&self) -> u64;

    /// An area shows the object from now on: whoever cuts the object must take the pages away from it.
    fn attach(&self, mapping: Arc<dyn Mapping>);

    /// The area is gone.
    fn detach(&self, mapping: &Arc<dyn Mapping>);

    /// Writes changed pages of the range to where they last (`msync`).
    fn write_back(&self, offset: u64, len: u64) -> Result<(), Errno>;
}

/// An address space that shows some part of a [`Mappable`].
pub trait Mapping: Send + Sync {
    /// Takes the object's pages from `offset` on away, in every area: the next touch faults. `even_private` also drops
    /// private copies (truncation does, hole punching does not). Returns when no guest can reach the frames.
    fn invalidate(&self, object: &dyn Mappable, offset: u64, len: u64, even_private: bool);
}

/// The memory of a guest process.
pub struct MemoryManager {
    space: Arc<dyn AddressSpace>,
}

impl MemoryManager {
    /// The platform's side.
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Copies from guest memory; answers how many bytes could be read before the first that could not.
    pub fn read_partial(&self, _address: u64, _buf: &mut [u8]) -> usize {
        0
    }

    /// Copies to guest memory; answers how many bytes could be written before the first that could not.
    pub fn write_partial(&self, _address: u64, _buf: &[u8]) -> usize {
        0
    }

    /// Copies from guest memory, all or `EFAULT`.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.read_partial(address, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies to guest memory, all or `EFAULT` (then a part may have been written, as on Linux).
    pub fn write(&self, address: u64, buf: &[u8]) -> Result<(), Errno> {
        if self.write_partial(address, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }
}
