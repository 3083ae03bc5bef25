//! Host threads for tasks. After the end of its task, a host thread waits for another one: creating a host thread and a
//! platform context costs more than the work of most guest threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_abi::Errno;
use amber_host::processor;
use amber_platform::{HeapBatch, KernelPart};
use parking_lot::Condvar;

use super::clone::Start;
use super::{exit, run};
use crate::sync::{Mutex, Rank};

/// Stack size of the host threads in bytes. Only touched pages use memory.
const HOST_STACK: usize = 1 << 20;
/// Memory of a host thread in bytes: the touched part of its stack, and the host's kernel memory.
pub(crate) const STACK_COST: u64 = 56 << 10;
/// Maximum number of idle host threads …
const MOST_IDLE: usize = 16;
/// … and the time after which each of them ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A host thread that serves tasks.
#[derive(Default)]
pub(crate) struct Worker {
    command: parking_lot::Mutex<Command>,
    commanded: Condvar,
}

/// What a host thread does after its task has ended.
#[derive(Default)]
enum Command {
    /// End.
    #[default]
    End,
    /// Wait for a task.
    Wait,
    /// Serve this task.
    Serve(Box<Start>),
}

/// An idle host thread.
struct Idle {
    worker: Arc<Worker>,
    /// The address space that its context is attached to, if any, by [`MemoryManager::id`](crate::mm::MemoryManager::id).
    memory: Option<u64>,
    /// The host CPU that it ran on last.
    processor: Option<usize>,
}

/// The idle host threads, the most recent last.
pub(crate) struct ThreadPool {
    idle: Mutex<Vec<Idle>>,
}

impl Default for ThreadPool {
    fn default() -> Self {
        ThreadPool { idle: Mutex::new(Rank::Leaf, Vec::new()) }
    }
}

/// A host thread reserved for a task. If dropped unused, it is idle again.
pub(super) struct ReservedThread {
    pool: Arc<ThreadPool>,
    idle: Option<Idle>,
}

impl ReservedThread {
    fn serve(mut self, start: Start) {
        if let Some(idle) = self.idle.take() {
            *idle.worker.command.lock() = Command::Serve(Box::new(start));
            idle.worker.commanded.notify_one();
        }
    }
}

impl Drop for ReservedThread {
    fn drop(&mut self) {
        self.pool.idle.lock().extend(self.idle.take());
    }
}

impl ThreadPool {
    /// Reserves a host thread whose context is attached to the address space `memory`.
    pub(super) fn reserve_in(self: &Arc<Self>, memory: u64) -> Option<ReservedThread> {
        self.reserve(|idle| idle.memory == Some(memory))
    }

    /// Reserves the most recent host thread that fits, preferably on this host CPU.
    fn reserve(self: &Arc<Self>, fits: impl Fn(&Idle) -> bool) -> Option<ReservedThread> {
        let here = processor::current();
        let mut idle = self.idle.lock();
        let near = idle.iter().rposition(|one| fits(one) && one.processor == here);
        let at = near.or_else(|| idle.iter().rposition(&fits))?;
        Some(ReservedThread { pool: self.clone(), idle: Some(idle.remove(at)) })
    }

    /// Adds this host thread to the idle ones. Its context is attached to the address space `memory`, if to any.
    pub(super) fn offer(&self, worker: &Arc<Worker>, memory: Option<u64>) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            *worker.command.lock() = Command::Wait;
            idle.push(Idle { worker: worker.clone(), memory, processor: processor::current() });
        }
    }

    /// Ends the idle host threads, since there will be no more tasks.
    pub(crate) fn dismiss(&self) {
        for idle in std::mem::take(&mut *self.idle.lock()) {
            *idle.worker.command.lock() = Command::End;
            idle.worker.commanded.notify_one();
        }
    }

    /// Waits for the next task; none after the timeout.
    fn next(&self, worker: &Arc<Worker>) -> Option<Start> {
        let deadline = Instant::now() + IDLE_TIMEOUT;
        let mut command = worker.command.lock();
        loop {
            match std::mem::take(&mut *command) {
                Command::End => return None,
                Command::Serve(start) => return Some(*start),
                Command::Wait => *command = Command::Wait,
            }
            if worker.commanded.wait_until(&mut command, deadline).timed_out() {
                drop(command);
                let mut idle = self.idle.lock();
                let own = idle.iter().position(|other| Arc::ptr_eq(&other.worker, worker));
                let own = own.map(|at| idle.remove(at));
                drop(idle);
                if own.is_some() {
                    return None;
                }
                // Another thread has reserved this one, so a task will follow.
                command = worker.command.lock();
                while matches!(*command, Command::Wait) {
                    worker.commanded.wait(&mut command);
                }
            }
        }
    }
}

/// Starts a task on the host thread `reserved`, or on any other.
///
/// # Errors
/// `EAGAIN` if the host has no threads left; the task has then ended.
pub(super) fn start(start: Start, reserved: Option<ReservedThread>) -> Result<(), Errno> {
    let task = start.task.clone();
    let kernel = task.kernel();
    kernel.end.task_started();
    if let Some(reserved) = reserved.or_else(|| kernel.threads.reserve(|_| true)) {
        reserved.serve(start);
        return Ok(());
    }
    let thread = std::thread::Builder::new().name("amber-task".into()).stack_size(HOST_STACK);
    match thread.spawn(move || work(start)) {
        Ok(_) => Ok(()),
        Err(error) => {
            log::warn!("no host thread for a task: {error}");
            exit::abandon(&task);
            Err(Errno::EAGAIN.here())
        }
    }
}

/// The main function of a host thread, which runs one task after another.
fn work(first: Start) {
    let _batch = HeapBatch::begin();
    let _stack = first.task.kernel().mm.frames.charge(KernelPart::Stacks, STACK_COST);
    let pool = first.task.kernel().threads.clone();
    let worker = Arc::<Worker>::default();
    let mut context = None;
    let mut next = Some(first);
    while let Some(start) = next {
        context = run::run_task(start, context, &worker);
        next = pool.next(&worker);
    }
}
