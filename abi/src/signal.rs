//! Signal numbers, sets of them, and how a program says what to do with one.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Signal {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: Self = Self($value);
            )*
        }

        /// The names of signals 1 to 64 in order.
        const NAMES: [&str; 64] = [
            $(stringify!($name),)*
            "SIGRTMIN", "SIGRT_1", "SIGRT_2", "SIGRT_3", "SIGRT_4", "SIGRT_5", "SIGRT_6", "SIGRT_7", "SIGRT_8",
            "SIGRT_9", "SIGRT_10", "SIGRT_11", "SIGRT_12", "SIGRT_13", "SIGRT_14", "SIGRT_15", "SIGRT_16", "SIGRT_17",
            "SIGRT_18", "SIGRT_19", "SIGRT_20", "SIGRT_21", "SIGRT_22", "SIGRT_23", "SIGRT_24", "SIGRT_25", "SIGRT_26",
            "SIGRT_27", "SIGRT_28", "SIGRT_29", "SIGRT_30", "SIGRT_31", "SIGRT_32",
        ];
    };
}

signals! {
    SIGHUP = 1, "The terminal hung up";
    SIGINT = 2, "Interrupt from the keyboard";
    SIGQUIT = 3, "Quit from the keyboard";
    SIGILL = 4, "Illegal instruction";
    SIGTRAP = 5, "Breakpoint or trace trap";
    SIGABRT = 6, "The program aborted itself";
    SIGBUS = 7, "Memory that exists but cannot be had";
    SIGFPE = 8, "Arithmetic exception";
    SIGKILL = 9, "Kill, which cannot be caught";
    SIGUSR1 = 10, "For the program's own use";
    SIGSEGV = 11, "Memory that may not be used so";
    SIGUSR2 = 12, "For the program's own use";
    SIGPIPE = 13, "Write to a pipe nobody reads";
    SIGALRM = 14, "The real-time interval timer ran out";
    SIGTERM = 15, "Polite request to end";
    SIGSTKFLT = 16, "Coprocessor stack fault; unused";
    SIGCHLD = 17, "A child ended, stopped or continued";
    SIGCONT = 18, "Continue if stopped";
    SIGSTOP = 19, "Stop, which cannot be caught";
    SIGTSTP = 20, "Stop from the keyboard";
    SIGTTIN = 21, "A background process read from the terminal";
    SIGTTOU = 22, "A background process wrote to the terminal";
    SIGURG = 23, "Urgent data on a socket";
    SIGXCPU = 24, "Processor time limit exceeded";
    SIGXFSZ = 25, "File size limit exceeded";
    SIGVTALRM = 26, "The user-time interval timer ran out";
    SIGPROF = 27, "The profiling interval timer ran out";
    SIGWINCH = 28, "The terminal changed its size";
    SIGIO = 29, "Input or output is possible";
    SIGPWR = 30, "Power failure";
    SIGSYS = 31, "A system call that is not allowed";
}

/// What a signal does to a process that neither handles nor ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// The process ends and dumps core.
    CoreDump,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
    /// The process continues if it was stopped.
    Continue,
}

impl Signal {
    /// The first real-time signal as the kernel counts (the C library keeps the first two for itself).
    pub const SIGRTMIN: Self = Self(32);
    /// The last signal.
    pub const SIGRTMAX: Self = Self(64);
    /// Linux's older name for `SIGIO`.
    pub const SIGPOLL: Self = Self::SIGIO;
    /// How many signals there are.
    pub const COUNT: usize = 64;

    /// The signal with this number, if it is one of 1 to 64.
    pub const fn from_raw(raw: i32) -> Option<Self> {
        if raw >= 1 && raw <= 64 { Some(Self(raw as u8)) } else { None }
    }

    /// The number.
    pub const fn raw(self) -> i32 {
        self.0 as i32
    }

    /// The number less one: the place of the signal in a table.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Linux's name, such as `SIGINT`; `SIGRTMIN` and `SIGRT_n` for the real-time ones.
    #[expect(clippy::indexing_slicing, reason = "a signal is a number from 1 to 64, and the table has 64 names")]
    pub const fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// Whether instances of the signal queue up instead of merging.
    pub const fn is_realtime(self) -> bool {
        self.0 >= Self::SIGRTMIN.0
    }

    /// What happens when the process has not said what should.
    pub const fn default_action(self) -> DefaultAction {
        match self {
            Self::SIGCHLD | Self::SIGURG | Self::SIGWINCH => DefaultAction::Ignore,
            Self::SIGCONT => DefaultAction::Continue,
            Self::SIGSTOP | Self::SIGTSTP | Self::SIGTTIN | Self::SIGTTOU => DefaultAction::Stop,
            Self::SIGQUIT
            | Self::SIGILL
            | Self::SIGTRAP
            | Self::SIGABRT
            | Self::SIGBUS
            | Self::SIGFPE
            | Self::SIGSEGV
            | Self::SIGXCPU
            | Self::SIGXFSZ
            | Self::SIGSYS => DefaultAction::CoreDump,
            _ => DefaultAction::Terminate,
        }
    }

