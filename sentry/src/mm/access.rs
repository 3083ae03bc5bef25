//! The sentry's own access to guest memory: copies, and atomic access to words.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use amber_abi::errno::Errno;
use amber_host::memory_io::SocketBytes;
use amber_platform::PAGE_SIZE;
use zerocopy::{FromBytes, IntoBytes};

use super::fault::Fault;
use super::manager::{MemoryManager, State};
use super::vma::VmaFlags;
use crate::mm::Mappable;
use crate::slices::{at_most, at_most_mut};

/// Whether the protection of the VMA applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Force {
    /// It applies, as to the guest's own instructions.
    No,
    /// Access as by a debugger (Linux: `FOLL_FORCE`): everything that mprotect(2) could allow is allowed; stores to
    /// private VMAs copy.
    Yes,
}

impl MemoryManager {
    /// Copies from guest memory. Returns the number of bytes before the first that cannot be read.
    pub(crate) fn read_partial(&self, address: u64, buf: &mut [u8]) -> usize {
        self.read_with(address, buf, Force::No)
    }

    /// Copies to guest memory. Returns the number of bytes before the first that cannot be written.
    pub(crate) fn write_partial(&self, address: u64, buf: &[u8]) -> usize {
        self.write_with(address, buf, Force::No)
    }

