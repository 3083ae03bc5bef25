//! The terminal devices: tty(4), console(4), ptmx(4) and pts(4).

use std::os::fd::AsFd;
use std::sync::Arc;

use amber_abi::capability::Capability;
use amber_abi::errno::Errno;
use amber_abi::open::OpenFlags;

use crate::error::SysError;
use crate::fs::dev::Opening;
use crate::fs::host_stream;
use crate::task::{ProcessTable, TaskContext};
use crate::tty::devpts::{self, DevPts};
use crate::tty::{Pty, acquire_if_free};
use crate::vfs::{File, Inode};

/// Opens the slave of a pair through `inode`. Without `O_NOCTTY` it may become the caller's controlling terminal.
fn open_pty(
    opening: &Opening<'_>,
    pty: &Arc<Pty>,
    inode: Arc<dyn Inode>,
    may_control: bool,
) -> Result<Arc<dyn File>, SysError> {
    let privileged = opening.caller.credentials().has(Capability::CAP_SYS_ADMIN);
    let file = pty.open_slave(inode, privileged)?;
    // A write-only descriptor does not make it the controlling terminal, which grants more rights.
    let readable = !opening.flags.writes() || opening.flags.reads();
    if may_control && readable && !opening.flags.contains(OpenFlags::O_NOCTTY) {
        acquire_if_free(TaskContext::of(opening.caller)?, pty);
    }
    Ok(file)
}

/// `/dev/tty`: the controlling terminal of the caller's session.
pub(super) fn open_controlling(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    let ctx = TaskContext::of(opening.caller)?;
    let Some(terminal) = ctx.controlling_terminal() else { return open_host(ctx) };
    let pty = terminal.as_any().downcast_ref::<Pty>().and_then(Pty::this).ok_or_else(|| Errno::ENXIO.here())?;
    open_pty(opening, &pty, opening.inode.clone(), false)
}

/// The host's terminal, which is the controlling terminal of the first session if it has no other.
fn open_host(ctx: &TaskContext) -> Result<Arc<dyn File>, SysError> {
    let kernel = ctx.kernel();
    let terminal = kernel.tty.host.as_ref().ok_or_else(|| Errno::ENXIO.here())?;
    let session = kernel.processes.lock().process(ctx.group().pid()).map(|process| process.sid);
    if session != Some(ProcessTable::INIT) {
        return Err(Errno::ENXIO.here().into());
    }
    Ok(host_stream::open_terminal(&kernel.vfs, terminal.as_fd(), &kernel.mm.frames)?)
}

/// `/dev/console`: the sandbox's own terminal, if it has one. Opening it never makes it the controlling terminal.
pub(super) fn open_console(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    let console = opening.caller.kernel().tty.console.get().ok_or_else(|| Errno::ENODEV.here())?;
    open_pty(opening, console.pty(), opening.inode.clone(), false)
}

/// `/dev/ptmx`: makes a new pair in the devpts instance that the node belongs to or that is mounted beside it.
pub(super) fn open_master(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    let (instance, root) = DevPts::beside(opening.path).ok_or_else(|| Errno::ENODEV.here())?;
    Ok(instance.open_master(opening.caller, opening.inode.clone(), root)?)
}

/// A slave. Its node must be one of devpts, wherever that is mounted.
pub(super) fn open_slave(opening: &Opening<'_>) -> Result<Arc<dyn File>, SysError> {
    let pty = devpts::pty_of(&opening.inode).ok_or_else(|| Errno::EIO.here())?;
    open_pty(opening, &pty, opening.inode.clone(), true)
}
