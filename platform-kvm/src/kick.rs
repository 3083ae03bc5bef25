//! The signal that brings a thread out of the machine.

use std::sync::Once;

use amber_platform::PlatformError;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet};
use nix::unistd::Pid;

use crate::platform_error;

/// The last real-time signal: nobody sends it by accident.
fn number() -> i32 {
    libc::SIGRTMAX()
}

extern "C" fn ignore(_: libc::c_int) {}

/// Makes the signal harmless, but noticed.
pub fn prepare() -> Result<(), PlatformError> {
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

/// Sends it to a thread, which may have ended.
pub fn send(process: Pid, thread: Pid) {
    // SAFETY: touches no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, process.as_raw(), thread.as_raw(), number()) };
}