    /// Copies from guest memory, all of `buf` or `EFAULT`.
    pub(crate) fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.read_partial(address, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT.here()) }
    }

    /// Copies a structure from guest memory, all of it or `EFAULT`.
    pub(crate) fn read_object<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut object = T::new_zeroed();
        self.read(address, object.as_mut_bytes())?;
        Ok(object)
    }

    /// Copies to guest memory, all of `buf` or `EFAULT` (then a part may have been written, as on Linux).
    pub(crate) fn write(&self, address: u64, buf: &[u8]) -> Result<(), Errno> {
        if self.write_partial(address, buf) == buf.len() { Ok(()) } else { Err(Errno::EFAULT.here()) }
    }

    /// Like [`read_partial`](Self::read_partial), but with the access of a debugger or `/proc/PID/mem`: whatever the
    /// protection.
    pub(crate) fn read_forced(&self, address: u64, buf: &mut [u8]) -> usize {
        self.read_with(address, buf, Force::Yes)
    }

    /// Like [`write_partial`](Self::write_partial), but with the access of a debugger or `/proc/PID/mem`: to private
    /// VMAs whatever the protection, but not to read-only shared ones.
    pub(crate) fn write_forced(&self, address: u64, buf: &[u8]) -> usize {
        self.write_with(address, buf, Force::Yes)
    }

    /// Makes memory present and writable, and returns how many bytes from `address` on are. A read(2) then takes no
    /// more from a pipe than it can deliver.
    pub(crate) fn prepare_write(&self, address: u64, len: usize) -> usize {
        self.with(|state| {
            let mut done = 0;
            while done < len {
                match self.extent(state, address.wrapping_add(done as u64), true, Force::No) {
                    Ok((_, run)) => done += (len - done).min(run as usize),
                    Err(_) => break,
                }
            }
            done
        })
    }

    /// Receives at most `len` bytes from a host socket directly into guest memory, without blocking. Only unwritable
    /// memory makes it return less than the socket has.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be written; those of recv(2).
    pub(crate) fn receive(&self, address: u64, len: usize, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        self.exchange(address, len, true, |offset, run| self.memory.read_from(offset, run, &mut SocketBytes(socket)))
    }

    /// Sends guest memory directly to a host socket, without blocking, as much as the socket accepts.
    ///
    /// # Errors
    /// `EFAULT` if the first byte cannot be read; those of send(2).
    pub(crate) fn send(&self, address: u64, len: usize, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        self.exchange(address, len, false, |offset, run| self.memory.write_to(offset, run, &mut SocketBytes(socket)))
    }

    /// Moves bytes between memory and a non-blocking socket, until a step moves less than it was given. The lock of the
    /// address space keeps the frames in place.
    fn exchange(
        &self,
        address: u64,
        len: usize,
        write: bool,
        step: impl Fn(u64, u64) -> std::io::Result<usize>,
    ) -> Result<usize, Errno> {
        self.with(|state| {
            let mut done = 0;
            while done < len {
                let Ok((offset, run)) = self.extent(state, address.wrapping_add(done as u64), write, Force::No) else {
                    return if done > 0 { Ok(done) } else { Err(Errno::EFAULT.here()) };
                };
                let part = run.min((len - done) as u64);
                match step(offset, part) {
                    Ok(moved) => {
                        done += moved;
                        if (moved as u64) < part {
                            break;
                        }
                    }
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(Errno::from_host(error)),
                }
            }
            Ok(done)
        })
    }

    fn read_with(&self, address: u64, buf: &mut [u8], force: Force) -> usize {
        self.with(|state| {
            let mut done = 0;
            while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
                let Ok((offset, run)) = self.extent(state, address.wrapping_add(done as u64), false, force) else {
                    break;
                };
                let part = at_most_mut(rest, run as usize);
                self.memory.read(offset, part);
                done += part.len();
            }
            done
        })
    }

    fn write_with(&self, address: u64, buf: &[u8], force: Force) -> usize {
        self.with(|state| {
            let mut done = 0;
            while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
                let Ok((offset, run)) = self.extent(state, address.wrapping_add(done as u64), true, force) else {
                    break;
                };
                let part = at_most(rest, run as usize);
                self.memory.write(offset, part);
                done += part.len();
            }
            done
        })
    }

    /// Runs `work` on an aligned 32-bit word, which stays mapped meanwhile. `write` makes its page writable.
    ///
    /// The lock of the address space is held: `work` may take futex locks, but not access guest memory.
    ///
    /// # Errors
    /// `EFAULT` if the word cannot be accessed. The caller checks the alignment.
    pub(crate) fn with_word<R>(
        &self,
        address: u64,
        write: bool,
        work: impl FnOnce(&AtomicU32) -> R,
    ) -> Result<R, Errno> {
        self.with(|state| {
            let (offset, _) = self.extent(state, address & !3, write, Force::No).map_err(|_| Errno::EFAULT.here())?;
            Ok(work(self.memory.atomic_u32(offset)))
        })
    }

    /// The object that is mapped shared at an address, and the offset in it; none for private memory.
    ///
    /// # Errors
    /// `EFAULT` if nothing is mapped there.
    pub(crate) fn shared_object(&self, address: u64) -> Result<Option<(Arc<dyn Mappable>, u64)>, Errno> {
        self.with(|state| {
            let (area, _) = self.locate(state, address).map_err(|_| Errno::EFAULT.here())?;
            let shared = area.object().filter(|_| area.is_shared());
            Ok(shared.map(|object| (object.object.clone(), area.offset_of(address))))
        })
    }

    /// The offset in the memfd of an address, and the number of contiguous bytes there. Checks the protection, and
    /// makes the page present.
    fn extent(&self, state: &mut State, address: u64, write: bool, force: Force) -> Result<(u64, u64), Fault> {
        // At most three rounds: the stack grows, the page is made present, the page is found.
        for _ in 0..3 {
            let Some(area) = state.areas.find(address) else {
                self.locate(state, address)?;
                continue;
            };
            let protection = area.protection;
            let allowed = match (write, force) {
                (false, Force::No) => protection.read || protection.write || protection.execute,
                (true, Force::No) => protection.write,
                (false, Force::Yes) => area.flags.contains(VmaFlags::MAY_READ),
                (true, Force::Yes) => {
                    protection.write || (!area.is_shared() && area.flags.contains(VmaFlags::MAY_WRITE))
                }
            };
            if !allowed {
                return Err(Fault::Denied);
            }
            if let Some((start, run)) = state.runs.find(address)
                && (!write || run.ownership.is_writable())
            {
                let frames = run.frames.range();
                let from = address - start;
                return Ok((frames.start + from, (frames.len - from).min(area.end - address)));
            }
            let area = area.clone();
            self.bring(state, &area, address & !(PAGE_SIZE - 1), write)?;
        }
        Err(Fault::NoPage)
    }
}
