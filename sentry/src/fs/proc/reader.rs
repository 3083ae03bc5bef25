//! Access to `/proc` from outside the sandbox.

use std::sync::{Arc, OnceLock};

use amber_abi::errno::Errno;

use crate::credentials::Credentials;
use crate::fs::pseudo::{PseudoInode, Reader};
use crate::kernel::Kernel;
use crate::vfs::FileSystem;

/// An instance of `/proc`, read with the credentials of the guest's superuser.
#[derive(Default)]
pub(crate) struct ProcReader(OnceLock<Arc<dyn FileSystem>>);

impl ProcReader {
    /// The content of a file or the target of a link, by the path below `/proc`.
    ///
    /// # Errors
    /// `ENOENT` if there is none; `EINVAL` if it is neither; `ESRCH` after the guest has ended.
    pub(crate) fn text(&self, kernel: &Arc<Kernel>, path: &str) -> Result<Vec<u8>, Errno> {
        let fs = match self.0.get() {
            Some(fs) => fs,
            None => {
                let fs = super::make(kernel, "")?;
                self.0.get_or_init(|| fs)
            }
        };
        let inode = path.split('/').try_fold(fs.root(), |inode, name| inode.lookup(name.as_bytes()))?;
        let task = kernel.init().and_then(|first| first.tasks().first().cloned()).ok_or_else(|| Errno::ESRCH.here())?;
        let root = task.fs().root();
        let reader = Reader { credentials: Arc::new(Credentials::root()), task, root };
        inode.as_any().downcast_ref::<PseudoInode>().ok_or_else(|| Errno::ENOENT.here())?.text(&reader)
    }
}
