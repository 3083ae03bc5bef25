//! What a signal says about itself: `siginfo_t`, with a constructor for each kind.

use crate::{Signal, time::USER_HZ};

layout! {
    /// `siginfo_t`: a header, and fields that depend on the signal and its code.
    pub struct SigInfo: 128 {
        si_signo: i32,
        si_errno: i32,
        /// One of the `SI_`, `ILL_`, … codes of this module.
        si_code: i32,
        _pad0: u32,
        /// The union of the kinds; [`SigInfo::fields`] reads it.
        fields: [u64; 14],
    }

    /// What reading from a signalfd gives.
    pub struct SignalfdSiginfo: 128 {
        ssi_signo: u32,
        ssi_errno: i32,
        ssi_code: i32,
        ssi_pid: u32,
        ssi_uid: u32,
        ssi_fd: i32,
        ssi_tid: u32,
        ssi_band: u32,
        ssi_overrun: u32,
        ssi_trapno: u32,
        ssi_status: i32,
        ssi_int: i32,
        ssi_ptr: u64,
        ssi_utime: u64,
        ssi_stime: u64,
        ssi_addr: u64,
        ssi_addr_lsb: u16,
        _pad0: u16,
        ssi_syscall: i32,
        ssi_call_addr: u64,
        ssi_arch: u32,
        _pad1: [u8; 28],
    }
}

consts! { i32:
    SI_USER = 0,
    SI_KERNEL = 128,
    SI_QUEUE = -1,
    SI_TIMER = -2,
    SI_MESGQ = -3,
    SI_ASYNCIO = -4,
    SI_SIGIO = -5,
    SI_TKILL = -6,
    SI_DETHREAD = -7,
    SI_ASYNCNL = -60,
    ILL_ILLOPC = 1,
    ILL_ILLOPN = 2,
    ILL_ILLADR = 3,
    ILL_ILLTRP = 4,
    ILL_PRVOPC = 5,
    ILL_PRVREG = 6,
    ILL_COPROC = 7,
    ILL_BADSTK = 8,
    ILL_BADIADDR = 9,
    FPE_INTDIV = 1,
    FPE_INTOVF = 2,
    FPE_FLTDIV = 3,
    FPE_FLTOVF = 4,
    FPE_FLTUND = 5,
    FPE_FLTRES = 6,
    FPE_FLTINV = 7,
    FPE_FLTSUB = 8,
    FPE_FLTUNK = 14,
    FPE_CONDTRAP = 15,
    SEGV_MAPERR = 1,
    SEGV_ACCERR = 2,
    SEGV_BNDERR = 3,
    SEGV_PKUERR = 4,
    SEGV_ACCADI = 5,
    SEGV_ADIDERR = 6,
    SEGV_ADIPERR = 7,
    SEGV_MTEAERR = 8,
    SEGV_MTESERR = 9,
    SEGV_CPERR = 10,
    BUS_ADRALN = 1,
    BUS_ADRERR = 2,
    BUS_OBJERR = 3,
    BUS_MCEERR_AR = 4,
    BUS_MCEERR_AO = 5,
    TRAP_BRKPT = 1,
    TRAP_TRACE = 2,
    TRAP_BRANCH = 3,
    TRAP_HWBKPT = 4,
    TRAP_UNK = 5,
    TRAP_PERF = 6,
    CLD_EXITED = 1,
    CLD_KILLED = 2,
    CLD_DUMPED = 3,
    CLD_TRAPPED = 4,
    CLD_STOPPED = 5,
    CLD_CONTINUED = 6,
    POLL_IN = 1,
    POLL_OUT = 2,
    POLL_MSG = 3,
    POLL_ERR = 4,
    POLL_PRI = 5,
    POLL_HUP = 6,
    SYS_SECCOMP = 1,
    SYS_USER_DISPATCH = 2,
}

/// The fields of a [`SigInfo`], by the kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigInfoFields {
    /// A process sent it: `kill`, `tkill`, or the kernel on its behalf.
    Kill {
        /// Who sent it, as the receiver sees the sender.
        pid: i32,
        /// The sender's real user.
        uid: u32,
    },
    /// A POSIX timer ran out.
    Timer {
        /// The timer.
        id: i32,
        /// How many more times it ran out before the signal was taken.
        overrun: i32,
        /// What the program asked to be given.
        value: u64,
    },
    /// A process queued it with a value.
    Queue {
        /// Who sent it.
        pid: i32,
        /// The sender's real user.
        uid: u32,
        /// What the sender sent along.
        value: u64,
    },
    /// A child changed its state.
    Child {
        /// The child.
        pid: i32,
        /// The child's real user.
        uid: u32,
        /// The exit status, or the signal.
        status: i32,
        /// User time in ticks of a hundredth of a second.
        utime: i64,
        /// System time in ticks of a hundredth of a second.
        stime: i64,
    },
    /// An instruction failed.
    Fault {
        /// The address at fault.
        addr: u64,
    },
    /// A file is ready.
    Poll {
        /// The events.
        band: i64,
        /// The descriptor.
        fd: i32,
    },
    /// A system call was refused.
    Sys {
        /// The address after the call instruction.
        call_addr: u64,
        /// The call's number.
        syscall: i32,
        /// The architecture, as audit counts them.
        arch: u32,
    },
}

