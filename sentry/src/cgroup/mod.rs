//! The control group that a sandbox is: what its processes may use together, and what they used (cgroups(7)).
//!
//! There is one, of which all processes are members. The host limits processor time; memory and tasks are limited here.

mod files;
mod footprint;
mod memory;
mod oom;
mod pause;
mod proc;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use amber_platform::{KernelUsage, PAGE_SIZE};

use crate::config::{CpuQuota, Limits};
use crate::fs::Registration;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::task::Usage as TaskUsage;
use crate::time::{Alarm, Expire};
use crate::vfs::types::FileSystemType;

pub use pause::Pause;

/// What file systems show of the group.
pub static REGISTRATION: Registration = Registration {
    file_systems: &[FileSystemType { name: "cgroup2", make: files::make }],
    proc: proc::ENTRIES,
    process: proc::OF_PROCESS,
    ..Registration::EMPTY
};

/// No limit.
const MAX: u64 = u64::MAX;

/// Limits, and what counts for them.
pub struct ControlGroup {
    memory_limit: AtomicU64,
    memory_peak: AtomicU64,
    /// Once so many bytes are claimed, those in use are counted again.
    next_look: AtomicU64,
    footprint: footprint::Footprint,
    /// How often memory was at its limit; how often nothing could be reclaimed then; how many processes were killed.
    at_limit: AtomicU64,
    oom_events: AtomicU64,
    killed: AtomicU64,
    /// The next look at memory that grows without a fault.
    watch: Mutex<Option<(u64, Alarm)>>,
    watcher: OnceLock<Arc<dyn Expire>>,
    oom: oom::Killer,
    tasks_limit: AtomicU64,
    tasks_peak: AtomicU64,
    tasks_refused: AtomicU64,
    cpu: Mutex<Option<CpuQuota>>,
    /// What ended tasks used.
    exited_usage: Mutex<TaskUsage>,
    /// Whether the guest is paused.
    pub pause: Pause,
}

impl Default for ControlGroup {
    fn default() -> Self {
        ControlGroup {
            memory_limit: AtomicU64::new(MAX),
            memory_peak: AtomicU64::new(0),
            next_look: AtomicU64::new(MAX),
            footprint: Default::default(),
            at_limit: AtomicU64::new(0),
            oom_events: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            watch: Mutex::new(Rank::Leaf, None),
            watcher: OnceLock::new(),
            oom: oom::Killer::default(),
            tasks_limit: AtomicU64::new(MAX),
            tasks_peak: AtomicU64::new(0),
            tasks_refused: AtomicU64::new(0),
            cpu: Mutex::new(Rank::Leaf, None),
            exited_usage: Mutex::new(Rank::Leaf, TaskUsage::default()),
            pause: Pause::default(),
        }
    }
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory now: of processes, files in memory, cached files and what the kernel keeps for them.
    pub memory: u64,
    /// The most that was seen at once.
    pub memory_peak: u64,
    /// The limit, if there is one.
    pub memory_limit: Option<u64>,
    /// The part of the memory that caches host files, and is given up before anything is killed.
    pub cached: u64,
    /// The part of the memory that is the kernel's.
    pub kernel: KernelUsage,
    /// How often memory was at its limit.
    pub at_limit: u64,
    /// How often nothing more could be given up then.
    pub out_of_memory: u64,
    /// Processes that were killed for it.
    pub oom_kills: u64,
    /// Tasks now.
    pub tasks: u64,
    /// The limit, if there is one.
    pub tasks_limit: Option<u64>,
    /// How often a task was refused for it.
    pub tasks_refused: u64,
    /// Processor time in the guest's own code, in nanoseconds.
    pub cpu_user: u64,
    /// Processor time in the kernel, in nanoseconds.
    pub cpu_system: u64,
}

impl ControlGroup {
    /// Sets all limits.
    pub fn set_limits(&self, kernel: &Kernel, limits: &Limits) {
        let pages = |bytes: u64| (bytes / PAGE_SIZE).max(1) * PAGE_SIZE;
        self.memory_limit.store(limits.memory.map_or(MAX, pages), Ordering::Relaxed);
        self.tasks_limit.store(limits.tasks.unwrap_or(MAX), Ordering::Relaxed);
        *self.cpu.lock() = limits.cpu;
        self.memory_limit_changed(kernel);
    }

    /// The most bytes of memory, if there is a limit.
    pub fn memory_limit(&self) -> Option<u64> {
        Some(self.memory_limit.load(Ordering::Relaxed)).filter(|&limit| limit != MAX)
    }

    /// The memory that the guest takes for all there is.
    pub fn memory_shown(&self, kernel: &Kernel) -> u64 {
        self.memory_limit.load(Ordering::Relaxed).min(kernel.mm.frames.limit())
    }

    /// The most tasks, if there is a limit.
    pub fn tasks_limit(&self) -> Option<u64> {
        Some(self.tasks_limit.load(Ordering::Relaxed)).filter(|&limit| limit != MAX)
    }

    /// Whether there may be one more task beside `present` ones.
    pub(crate) fn admits_task(&self, present: usize) -> bool {
        let after = present as u64 + 1;
        let admitted = after <= self.tasks_limit.load(Ordering::Relaxed);
        if admitted {
            self.tasks_peak.fetch_max(after, Ordering::Relaxed);
        } else {
            self.tasks_refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// The share of processor time that the host enforces.
    pub fn cpu_quota(&self) -> Option<CpuQuota> {
        *self.cpu.lock()
    }

    /// Counts what a task used that ends.
    pub(crate) fn add_exited_usage(&self, usage: TaskUsage) {
        let mut spent = self.exited_usage.lock();
        *spent = spent.plus(usage);
    }

    /// What all tasks used, past and present.
    pub fn task_usage(&self, kernel: &Kernel) -> TaskUsage {
        let groups: Vec<_> = kernel.processes.lock().processes().map(|p| p.group.clone()).collect();
        let spent = *self.exited_usage.lock();
        let tasks = groups.iter().flat_map(|group| group.tasks());
        tasks.fold(spent, |sum, task| sum.plus(task.usage()))
    }

    /// What is used.
    pub fn usage(&self, kernel: &Kernel) -> Usage {
        let spent = self.task_usage(kernel);
        kernel.network.inet.charge(true);
        let kernel_usage = kernel.mm.frames.kernel_usage();
        let memory = self.count_memory(kernel).max(kernel_usage.total());
        Usage {
            memory,
            memory_peak: self.memory_peak.load(Ordering::Relaxed),
            memory_limit: self.memory_limit(),
            cached: kernel.vfs.page_caches.held().min(memory.saturating_sub(kernel_usage.total())),
            kernel: kernel_usage,
            at_limit: self.at_limit.load(Ordering::Relaxed),
            out_of_memory: self.oom_events.load(Ordering::Relaxed),
            oom_kills: self.killed.load(Ordering::Relaxed),
            tasks: kernel.processes.lock().task_count() as u64,
            tasks_limit: self.tasks_limit(),
            tasks_refused: self.tasks_refused.load(Ordering::Relaxed),
            cpu_user: spent.user,
            cpu_system: spent.system,
        }
    }
}
