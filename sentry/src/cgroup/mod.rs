//! The sandbox's control group: limits and usage of all its processes together (cgroups(7)).
//!
//! There is one group, with all processes. The host limits CPU time; the sentry limits memory and tasks.

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

pub(crate) use pause::Pause;

/// The group's entries in file systems.
pub(crate) static REGISTRATION: Registration = Registration {
    file_systems: &[FileSystemType { name: "cgroup2", make: files::make }],
    proc: proc::ENTRIES,
    process: proc::OF_PROCESS,
    ..Registration::EMPTY
};

/// No limit.
const MAX: u64 = u64::MAX;

/// Limits and usage.
pub(crate) struct ControlGroup {
    memory_limit: AtomicU64,
    memory_peak: AtomicU64,
    /// When this many bytes are claimed, the memory in use is counted again.
    next_look: AtomicU64,
    footprint: footprint::Footprint,
    /// How often memory was at its limit, how often reclaim failed then, and how many processes were killed.
    at_limit: AtomicU64,
    oom_events: AtomicU64,
    killed: AtomicU64,
    /// The next count of memory that can grow without a fault.
    watch: Mutex<Option<(u64, Alarm)>>,
    watcher: OnceLock<Arc<dyn Expire>>,
    oom: oom::Killer,
    tasks_limit: AtomicU64,
    tasks_peak: AtomicU64,
    tasks_refused: AtomicU64,
    cpu: Mutex<Option<CpuQuota>>,
    /// Usage of ended tasks.
    exited_usage: Mutex<TaskUsage>,
    /// Pauses the guest.
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

/// The usage of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in use in bytes: of processes, files in memory, cached files, and kernel memory.
    pub memory: u64,
    /// The highest memory usage seen.
    pub memory_peak: u64,
    /// The memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// The part of the memory that caches host files, which is evicted before a process is killed.
    pub cached: u64,
    /// The part of the memory that is kernel memory.
    pub kernel: KernelUsage,
    /// How often memory was at its limit.
    pub at_limit: u64,
    /// How often reclaim failed then.
    pub out_of_memory: u64,
    /// Number of processes killed for lack of memory.
    pub oom_kills: u64,
    /// Number of tasks.
    pub tasks: u64,
    /// The limit of tasks.
    pub tasks_limit: Option<u64>,
    /// How often that limit refused a task.
    pub tasks_refused: u64,
    /// CPU time in guest code, in nanoseconds.
    pub cpu_user: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub cpu_system: u64,
}

impl ControlGroup {
    /// Sets all limits.
    pub(crate) fn set_limits(&self, kernel: &Kernel, limits: &Limits) {
        let pages = |bytes: u64| (bytes / PAGE_SIZE).max(1) * PAGE_SIZE;
        self.memory_limit.store(limits.memory.map_or(MAX, pages), Ordering::Relaxed);
        self.tasks_limit.store(limits.tasks.unwrap_or(MAX), Ordering::Relaxed);
        *self.cpu.lock() = limits.cpu;
        self.memory_limit_changed(kernel);
    }

    /// The memory limit in bytes.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        Some(self.memory_limit.load(Ordering::Relaxed)).filter(|&limit| limit != MAX)
    }

    /// Total memory as the guest sees it.
    pub(crate) fn memory_shown(&self, kernel: &Kernel) -> u64 {
        self.memory_limit.load(Ordering::Relaxed).min(kernel.mm.frames.limit())
    }

    /// The limit of tasks.
    pub(crate) fn tasks_limit(&self) -> Option<u64> {
        Some(self.tasks_limit.load(Ordering::Relaxed)).filter(|&limit| limit != MAX)
    }

    /// Whether a task may be added to `present` ones.
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

    /// The CPU quota, which the host enforces.
    pub(crate) fn cpu_quota(&self) -> Option<CpuQuota> {
        *self.cpu.lock()
    }

    /// Adds the usage of an ended task.
    pub(crate) fn add_exited_usage(&self, usage: TaskUsage) {
        let mut spent = self.exited_usage.lock();
        *spent = spent.plus(usage);
    }

    /// Usage of all tasks, past and present.
    pub(crate) fn task_usage(&self, kernel: &Kernel) -> TaskUsage {
        let groups: Vec<_> = kernel.processes.lock().processes().map(|p| p.group.clone()).collect();
        let spent = *self.exited_usage.lock();
        let tasks = groups.iter().flat_map(|group| group.tasks());
        tasks.fold(spent, |sum, task| sum.plus(task.usage()))
    }

    /// The present usage.
    pub(crate) fn usage(&self, kernel: &Kernel) -> Usage {
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