/// Two 32-bit fields that lie next to each other.
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    fn new(signal: Signal, code: i32, words: &[u64]) -> Self {
        let mut info = Self { si_signo: signal.raw(), si_code: code, ..Self::default() };
        info.fields.iter_mut().zip(words).for_each(|(field, word)| *field = *word);
        info
    }

    /// Sent by the kernel for a reason that needs no more words: `SI_KERNEL`.
    pub fn kernel(signal: Signal) -> Self {
        Self::new(signal, SI_KERNEL, &[])
    }

    /// Sent by a process; `code` is `SI_USER` (from `kill`) or `SI_TKILL` (from `tkill` and `tgkill`).
    pub fn kill(signal: Signal, code: i32, pid: i32, uid: u32) -> Self {
        Self::new(signal, code, &[pair(pid as u32, uid)])
    }

    /// Queued with a value; `code` is `SI_QUEUE` or `SI_MESGQ`.
    pub fn queue(signal: Signal, code: i32, pid: i32, uid: u32, value: u64) -> Self {
        Self::new(signal, code, &[pair(pid as u32, uid), value])
    }

    /// Sent by a POSIX timer.
    pub fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> Self {
        Self::new(signal, SI_TIMER, &[pair(id as u32, overrun as u32), value])
    }

    /// A child changed its state: `code` is one of the `CLD_` codes, times are in ticks of [`USER_HZ`].
    pub fn child(signal: Signal, code: i32, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> Self {
        const { assert!(USER_HZ == 100) };
        Self::new(signal, code, &[pair(pid as u32, uid), status as u32 as u64, utime as u64, stime as u64])
    }

    /// An instruction failed at, or because of, this address.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        Self::new(signal, code, &[addr])
    }

    /// A memory error (`BUS_MCEERR_*`): the least significant bit of the address that counts.
    pub fn fault_lsb(code: i32, addr: u64, addr_lsb: i16) -> Self {
        Self::new(Signal::SIGBUS, code, &[addr, addr_lsb as u16 as u64])
    }

    /// A pointer was outside its bounds (`SEGV_BNDERR`).
    pub fn fault_bounds(addr: u64, lower: u64, upper: u64) -> Self {
        Self::new(Signal::SIGSEGV, SEGV_BNDERR, &[addr, 0, lower, upper])
    }

    /// A protection key forbade the access (`SEGV_PKUERR`).
    pub fn fault_pkey(addr: u64, pkey: u32) -> Self {
        Self::new(Signal::SIGSEGV, SEGV_PKUERR, &[addr, 0, pkey as u64])
    }

    /// A file is ready: `code` is one of the `POLL_` codes.
    pub fn poll(signal: Signal, code: i32, band: i64, fd: i32) -> Self {
        Self::new(signal, code, &[band as u64, fd as u32 as u64])
    }

    /// A system call was refused; `errno` is what the filter said.
    pub fn sys(code: i32, call_addr: u64, syscall: i32, arch: u32, errno: i32) -> Self {
        let info = Self::new(Signal::SIGSYS, code, &[call_addr, pair(syscall as u32, arch)]);
        Self { si_errno: errno, ..info }
    }

    /// The signal, unless the number is none.
    pub const fn signal(&self) -> Option<Signal> {
        Signal::from_raw(self.si_signo)
    }

    /// The fields, by what the signal and its code say they are.
    pub fn fields(&self) -> SigInfoFields {
        let [first, second, utime, stime, ..] = self.fields;
        let (pid, uid) = (first as i32, (first >> 32) as u32);
        match (self.signal(), self.si_code) {
            (_, SI_TIMER) => SigInfoFields::Timer { id: pid, overrun: uid as i32, value: second },
            (_, SI_SIGIO) => SigInfoFields::Poll { band: first as i64, fd: second as i32 },
            (_, SI_USER | SI_KERNEL | SI_TKILL) => SigInfoFields::Kill { pid, uid },
            (_, code) if code < 0 => SigInfoFields::Queue { pid, uid, value: second },
            (Some(Signal::SIGCHLD), CLD_EXITED..=CLD_CONTINUED) => {
                let (utime, stime) = (utime as i64, stime as i64);
                SigInfoFields::Child { pid, uid, status: second as i32, utime, stime }
            }
            (Some(Signal::SIGILL | Signal::SIGFPE | Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGTRAP), _) => {
                SigInfoFields::Fault { addr: first }
            }
            (Some(Signal::SIGSYS), SYS_SECCOMP..=SYS_USER_DISPATCH) => {
                SigInfoFields::Sys { call_addr: first, syscall: second as i32, arch: (second >> 32) as u32 }
            }
            (_, POLL_IN..=POLL_HUP) => SigInfoFields::Poll { band: first as i64, fd: second as i32 },
            _ => SigInfoFields::Kill { pid, uid },
        }
    }

    /// The least significant bit that counts of a memory error's address.
    pub const fn addr_lsb(&self) -> i16 {
        self.fields[1] as i16
    }

    /// The same as a signalfd reader sees it.
    pub fn to_signalfd(&self) -> SignalfdSiginfo {
        let mut out = SignalfdSiginfo {
            ssi_signo: self.si_signo as u32,
            ssi_errno: self.si_errno,
            ssi_code: self.si_code,
            ..Default::default()
        };
        match self.fields() {
            SigInfoFields::Kill { pid, uid } => (out.ssi_pid, out.ssi_uid) = (pid as u32, uid),
            SigInfoFields::Timer { id, overrun, value } => {
                (out.ssi_tid, out.ssi_overrun) = (id as u32, overrun as u32);
                (out.ssi_ptr, out.ssi_int) = (value, value as i32);
            }
            SigInfoFields::Queue { pid, uid, value } => {
                (out.ssi_pid, out.ssi_uid) = (pid as u32, uid);
                (out.ssi_ptr, out.ssi_int) = (value, value as i32);
            }
            SigInfoFields::Child { pid, uid, status, utime, stime } => {
                (out.ssi_pid, out.ssi_uid, out.ssi_status) = (pid as u32, uid, status);
                (out.ssi_utime, out.ssi_stime) = (utime as u64, stime as u64);
            }
            SigInfoFields::Fault { addr } => {
                out.ssi_addr = addr;
                if matches!((self.signal(), self.si_code), (Some(Signal::SIGBUS), BUS_MCEERR_AR | BUS_MCEERR_AO)) {
                    out.ssi_addr_lsb = self.addr_lsb() as u16;
                }
            }
            SigInfoFields::Poll { band, fd } => (out.ssi_band, out.ssi_fd) = (band as u32, fd),
            SigInfoFields::Sys { call_addr, syscall, arch } => {
                (out.ssi_call_addr, out.ssi_syscall, out.ssi_arch) = (call_addr, syscall, arch);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let child = SigInfo::child(Signal::SIGCHLD, CLD_KILLED, -7, 1000, 9, 5, 6);
        assert_eq!(child.fields(), SigInfoFields::Child { pid: -7, uid: 1000, status: 9, utime: 5, stime: 6 });
        let queued = SigInfo::queue(Signal::SIGRTMIN, SI_QUEUE, 3, 4, 1 << 40 | 5);
        assert_eq!(queued.fields(), SigInfoFields::Queue { pid: 3, uid: 4, value: 1 << 40 | 5 });
        assert_eq!((queued.to_signalfd().ssi_int, queued.to_signalfd().ssi_pid), (5, 3));
        let fault = SigInfo::fault(Signal::SIGSEGV, SEGV_MAPERR, 0xdead_beef_0000);
        assert_eq!(fault.fields(), SigInfoFields::Fault { addr: 0xdead_beef_0000 });
        let sys = SigInfo::sys(SYS_SECCOMP, 0x1234, 39, 0xc000_003e, 2);
        assert_eq!(sys.fields(), SigInfoFields::Sys { call_addr: 0x1234, syscall: 39, arch: 0xc000_003e });
        assert_eq!(offset_of!(SigInfo, fields), 16);
        assert_eq!(size_of::<SigInfo>(), size_of::<libc::siginfo_t>());
        assert_eq!(size_of::<SignalfdSiginfo>(), size_of::<libc::signalfd_siginfo>());
        assert_eq!(offset_of!(SignalfdSiginfo, ssi_arch), offset_of!(libc::signalfd_siginfo, ssi_arch));
    }
}
