//! Publishing the process ID of a sandbox or proxy: `--pid-file` and `--pidfd-socket`.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use amber_host::channel::send_file;
use amber_host::process::ProcessHandle;
use anyhow::{Context, Result};

use super::store::write_whole;

/// Writes a process ID to `file` and sends a pidfd to `socket`, if given.
///
/// # Errors
/// The file cannot be written, or nothing listens at the socket.
pub(crate) fn write(pid: i32, file: Option<&PathBuf>, socket: Option<&PathBuf>) -> Result<()> {
    if let Some(path) = socket {
        let named = || format!("pidfd socket {}", path.display());
        let handle = ProcessHandle::open(pid).with_context(named)?;
        let socket = UnixStream::connect(path).with_context(named)?;
        send_file(&socket, b"pidfd", handle.as_fd()).with_context(named)?;
    }
    file.map_or(Ok(()), |path| write_whole(path, &pid.to_string()))
}
