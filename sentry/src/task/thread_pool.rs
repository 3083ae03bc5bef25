//! Host threads for tasks. One whose task has ended waits a while for the next: making a host thread, and a place for it to
//! run guest code, costs more than most guest threads do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amber_abi::Errno;
use amber_host::processor;
use amber_platform::{HeapBatch, KernelPart};
use parking_lot::Condvar;

use super::clone::Start;
use super::{exit, run};
use crate::sync::{Mutex, Rank};

/// Stack of the host threads of tasks, in bytes: only what is touched costs memory.
const HOST_STACK: usize = 1 << 20;
/// What a host thread takes in all: the touched part of its stack, and what the host's kernel has for it.
pub(crate) const STACK_COST: u64 = 56 << 10;
/// At most so many host threads wait for tasks …
const MOST_IDLE: usize = 16;
/// … each for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A host thread that serves tasks.
#[derive(Default)]
pub(crate) struct Worker {
    command: parking_lot::Mutex<Command>,
    commanded: Condvar,
}

/// What a host thread is to do when its task has ended.
#[derive(Default)]
enum Command {
    /// End as well.
    #[default]
    End,
    /// Wait for a task.
    Wait,
    /// Serve this task.
    Serve(Box<Start>),
}

/// A host thread without a task.
struct Idle {
    worker: Arc<Worker>,
    /// The address space its context rests in, by [`MemoryManager::id`](crate::mm::MemoryManager::id).
    memory: u64,
    /// The host's processor it is on.
    processor: Option<usize>,
}

/// The host threads without a task, the last to come last.
pub struct ThreadPool {
    idle: Mutex<Vec<Idle>>,
}

impl Default for ThreadPool {
    fn default() -> Self {
        ThreadPool { idle: Mutex::new(Rank::Leaf, Vec::new()) }
    }
}

/// A host thread that was reserved for a task; dropped without one, it waits on.
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
    /// Reserves a host thread whose context rests in the address space `memory`.
    pub(super) fn reserve_in(self: &Arc<Self>, memory: u64) -> Option<ReservedThread> {
        self.reserve(|idle| idle.memory == memory)
    }

    /// Reserves the last that fits, on this processor rather than on another.
    fn reserve(self: &Arc<Self>, fits: impl Fn(&Idle) -> bool) -> Option<ReservedThread> {
        let here = processor::current();
        let mut idle = self.idle.lock();
        let near = idle.iter().rposition(|one| fits(one) && one.processor == here);
        let at = near.or_else(|| idle.iter().rposition(&fits))?;
        Some(ReservedThread { pool: self.clone(), idle: Some(idle.remove(at)) })
    }

    /// Offers this host thread for other tasks, from now on; its context rests in the address space `memory`.
    pub(super) fn offer(&self, worker: &Arc<Worker>, memory: u64) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            *worker.command.lock() = Command::Wait;
            idle.push(Idle { worker: worker.clone(), memory, processor: processor::current() });
        }
    }

    /// Lets the host threads go that wait, since there will be no task any more.
    pub(crate) fn dismiss(&self) {
        for idle in std::mem::take(&mut *self.idle.lock()) {
            *idle.worker.command.lock() = Command::End;
            idle.worker.commanded.notify_one();
        }
    }

    /// Waits for the next task; none if there is none for long.
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
                // Reserved meanwhile: the task is on its way.
                command = worker.command.lock();
                while matches!(*command, Command::Wait) {
                    worker.commanded.wait(&mut command);
                }
            }
        }
    }
}

/// Starts a new task on the host thread `reserved` or, without one, on any.
///
/// # Errors
/// `EAGAIN` if the host has no more threads; the task has then ended again.
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

/// The life of a host thread: one task after the other.
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
