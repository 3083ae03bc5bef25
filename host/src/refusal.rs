//! Ends the process with a report when Amber makes a host call that is not on the list.

use std::ffi::c_void;
use std::io::{self, Cursor, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use crate::{calls, terminal};

/// Exit status of a sandbox that made a forbidden call, as for all internal failures of Amber.
const STATUS: i32 = 125;

/// Where the report goes, and the function that names calls that are not on the list.
static REPORT: OnceLock<(OwnedFd, fn(i64) -> Option<&'static str>)> = OnceLock::new();

/// Installs the handler: a host call that the seccomp filter traps writes one line to `log` and ends the process with
/// status 125.
///
/// # Errors
/// The handler cannot be installed.
pub fn prepare(log: OwnedFd, name: fn(i64) -> Option<&'static str>) -> io::Result<()> {
    // A second call keeps the first log.
    let _ = REPORT.set((log, name));
    // SAFETY: a structure of integers, for which zero is a value; the handler has the signature that SA_SIGINFO asks for
    // and makes only async-signal-safe calls.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = refused as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The signal handler. It does not allocate and takes no lock.
extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the host's kernel passes both structures to a handler with SA_SIGINFO, valid for the time of the call. Of a
    // SIGSYS the number of the call is the third word behind the header of four.
    let (number, registers) = unsafe {
        let number = info.cast::<i32>().add(6).read();
        (i64::from(number), (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs)
    };
    terminal::restore_if_free();
    let Some((log, name)) = REPORT.get() else { end() };
    let name = calls::name(number).or_else(|| name(number)).unwrap_or("unknown");
    let [a, b, c, d] =
        [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10].map(|register| registers[register as usize]);
    let mut line = [0; 256];
    let mut text = Cursor::new(&mut line[..]);
    let _ = writeln!(
        text,
        "amber: error: host call {name} ({number}) with {a:#x}, {b:#x}, {c:#x}, {d:#x} is not on the list that `amber \
         host-calls` prints: the sandbox ends"
    );
    let len = text.position() as usize;
    // SAFETY: the bytes are those of `line`, of which `len` were written.
    unsafe { libc::write(log.as_raw_fd(), line.as_ptr().cast(), len) };
    end()
}

fn end() -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(STATUS) }
}
