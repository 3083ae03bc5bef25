//! ptrace(2) and waitpid(2), one small function for each use. The requests and [`wait`] are for the tracer only.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use amber_platform::{DebugRegisters, Registers};

/// Trace options of stubs: mark system call stops, and kill the tracee when its tracer ends.
const OPTIONS: usize = (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL) as usize;
/// The register set with the XSAVE area.
const NT_X86_XSTATE: usize = 0x202;
/// `AUDIT_ARCH_I386`.
const I386: u32 = 0x4000_0003;
/// Numbers of the debug status and debug control register.
const STATUS: usize = 6;
const CONTROL: usize = 7;
/// `si_code` of a SIGSEGV for an access that the thread's protection keys forbid.
pub(crate) const SEGV_PKUERR: i32 = 4;
/// Marks a system call stop, with [`libc::PTRACE_O_TRACESYSGOOD`].
const SYSCALL_MARK: i32 = 0x80;

/// Why a traced thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is at the entry of a system call.
    Syscall,
    /// A signal is about to be delivered.
    Signal(i32),
    /// `PTRACE_INTERRUPT`, or a group stop.
    Event,
    /// It has ended, with this wait status.
    Gone(i32),
}

/// The fields in use of a `siginfo_t`.
pub(crate) struct SignalInfo {
    /// `si_code`.
    pub code: i32,
    /// `si_addr`, where the signal has one.
    pub address: u64,
    /// `si_syscall`, for SIGSYS.
    pub syscall: i32,
}

fn request(request: libc::c_uint, tid: i32, address: usize, data: *mut c_void) -> io::Result<()> {
    // SAFETY: the callers pass as `data` either a number or a pointer to what the request reads or writes, valid for the
    // time of the call; the requests change no other memory of this process.
    match unsafe { libc::ptrace(request, tid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Reads a word by one of the `PTRACE_PEEK*` requests.
fn peek(request: libc::c_uint, tid: i32, address: usize) -> io::Result<u64> {
    let mut word = 0u64;
    // The raw system call, unlike its wrapper, stores the word at `data`.
    // SAFETY: `word` is a valid place for it, and nothing else of this process is changed.
    match unsafe { libc::syscall(libc::SYS_ptrace, request, tid, address, &raw mut word) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(word),
    }
}

/// Attaches to a thread without stopping it.
pub(crate) fn seize(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, OPTIONS as *mut c_void)
}

/// Sets the options of a child that called `PTRACE_TRACEME`, as [`seize`] does.
pub(crate) fn set_options(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SETOPTIONS, tid, 0, OPTIONS as *mut c_void)
}

/// Makes a seized thread stop.
pub(crate) fn interrupt(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0, null_mut())
}

/// Detaches from a stopped thread, which then runs.
pub(crate) fn detach(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, tid, 0, null_mut())
}

/// Resumes the thread, whose system calls are executed. The signal that stopped it, if any, is discarded.
pub(crate) fn resume(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, 0, null_mut())
}

/// Resumes the thread, which stops at system calls; they are not executed. The signal that stopped it, if any, is
/// discarded.
pub(crate) fn resume_emulating(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSEMU, tid, 0, null_mut())
}

/// Reads the general registers.
pub(crate) fn registers(tid: i32, registers: &mut Registers) -> io::Result<()> {
    // `Registers` has the layout of `user_regs_struct`, which this request fills.
    request(libc::PTRACE_GETREGS, tid, 0, (&raw mut *registers).cast())
}

/// Writes the general registers.
///
/// # Errors
/// EIO for values that the host refuses.
pub(crate) fn set_registers(tid: i32, registers: &Registers) -> io::Result<()> {
    request(libc::PTRACE_SETREGS, tid, 0, (&raw const *registers).cast_mut().cast())
}

/// Offset of a debug register in `struct user`, for `PTRACE_PEEKUSER` and `PTRACE_POKEUSER`.
fn debug_register(number: usize) -> usize {
    std::mem::offset_of!(libc::user, u_debugreg) + number * size_of::<u64>()
}

/// Writes the debug registers. The addresses must be in the user half of the address space.
pub(crate) fn set_debug_registers(tid: i32, registers: &DebugRegisters) -> io::Result<()> {
    let set = |number, value| request(libc::PTRACE_POKEUSER, tid, debug_register(number), value as *mut c_void);
    set(CONTROL, 0)?;
    for (number, address) in registers.addresses.into_iter().enumerate() {
        set(number, address)?;
    }
    set(CONTROL, registers.control)
}

