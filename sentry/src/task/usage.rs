//! Resource usage of tasks: CPU time, faults, context switches.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

/// Amounts of resources used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time in guest code, in nanoseconds.
    pub user: u64,
    /// CPU time in the kernel for the task, in nanoseconds.
    pub system: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults that read a file.
    pub major_faults: u64,
    /// Number of waits.
    pub waits: u64,
    /// Number of calls that read.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Number of calls that wrote.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Peak of resident memory in bytes.
    pub peak_resident: u64,
}

impl Usage {
    /// The sum, with the maximum of the peaks.
    pub(crate) fn plus(self, other: Usage) -> Usage {
        Usage {
            user: self.user.saturating_add(other.user),
            system: self.system.saturating_add(other.system),
            minor_faults: self.minor_faults.saturating_add(other.minor_faults),
            major_faults: self.major_faults.saturating_add(other.major_faults),
            waits: self.waits.saturating_add(other.waits),
            reads: self.reads.saturating_add(other.reads),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            writes: self.writes.saturating_add(other.writes),
            written_bytes: self.written_bytes.saturating_add(other.written_bytes),
            peak_resident: self.peak_resident.max(other.peak_resident),
        }
    }
}

/// The present activity of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Activity {
    /// Guest code runs.
    Guest,
    /// The kernel runs for it.
    Kernel,
    /// An interruptible wait.
    Sleeping,
    /// A wait that only a kill interrupts.
    Uninterruptible,
    /// Stopped by a signal.
    Stopped,
    /// Ended, but not waited for.
    Zombie,
}

impl Activity {
    fn from_raw(raw: u8) -> Activity {
        let all = [Self::Guest, Self::Kernel, Self::Sleeping, Self::Uninterruptible, Self::Stopped, Self::Zombie];
        all.into_iter().find(|a| *a as u8 == raw).unwrap_or(Self::Zombie)
    }

    /// The state letter in `/proc/PID/stat`.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Guest | Self::Kernel => 'R',
            Self::Sleeping => 'S',
            Self::Uninterruptible => 'D',
            Self::Stopped => 'T',
            Self::Zombie => 'Z',
        }
    }

    /// The state name in `/proc/PID/status`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Guest | Self::Kernel => "running",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "disk sleep",
            Self::Stopped => "stopped",
            Self::Zombie => "zombie",
        }
    }
}

/// Nanoseconds since an arbitrary time before the first task.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The resource usage of one task, written by its own host thread and read by any.
///
/// CPU time is the time spent in activities that use a CPU, by the host's clock at each change of activity. This needs
/// no host call, but includes time in which the host ran something else.
#[derive(Debug)]
pub(crate) struct TaskStats {
    activity: AtomicU8,
    since: AtomicU64,
    user: AtomicU64,
    system: AtomicU64,
    minor_faults: AtomicU64,
    major_faults: AtomicU64,
    waits: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Default for TaskStats {
    fn default() -> Self {
        TaskStats {
            activity: AtomicU8::new(Activity::Kernel as u8),
            since: AtomicU64::new(now()),
            user: AtomicU64::new(0),
            system: AtomicU64::new(0),
            minor_faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }
}

impl TaskStats {
    /// The present activity.
    pub(crate) fn activity(&self) -> Activity {
        Activity::from_raw(self.activity.load(Ordering::Relaxed))
    }

    /// Starts another activity and returns the previous one.
    pub(crate) fn begin(&self, activity: Activity) -> Activity {
        let old = self.activity();
        let now = now();
        let spent = now.saturating_sub(self.since.swap(now, Ordering::Relaxed));
        match old {
            Activity::Guest => self.user.fetch_add(spent, Ordering::Relaxed),
            Activity::Kernel => self.system.fetch_add(spent, Ordering::Relaxed),
            _ => 0,
        };
        if matches!(activity, Activity::Sleeping | Activity::Uninterruptible | Activity::Stopped) {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        self.activity.store(activity as u8, Ordering::Relaxed);
        old
    }

    /// Counts a page fault.
    pub(crate) fn count_fault(&self, major: bool) {
        if major { &self.major_faults } else { &self.minor_faults }.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that read this number of bytes.
    pub(crate) fn count_read(&self, bytes: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a call that wrote this number of bytes.
    pub(crate) fn count_write(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The usage, without the peak of memory.
    pub(crate) fn read(&self) -> Usage {
        let running = now().saturating_sub(self.since.load(Ordering::Relaxed));
        let activity = self.activity();
        let part = |wanted| if activity == wanted { running } else { 0 };
        Usage {
            user: self.user.load(Ordering::Relaxed).saturating_add(part(Activity::Guest)),
            system: self.system.load(Ordering::Relaxed).saturating_add(part(Activity::Kernel)),
            minor_faults: self.minor_faults.load(Ordering::Relaxed),
            major_faults: self.major_faults.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            peak_resident: 0,
        }
    }
}
