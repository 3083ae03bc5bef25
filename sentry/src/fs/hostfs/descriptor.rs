//! Descriptors of host files.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use amber_platform::{GuestMemory, KernelCharge, KernelPart};

/// Memory of the host kernel for an open file, with its inode and dentry, in bytes.
const OPEN_BYTES: u64 = 1536;

/// A host file that is open for the guest, which is charged for it.
pub(in crate::fs) struct Descriptor {
    file: File,
    _charge: KernelCharge,
}

impl Descriptor {
    pub(in crate::fs) fn new(memory: &Arc<GuestMemory>, file: OwnedFd) -> Arc<Descriptor> {
        Arc::new(Descriptor { file: file.into(), _charge: memory.charge(KernelPart::Files, OPEN_BYTES) })
    }
}

impl Deref for Descriptor {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use amber_abi::open::OpenFlags;
    use amber_host::trees::Start;

    use super::*;
    use crate::fs::hostfs;
    use crate::vfs::Vfs;

    #[test]
    fn what_is_open_of_a_tree_is_charged() {
        let place = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..10).map(|number| format!("file{number}")).collect();
        names.iter().for_each(|name| fs::write(place.path().join(name), "x").unwrap());
        let memory = GuestMemory::new(1 << 20).unwrap();
        let root = hostfs::open(&Vfs::new(), &memory, Start::Directory(File::open(place.path()).unwrap().into()), true)
            .unwrap()
            .root();
        let bytes = || memory.kernel_usage().files;
        let before = bytes();
        let open =
            |flags| names.iter().map(|name| root.lookup(name.as_bytes()).unwrap().open(flags).unwrap()).collect();
        let writers: Vec<_> = open(OpenFlags::O_RDWR);
        let writing = bytes();
        assert!(writing >= before + 10 * OPEN_BYTES);
        // A second description of the same file shares the descriptor.
        let more: Vec<_> = open(OpenFlags::O_RDWR);
        assert_eq!(bytes(), writing);
        drop((writers, more));
        assert_eq!(bytes(), writing - 10 * OPEN_BYTES);
        // A mapping keeps its file open.
        let pages: Vec<_> = open(OpenFlags::O_RDONLY)
            .into_iter()
            .map(|file: Arc<dyn crate::vfs::File>| file.mappable().unwrap())
            .collect();
        assert!(bytes() >= before + 10 * OPEN_BYTES);
        drop(pages);
    }
}
