//! Transfer of data between guest memory and files.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use amber_abi::errno::Errno;
use amber_abi::open::{Iovec, MAX_RW_COUNT, UIO_MAXIOV};

use crate::interruption;
use crate::slices::at_most_mut;
use crate::task::TaskContext;

/// Maximum number of bytes in one step. No packet socket has longer messages, so none is split.
const CHUNK: usize = 256 << 10;

/// Transfers of at least this many bytes go directly between guest memory and a host socket. For smaller ones, a copy
/// costs less than the look-up of the pages.
pub(crate) const DIRECT: u64 = 16 << 10;

/// Maximum number of bytes of a direct transfer, during which the address space is locked.
pub(crate) const AT_ONCE: usize = 1 << 20;

thread_local! {
    /// The bounce buffer, kept between calls by each host thread.
    static BOUNCE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with a buffer of at least `len` bytes (at most [`CHUNK`]).
///
/// # Errors
/// Those of `work`; `ENOMEM` if the buffer is longer than the memory limit permits.
pub(crate) fn with_bounce<T, E: From<Errno>>(
    ctx: &TaskContext,
    len: usize,
    work: impl FnOnce(&mut [u8]) -> Result<T, E>,
) -> Result<T, E> {
    let mut buffer = BOUNCE.take();
    let len = len.min(CHUNK);
    let result = if len <= buffer.len() { Ok(()) } else { lengthen(ctx, &mut buffer, len.next_power_of_two()) };
    let result = result.map_err(E::from).and_then(|()| work(at_most_mut(&mut buffer, len)));
    BOUNCE.set(buffer);
    result
}

#[cold]
fn lengthen(ctx: &TaskContext, buffer: &mut Vec<u8>, len: usize) -> Result<(), Errno> {
    ctx.kernel().mm.frames.reserve(buffer, len - buffer.len())?;
    buffer.resize(len, 0);
    Ok(())
}

/// Returns `EFAULT` for a range beyond the guest's address space.
fn check_range(ctx: &TaskContext, address: u64, len: u64) -> Result<(), Errno> {
    let limit = ctx.kernel().platform.address_limit();
    address.checked_add(len).filter(|&end| end <= limit).map(drop).ok_or_else(|| Errno::EFAULT.here())
}

/// A vector of buffers in guest memory, consumed from the front.
pub(crate) struct Memory {
    pieces: Vec<(u64, u64)>,
    at: usize,
    left: u64,
}

impl Memory {
    /// A single buffer.
    ///
    /// # Errors
    /// `EFAULT` if it extends beyond the guest's address space.
    pub(crate) fn plain(ctx: &TaskContext, address: u64, count: usize) -> Result<Self, Errno> {
        check_range(ctx, address, count as u64)?;
        let count = (count as u64).min(MAX_RW_COUNT as u64);
        Ok(Memory { pieces: vec![(address, count)], at: 0, left: count })
    }

    /// The buffers of an `iovec` array.
    ///
    /// # Errors
    /// `EINVAL` for too many buffers or a negative length; `EFAULT`.
    pub(crate) fn vector(ctx: &TaskContext, address: u64, count: usize) -> Result<Self, Errno> {
        if count > UIO_MAXIOV {
            return Err(Errno::EINVAL.here());
        }
        let vector: Vec<Iovec> = ctx.read_array(address, count)?;
        let mut left = 0;
        let mut pieces = Vec::with_capacity(count);
        for piece in vector {
            if piece.iov_len > i64::MAX as u64 {
                return Err(Errno::EINVAL.here());
            }
            check_range(ctx, piece.iov_base, piece.iov_len)?;
            let len = piece.iov_len.min(MAX_RW_COUNT as u64 - left);
            pieces.push((piece.iov_base, len));
            left += len;
        }
        Ok(Memory { pieces, at: 0, left })
    }

    /// The number of remaining bytes.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Copies data to guest memory and consumes it. If the result is less than the length, the rest cannot be written.
    pub(super) fn put(&mut self, ctx: &TaskContext, mut data: &[u8]) -> usize {
        let mm = ctx.mm();
        let mut done = 0;
        while !data.is_empty() {
            let Some((address, len)) = self.pieces.get_mut(self.at) else { break };
            if *len == 0 {
                self.at += 1;
                continue;
            }
            let n = (*len).min(data.len() as u64) as usize;
            let (part, rest) = data.split_at(n);
            let copied = mm.write_partial(*address, part);
            *address += copied as u64;
            *len -= copied as u64;
            self.left -= copied as u64;
            done += copied;
            if copied < n {
                break;
            }
            data = rest;
        }
        done
    }

    /// Copies from guest memory without consuming it.
    pub(super) fn peek(&self, ctx: &TaskContext, buf: &mut [u8]) -> usize {
        let mm = ctx.mm();
        let mut done = 0;
        for &(address, len) in self.pieces.iter().skip(self.at) {
            let Some(left) = buf.get_mut(done..) else { break };
            let part = at_most_mut(left, len as usize);
            let copied = mm.read_partial(address, part);
            done += copied;
            if copied < part.len() || done == buf.len() {
                break;
            }
        }
        done
    }

    /// Receives from a host socket without blocking, and consumes what was received.
    pub(super) fn receive(&mut self, ctx: &TaskContext, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        self.exchange(|address, len| ctx.mm().receive(address, len, socket))
    }

    /// Sends to a host socket without blocking, and consumes what was sent.
    pub(super) fn send(&mut self, ctx: &TaskContext, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        self.exchange(|address, len| ctx.mm().send(address, len, socket))
    }

    fn exchange(&mut self, step: impl Fn(u64, usize) -> Result<usize, Errno>) -> Result<usize, Errno> {
        let mut done = 0;
        while let Some(&(address, len)) = self.pieces.get(self.at).filter(|_| self.left > 0) {
            let part = (len as usize).min(AT_ONCE);
            let moved = match step(address, part) {
                Err(_) if done > 0 => break,
                moved => moved?,
            };
            done += moved;
            self.use_up(moved);
            if moved < part || interruption::is_killed() {
                break;
            }
        }
        Ok(done)
    }

    /// The number of the next `len` bytes that can be written.
    pub(super) fn room(&self, ctx: &TaskContext, len: usize) -> usize {
        let mut done = 0;
        for &(address, piece) in self.pieces.iter().skip(self.at) {
            let n = (len - done).min(piece as usize);
            let ready = if n > 0 { ctx.mm().prepare_write(address, n) } else { 0 };
            done += ready;
            if ready < n || done == len {
                break;
            }
        }
        done
    }

    /// Consumes bytes.
    pub(super) fn use_up(&mut self, mut count: usize) {
        self.left -= count as u64;
        while let Some((address, len)) = self.pieces.get_mut(self.at) {
            let n = (*len).min(count as u64);
            *address += n;
            *len -= n;
            count -= n as usize;
            if *len > 0 {
                break;
            }
            self.at += 1;
        }
    }
}
