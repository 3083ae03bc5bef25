//! Magic links of a process: its program, working directory and root.

use amber_abi::errno::Errno;

use crate::fs::pseudo::Query;
use crate::vfs::Path;

/// The path as seen by the reader, with Linux' mark for removed names.
pub(crate) fn shown(path: &Path, query: &Query<'_>) -> Vec<u8> {
    let (mut text, _) = path.text(&query.reader.root);
    if path.dentry.is_removed() {
        text.extend_from_slice(b" (deleted)");
    }
    text
}

pub(super) fn cwd(query: &Query<'_>) -> Result<Path, Errno> {
    let task = query.task()?;
    if task.has_ended() { Err(Errno::ENOENT.here()) } else { Ok(task.fs().cwd()) }
}

pub(super) fn cwd_text(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(shown(&cwd(query)?, query))
}

pub(super) fn root(query: &Query<'_>) -> Result<Path, Errno> {
    let task = query.task()?;
    if task.has_ended() { Err(Errno::ENOENT.here()) } else { Ok(task.fs().root()) }
}

pub(super) fn root_text(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(shown(&root(query)?, query))
}

pub(super) fn exe(query: &Query<'_>) -> Result<Path, Errno> {
    let memory = query.task()?.memory().ok_or_else(|| Errno::ENOENT.here())?;
    let program = memory.with_layout(|layout| layout.executable.clone());
    program.and_then(|file| file.path().cloned()).ok_or_else(|| Errno::ENOENT.here())
}

pub(super) fn exe_text(query: &Query<'_>) -> Result<Vec<u8>, Errno> {
    Ok(shown(&exe(query)?, query))
}
