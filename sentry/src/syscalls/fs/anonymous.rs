//! Descriptors of anonymous files, such as eventfds.

use std::sync::Arc;

use amber_abi::open::OpenFlags;

use crate::error::SysResult;
use crate::syscalls::fs::support::{check_open_files, descriptor_limit};
use crate::task::TaskContext;
use crate::vfs::{File, FileDescription};

/// Installs a file with the access mode `access` and, of `flags`, `O_NONBLOCK` and `O_CLOEXEC`. Returns the descriptor.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub(crate) fn install(ctx: &TaskContext, file: Arc<dyn File>, access: OpenFlags, flags: u32) -> SysResult {
    check_open_files(ctx)?;
    let flags = OpenFlags::from_bits_retain(flags);
    let description = FileDescription::new(&ctx.kernel().vfs, file, None, access | (flags & OpenFlags::O_NONBLOCK));
    let close_on_exec = flags.contains(OpenFlags::O_CLOEXEC);
    Ok(ctx.files().insert(description, close_on_exec, descriptor_limit(ctx))? as u64)
}