/// The debug status register (DR6), with the breakpoints of the last debug exception.
pub(crate) fn debug_status(tid: i32) -> io::Result<u64> {
    peek(libc::PTRACE_PEEKUSER, tid, debug_register(STATUS))
}

/// The `siginfo_t` of the signal that stopped the thread.
pub(crate) fn signal_info(tid: i32) -> io::Result<SignalInfo> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    request(libc::PTRACE_GETSIGINFO, tid, 0, info.as_mut_ptr().cast())?;
    // SAFETY: zeroed, then filled by the request; every bit pattern is a value of this type of integers. The fields read
    // through the accessor and at the offset lie inside its 128 bytes.
    unsafe {
        let info = info.assume_init();
        let syscall = (&raw const info).cast::<i32>().add(6).read();
        Ok(SignalInfo { code: info.si_code, address: info.si_addr() as u64, syscall })
    }
}

/// Whether the system call of the current stop was entered through the i386 interface.
pub(crate) fn is_i386_call(tid: i32) -> io::Result<bool> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    request(libc::PTRACE_GET_SYSCALL_INFO, tid, size_of::<libc::ptrace_syscall_info>(), info.as_mut_ptr().cast())?;
    // SAFETY: zeroed, then filled by the request; `arch` is an integer.
    Ok(unsafe { info.assume_init() }.arch == I386)
}

/// Reads the FPU state into `state`; returns its length.
pub(crate) fn fpu_state(tid: i32, state: &mut [u8]) -> io::Result<usize> {
    let mut area = libc::iovec { iov_base: state.as_mut_ptr().cast(), iov_len: state.len() };
    request(libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, (&raw mut area).cast())?;
    Ok(area.iov_len)
}

/// Writes the FPU state.
///
/// # Errors
/// The processor would not load it.
pub(crate) fn set_fpu_state(tid: i32, state: &[u8]) -> io::Result<()> {
    let mut area = libc::iovec { iov_base: state.as_ptr().cast_mut().cast(), iov_len: state.len() };
    request(libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, (&raw mut area).cast())
}

/// Reads a word of the thread's memory.
pub(crate) fn read_word(tid: i32, address: u64) -> io::Result<u64> {
    peek(libc::PTRACE_PEEKDATA, tid, address as usize)
}

fn wait_for(tid: i32, flags: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        if unsafe { libc::waitpid(tid, &mut status, flags) } == tid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Waits for the next stop of a thread that the calling thread traces.
pub(crate) fn wait(tid: i32) -> io::Result<Stop> {
    let status = wait_for(tid, libc::__WALL | libc::__WNOTHREAD)?;
    if !libc::WIFSTOPPED(status) {
        return Ok(Stop::Gone(status));
    }
    if status >> 16 == libc::PTRACE_EVENT_STOP {
        return Ok(Stop::Event);
    }
    let signal = libc::WSTOPSIG(status);
    Ok(if signal == libc::SIGTRAP | SYSCALL_MARK { Stop::Syscall } else { Stop::Signal(signal) })
}

/// Reaps a killed thread or process, after waiting for its end. The calling thread need not be its tracer.
pub(crate) fn reap(tid: i32) {
    while let Ok(status) = wait_for(tid, libc::__WALL) {
        if !libc::WIFSTOPPED(status) {
            return;
        }
    }
}

/// Like [`reap`], but does not wait. Returns whether the thread is gone.
pub(crate) fn is_gone(tid: i32) -> bool {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        match unsafe { libc::waitpid(tid, &mut status, libc::__WALL | libc::WNOHANG) } {
            0 => return false,
            -1 => return true,
            _ if libc::WIFSTOPPED(status) => (),
            _ => return true,
        }
    }
}

/// Sends a signal to one thread of a process (tgkill(2)). A thread that has ended is ignored.
pub(crate) fn signal_thread(pid: i32, tid: i32, signal: i32) {
    // SAFETY: touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}

/// Kills a process.
pub(crate) fn kill(pid: i32) {
    signal_thread(pid, pid, libc::SIGKILL);
}
