//! The signal that makes a thread leave the guest.

use std::sync::Once;

use amber_platform::PlatformError;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet};
use nix::unistd::Pid;

use crate::platform_error;

/// The last real-time signal, which is unlikely to be sent for other reasons.
fn number() -> i32 {
    libc::SIGRTMAX()
}

extern "C" fn ignore(_: libc::c_int) {}

/// Installs an empty handler, so that the signal interrupts `KVM_RUN` and does nothing else.
pub(crate) fn prepare() -> Result<(), PlatformError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
        let mut raw: libc::sigaction = action.into();
        raw.sa_flags = 0;
        // SAFETY: the handler does nothing, so it may run anywhere; no one else in the process uses this signal.
        if unsafe { libc::sigaction(number(), &raw, std::ptr::null_mut()) } != 0 {
            result = Err(platform_error("preparing a signal", std::io::Error::last_os_error()));
        }
    });
    result
}

/// Sends the signal to a thread. A thread that has ended is ignored.
pub(crate) fn send(process: Pid, thread: Pid) {
    // SAFETY: touches no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), thread.as_raw(), number()) };
}
