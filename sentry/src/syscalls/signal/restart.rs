//! restart_syscall(2), which continues a wait with a timeout after a signal without a handler.

use amber_abi::errno::Errno;

use crate::error::{Resume, SysResult};
use crate::syscalls::task::futex;
use crate::syscalls::{fs, time};
use crate::task::TaskContext;

/// restart_syscall(2).
pub(crate) fn restart_syscall(ctx: &mut TaskContext) -> SysResult {
    match ctx.thread.resume.take() {
        Some(Resume::Sleep { clock, until, remainder }) => time::sleep::resume(ctx, clock, until, remainder),
        Some(Resume::Poll { fds, count, until }) => fs::poll::resume(ctx, fds, count, until),
        Some(Resume::FutexWait { address, value, operation, mask, until }) => {
            futex::resume(ctx, address, value, operation, mask, until)
        }
        None => Err(Errno::EINTR.here().into()),
    }
}
