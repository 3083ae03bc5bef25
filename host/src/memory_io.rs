//! Transfers between host files or sockets and guest memory, without a copy in between.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

/// An offset in an open file. Writing there does not move the file's own offset.
pub struct FileAt<'a> {
    /// The file.
    pub file: &'a File,
    /// The offset, which advances with each transfer.
    pub offset: u64,
}

impl FileAt<'_> {
    fn moved(&mut self, answer: isize) -> Result<usize, VolatileMemoryError> {
        let moved = moved(answer)?;
        self.offset += moved as u64;
        Ok(moved)
    }
}

impl WriteVolatile for FileAt<'_> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize, VolatileMemoryError> {
        let guard = buf.ptr_guard();
        // SAFETY: the guard keeps `buf.len()` bytes at the pointer valid for reads while the call runs.
        let answer = unsafe {
            libc::pwrite(self.file.as_raw_fd(), guard.as_ptr().cast(), buf.len(), self.offset as libc::off_t)
        };
        self.moved(answer)
    }
}

/// A host socket, for sending and receiving without blocking.
pub struct SocketBytes<'a>(pub BorrowedFd<'a>);

fn moved(answer: isize) -> Result<usize, VolatileMemoryError> {
    usize::try_from(answer).map_err(|_| VolatileMemoryError::IOError(std::io::Error::last_os_error()))
}

impl ReadVolatile for SocketBytes<'_> {
    fn read_volatile<B: BitmapSlice>(&mut self, buf: &mut VolatileSlice<'_, B>) -> Result<usize, VolatileMemoryError> {
        let guard = buf.ptr_guard_mut();
        // SAFETY: the guard keeps `buf.len()` bytes at the pointer valid for writes while the call runs; there are no
        // Rust references to volatile memory.
        moved(unsafe { libc::read(self.0.as_raw_fd(), guard.as_ptr().cast(), buf.len()) })
    }
}

impl WriteVolatile for SocketBytes<'_> {
    fn write_volatile<B: BitmapSlice>(&mut self, buf: &VolatileSlice<'_, B>) -> Result<usize, VolatileMemoryError> {
        let guard = buf.ptr_guard();
        // SAFETY: the guard keeps `buf.len()` bytes at the pointer valid for reads while the call runs.
        moved(unsafe { libc::write(self.0.as_raw_fd(), guard.as_ptr().cast(), buf.len()) })
    }
}
