//! Descriptors for files that a call makes out of nothing.

use std::sync::Arc;

use amber_abi::open::OpenFlags;

use crate::error::SysResult;
use crate::syscalls::fs::support::{check_open_files, descriptor_limit};
use crate::task::TaskContext;
use crate::vfs::{File, FileDescription};

/// Opens a descriptor for a file: `access` is its access mode, of `flags`, `O_NONBLOCK` and `O_CLOEXEC` count.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn install(ctx: &TaskContext, file: Arc<dyn File>, access: OpenFlags, flags: u32) -> SysResult {
    check_open_files(ctx)?;
    let flags = OpenFlags::from_bits_retain(flags);
    let description = FileDescription::new(&ctx.kernel().vfs, file, None, access | (flags & OpenFlags::O_NONBLOCK));
    let close_on_exec = flags.contains(OpenFlags::O_CLOEXEC);
    Ok(ctx.files().insert(description, close_on_exec, descriptor_limit(ctx))? as u64)
}