    /// Every signal in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=64).map(Self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A signal number in an argument, which may be zero or no signal at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalNumber(pub i32);

impl SignalNumber {
    /// The signal, if the number is one.
    pub const fn signal(self) -> Option<Signal> {
        Signal::from_raw(self.0)
    }
}

impl crate::FromRegister for SignalNumber {
    fn from_register(value: u64) -> Self {
        Self(value as i32)
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal() {
            Some(signal) => f.write_str(signal.name()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A set of signals: the kernel's `sigset_t`, in which bit `n - 1` stands for signal `n`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// The two signals that can be neither blocked, caught nor ignored.
    pub const UNBLOCKABLE: Self = Self::of(&[Signal::SIGKILL, Signal::SIGSTOP]);
    /// The signals that stop a process by default.
    pub const STOPS: Self = Self::of(&[Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]);
    /// The signals an instruction can raise, which are delivered before all others.
    pub const SYNCHRONOUS: Self =
        Self::of(&[Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGFPE, Signal::SIGSYS]);

    /// The set of these signals.
    pub const fn of(signals: &[Signal]) -> Self {
        let (mut bits, mut rest) = (0, signals);
        while let [signal, others @ ..] = rest {
            bits |= 1 << signal.index();
            rest = others;
        }
        Self(bits)
    }

    /// Whether no signal is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many signals are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the signal is in the set.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << signal.index() != 0
    }

    /// Whether the sets share a signal.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Puts the signal in.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal.index();
    }

    /// Takes the signal out.
    pub const fn remove(&mut self, signal: Signal) {
        self.0 &= !(1 << signal.index());
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is not in the set.
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }

    /// The signal with the lowest number.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }

    /// The signals in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::all().filter(move |&signal| self.contains(signal))
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        let mut set = Self::EMPTY;
        signals.into_iter().for_each(|signal| set.insert(signal));
        set
    }
}

impl fmt::Display for SignalSet {
    /// `[INT CHLD]`, or `~[KILL STOP]` when most are in the set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tilde, shown) = if self.len() > 32 { ("~", self.complement()) } else { ("", *self) };
        write!(f, "{tilde}[")?;
        let mut space = "";
        for signal in shown.iter() {
            let name = signal.name();
            write!(f, "{space}{}", name.strip_prefix("SIG").unwrap_or(name))?;
            space = " ";
        }
        f.write_str("]")
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The handler value that asks for the default action.
pub const SIG_DFL: u64 = 0;
/// The handler value that asks to ignore the signal.
pub const SIG_IGN: u64 = 1;
/// The size in bytes every call demands for its `sigsetsize` argument.
pub const SIGSET_SIZE: usize = 8;

flags! {
    /// How a signal is handled: `sa_flags`.
    pub struct SaFlags: u64 {
        SA_NOCLDSTOP = 0x1,
        SA_NOCLDWAIT = 0x2,
        SA_SIGINFO = 0x4,
        SA_UNSUPPORTED = 0x400,
        SA_EXPOSE_TAGBITS = 0x800,
        SA_RESTORER = 0x4000000,
        SA_ONSTACK = 0x8000000,
        SA_RESTART = 0x10000000,
        SA_NODEFER = 0x40000000,
        SA_RESETHAND = 0x80000000,
    }
}

layout! {
    /// What `rt_sigaction` reads and writes: the kernel's `struct sigaction`.
    pub struct SigAction: 32 {
        /// [`SIG_DFL`], [`SIG_IGN`] or the address of the handler.
        sa_handler: u64,
        /// [`SaFlags`].
        sa_flags: u64,
        /// Where the handler returns to.
        sa_restorer: u64,
        sa_mask: SignalSet,
    }

    /// An alternate signal stack: `stack_t`.
    pub struct StackT: 24 {
        ss_sp: u64,
        /// [`SsFlags`].
        ss_flags: u32,
        _pad0: u32,
        ss_size: u64,
    }

    /// How a timer or message queue tells of itself: `struct sigevent`.
    pub struct SigEvent: 64 {
        sigev_value: u64,
        sigev_signo: i32,
        /// [`SigevNotify`].
        sigev_notify: i32,
        /// The thread to signal under `SIGEV_THREAD_ID`.
        sigev_notify_thread_id: i32,
        _pad0: [u32; 11],
    }
}

impl SigAction {
    /// The flags, unknown ones included.
    pub const fn flags(&self) -> SaFlags {
        SaFlags::from_bits_retain(self.sa_flags)
    }
}

flags! {
    /// The state of an alternate signal stack: `ss_flags`.
    pub struct SsFlags: u32 {
        SS_AUTODISARM = 0x80000000,
        SS_DISABLE = 0x2,
        SS_ONSTACK = 0x1,
    }
}

/// The smallest alternate stack `sigaltstack` accepts, in bytes.
pub const MINSIGSTKSZ: u64 = 2048;

named! {
    /// How `rt_sigprocmask` changes the mask.
    pub struct SigHow(i32) {
        SIG_BLOCK = 0,
        SIG_UNBLOCK = 1,
        SIG_SETMASK = 2,
    }
}

named! {
    /// `sigev_notify`.
    pub struct SigevNotify(i32) {
        SIGEV_SIGNAL = 0,
        SIGEV_NONE = 1,
        SIGEV_THREAD = 2,
        SIGEV_THREAD_ID = 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set: SignalSet = [Signal::SIGCHLD, Signal::SIGINT].into_iter().collect();
        assert_eq!(set.first(), Some(Signal::SIGINT));
        assert_eq!(set.to_string(), "[INT CHLD]");
        assert_eq!(SignalSet::UNBLOCKABLE.complement().to_string(), "~[KILL STOP]");
        assert_eq!(SignalSet::ALL.iter().count(), Signal::COUNT);
        assert_eq!(SignalSet::ALL.difference(set).len(), 62);
        assert_eq!(Signal::SIGRTMAX.name(), "SIGRT_32");
        assert!(Signal::from_raw(0).is_none() && Signal::from_raw(65).is_none());
        assert_eq!(Signal::SIGSYS.raw(), libc::SIGSYS);
        assert_eq!(size_of::<SigEvent>(), size_of::<libc::sigevent>());
    }
}
