//! Pages of mapped host files.

use std::sync::Arc;

use amber_abi::errno::Errno;
use amber_host::memory_io::FileAt;
use amber_platform::GuestMemory;

use super::descriptor::Descriptor;
use crate::mm::PageSource;
use crate::sync::{Mutex, Rank};

/// The host file that backs cached pages.
pub(in crate::fs) struct HostPages {
    reader: Arc<Descriptor>,
    /// Set when the file is first opened for writing.
    writer: Arc<Mutex<Option<Arc<Descriptor>>>>,
}

/// The writer of a file, shared with its [`HostPages`].
pub(in crate::fs) type WriterSlot = Arc<Mutex<Option<Arc<Descriptor>>>>;

impl HostPages {
    pub(in crate::fs) fn new(reader: Arc<Descriptor>) -> (Self, WriterSlot) {
        let writer: WriterSlot = Arc::new(Mutex::new(Rank::Leaf, None));
        (HostPages { reader, writer: writer.clone() }, writer)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_host(error)
}

impl PageSource for HostPages {
    fn read(&self, memory: &GuestMemory, place: u64, offset: u64, len: u64) -> Result<u64, Errno> {
        memory.fill_from(place, len, &self.reader, offset).map_err(errno)
    }

    fn write(&self, memory: &GuestMemory, place: u64, offset: u64, len: u64) -> Result<(), Errno> {
        let writer = self.writer.lock().clone().ok_or_else(|| Errno::EBADF.here())?;
        let mut file = FileAt { file: &writer, offset };
        let mut done = 0;
        while done < len {
            match memory.write_to(place + done, len - done, &mut file).map_err(errno)? {
                0 => return Err(Errno::EIO.here()),
                n => done += n as u64,
            }
        }
        Ok(())
    }
}
